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

    In training, the norm is estimated by power iterations that continue from step to step; in evaluation it is exact,
    and computed again only when the weights have changed.
    """

    direction: Float[Tensor, "size"]

    def __init__(self, size: int, outputs: int, bound: float) -> None:
        super().__init__()
        linear = nn.Linear(size, outputs)
        self.weight, self.bias = linear.weight, linear.bias
        self.bound = bound
        self.register_buffer("direction", F.normalize(torch.randn(size), dim=0))
        self._known: tuple[Tensor, Tensor] | None = None  # weights and their norm

    def matrix(self) -> Float[Tensor, "outputs size"]:
        """Return the scaled matrix ``[outputs, size]``."""
        if not self.training:
            norm = self._exact_norm()
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

    def _exact_norm(self) -> Float[Tensor, ""]:
        """Return the norm; that of an earlier pass, if the weights are the same and need no gradient."""
        weight = self.weight
        if torch.compiler.is_compiling() or (weight.requires_grad and torch.is_grad_enabled()):
            return _norm(weight)
        # values are compared because writing to weight.data leaves no other trace
        if self._known is None or not _same(self._known[0], weight):
            weight = weight.detach().clone()
            self._known = weight, _norm(weight)
        return self._known[1]


def _norm(weight: Float[Tensor, "outputs size"]) -> Float[Tensor, ""]:
    """Return the spectral norm, computed in float32 for types of 16 bits."""
    return torch.linalg.matrix_norm(weight.to(torch.promote_types(weight.dtype, torch.float32)), 2).to(weight)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
