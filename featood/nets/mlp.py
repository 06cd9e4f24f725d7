"""A multilayer perceptron for energies and densities of feature vectors."""

from __future__ import annotations

__all__ = ["ACTIVATIONS", "MLP", "NegativeLinear"]

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import seeded
from featood.nets.linear import Linear, linear
from featood.nets.lipschitz import LipschitzLinear

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
NON_NEGATIVE = ("relu", "softplus")


class NegativeLinear(nn.Linear):
    """A linear layer with weights ``-exp(w)``, so outputs do not increase along any ray of non-negative inputs."""

    def reset_parameters(self) -> None:
        """Initialise with weights of about ``-1 / in_features``."""
        nn.init.normal_(self.weight, -math.log(self.in_features), 0.5)
        nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "B {self.in_features}"]) -> Float[Tensor, "B {self.out_features}"]:
        """Map ``[B, in_features]`` to ``[B, out_features]``."""
        return linear(input, -self.weight.exp(), self.bias)


class MLP(nn.Sequential):
    """Linear layers with activations between them, mapping ``[B, in_features]`` to ``[B, out_features]``.

    Parameters
    ----------
    in_features
        Width of the input.
    hidden
        Widths of the hidden layers; if empty, the map is linear.
    out_features
        Width of the output.
    activation
        A key of :data:`ACTIVATIONS`. The leaky rectifier has slope 0.2, as is usual for energy functions.
    generator
        Source of the initial weights; ``None`` is seed 0.
    lipschitz
        Largest spectral norm of each hidden layer and of the last; 0 for no bound.
    negative
        Use a :class:`NegativeLinear` as last layer, so that logits decrease without bound far from the data.

    Raises
    ------
    UsageError
        If the activation is unknown or a width is below one, or if `negative` is used without a hidden layer or with an
        activation that can be negative.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: str = "leaky_relu",
        generator: torch.Generator | None = None,
        lipschitz: float = 0.0,
        negative: bool = False,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise UsageError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        widths = [in_features, *hidden, out_features]
        if min(widths) < 1:
            raise UsageError(f"the layers of an MLP need at least one unit each, got {widths}")
        if negative and (activation not in NON_NEGATIVE or not hidden):
            raise UsageError(
                f"a negative last layer needs a hidden layer before it and the activation "
                f"{' or '.join(NON_NEGATIVE)}, not {activation}"
            )
        layers: list[nn.Module] = []
        with seeded(generator):
            for before, after in pairwise(widths):
                linear = LipschitzLinear(before, after, lipschitz) if lipschitz else Linear(before, after)
                layers += [linear, ACTIVATIONS[activation]()]
            if negative:
                layers[-2] = NegativeLinear(widths[-2], widths[-1])
        super().__init__(*layers[:-1])
