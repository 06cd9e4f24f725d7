"""Affine couplings of vectors, and the other layers of Glow."""

from __future__ import annotations

__all__ = ["ActNorm", "AffineCoupling", "InvertibleLinear", "glow", "realnvp"]

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.errors import UsageError
from featood.flows.density import FlowDensity
from featood.nets.initialise import seeded
from featood.nets.mlp import MLP


class AffineCoupling(nn.Module):
    """Scales and shifts one half of the features depending on the other half; initially the identity.

    Parameters
    ----------
    size : int
        Number of features.
    hidden : sequence of int
        Widths of the hidden layers of the network that computes scales and shifts.
    swap : bool
        If True, the first half is changed depending on the second, otherwise the second depending on the first.
    activation : str
        Activation of the network.
    generator : torch.Generator, optional
        Generator of the initial weights.

    Raises
    ------
    UsageError
        If there is only one feature.

    References
    ----------
    Dinh et al., Density Estimation Using Real NVP, ICLR 2017.
    """

    def __init__(
        self,
        size: int,
        hidden: Sequence[int],
        swap: bool,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if size < 2:
            raise UsageError("a coupling flow needs at least two features")
        self.swap = swap
        self.split = size // 2
        kept = size - self.split if swap else self.split
        self.network = MLP(kept, hidden, 2 * (size - kept), activation, generator)
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)
        self.bound = nn.Parameter(torch.ones(size - kept))

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` towards the base, with log-determinants ``[B]``."""
        kept, moved = self._halves(rows)
        log_scale, shift = self._affine(kept)
        return self._joined(kept, moved * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` back."""
        kept, moved = self._halves(latent)
        log_scale, shift = self._affine(kept)
        return self._joined(kept, (moved - shift) * (-log_scale).exp())

    def _affine(
        self, kept: Float[Tensor, "B kept"]
    ) -> tuple[Float[Tensor, "B moved"], Float[Tensor, "B moved"]]:
        raw, shift = self.network(kept).chunk(2, 1)
        return self.bound * torch.tanh(raw), shift

    def _halves(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B kept"], Float[Tensor, "B moved"]]:
        first, second = rows[:, : self.split], rows[:, self.split :]
        return (second, first) if self.swap else (first, second)

    def _joined(
        self, kept: Float[Tensor, "B kept"], moved: Float[Tensor, "B moved"]
    ) -> Float[Tensor, "B kept+moved"]:
        return torch.cat([moved, kept] if self.swap else [kept, moved], 1)


class ActNorm(nn.Module):
    """Scale and shift of each feature, initialised by `initialize` to standardise a batch."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.shift = nn.Parameter(torch.zeros(size))

    @torch.no_grad()
    def initialize(self, rows: Float[Tensor, "B D"]) -> None:
        """Standardise rows ``[B, D]`` to mean 0 and variance 1; a constant feature is only shifted."""
        deviation = rows.std(0, correction=0)
        self.log_scale.copy_(-torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)).log())
        self.shift.copy_(-rows.mean(0) * self.log_scale.exp())

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` towards the base, with log-determinants ``[B]``."""
        return rows * self.log_scale.exp() + self.shift, self.log_scale.sum().expand(len(rows))

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` back."""
        return (latent - self.shift) * (-self.log_scale).exp()


class InvertibleLinear(nn.Module):
    """A matrix given by its LU factors with a fixed permutation; initially a random rotation.

    References
    ----------
    Kingma and Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, NeurIPS 2018.
    """

    order: Int[Tensor, "D"]
    signs: Float[Tensor, "D"]

    def __init__(self, size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        with seeded(generator):
            rotation = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("order", permutation.argmax(1))
        self.register_buffer("signs", upper.diagonal().sign().float())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log().float())

    def factors(self) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]:
        """Return the triangular factors ``[D, D]``; the diagonal of the lower factor is 1."""
        eye = torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        diagonal = torch.diag(self.signs * self.log_diagonal.exp())
        return self.lower.tril(-1) + eye, self.upper.triu(1) + diagonal

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` towards the base, with log-determinants ``[B]``."""
        lower, upper = self.factors()
        return (rows @ upper.T @ lower.T)[:, self.order], self.log_diagonal.sum().expand(len(rows))

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` back, by triangular solves."""
        lower, upper = self.factors()
        columns = latent[:, self.order.argsort()].T
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, columns, upper=True).T


def realnvp(
    size: int,
    layers: int,
    hidden: Sequence[int],
    activation: str = "relu",
    generator: torch.Generator | None = None,
) -> FlowDensity:
    """Return a RealNVP: couplings that alternate between the halves."""
    swaps = [bool(layer % 2) for layer in range(layers)]
    return FlowDensity(size, [AffineCoupling(size, hidden, swap, activation, generator) for swap in swaps])


def glow(
    size: int,
    layers: int,
    hidden: Sequence[int],
    activation: str = "relu",
    generator: torch.Generator | None = None,
) -> FlowDensity:
    """Return a Glow for vectors: steps of normalisation, invertible matrix and coupling."""
    flows: list[nn.Module] = []
    for _ in range(layers):
        coupling = AffineCoupling(size, hidden, False, activation, generator)
        flows += [ActNorm(size), InvertibleLinear(size, generator), coupling]
    return FlowDensity(size, flows)
