"""Linear layers with a bounded Lipschitz constant."""

from __future__ import annotations

__all__ = ["LipschitzLinear"]

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.linear import linear

POWER_ITERATIONS = 5


class LipschitzLinear(nn.Module):
    """A linear layer whose matrix is scaled such that its spectral norm is at most a bound.

    In training, the norm is estimated by power iterations that continue from step to step; in evaluation it is exact.
    """

    direction: Float[Tensor, "size"]

    def __init__(self, size: int, outputs: int, bound: float) -> None:
        super().__init__()
        linear = nn.Linear(size, outputs)
        self.weight, self.bias = linear.weight, linear.bias
        self.bound = bound
        self.register_buffer("direction", F.normalize(torch.randn(size), dim=0))

    def matrix(self) -> Float[Tensor, "outputs size"]:
        """Return the scaled matrix ``[outputs, size]``."""
        if not self.training:
            norm = torch.linalg.matrix_norm(self.weight, 2)
        else:
            with torch.no_grad():
                for _ in range(POWER_ITERATIONS):
                    image = F.normalize(self.weight @ self.direction, dim=0)
                    self.direction.copy_(F.normalize(self.weight.T @ image, dim=0))
            norm = (self.weight @ self.direction.clone()).norm()
        return self.weight / (norm / self.bound).clamp(min=1)

    def forward(self, rows: Float[Tensor, "B size"]) -> Float[Tensor, "B outputs"]:
        """Map rows ``[B, size]`` to ``[B, outputs]``."""
        return linear(rows, self.matrix(), self.bias)
