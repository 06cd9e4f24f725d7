"""Affine couplings, and the other layers of Glow, of vectors ``[B, D]`` and maps ``[B, C, H, W]``."""

from __future__ import annotations

__all__ = [
    "ActNorm", "AffineCoupling", "CheckerboardCoupling", "HalfCoupling", "InvertibleLinear", "MakeNetwork", "glow",
    "perceptron", "realnvp",
]  # fmt: skip

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.errors import UsageError
from featood.flows.density import FlowDensity
from featood.nets.initialise import seeded
from featood.nets.mlp import MLP


def _along_channels(values: Float[Tensor, "C"], rows: Float[Tensor, "B C *positions"]) -> Tensor:
    """Return values of features, or channels, in a shape that multiplies rows or maps."""
    return values.view(-1, *[1] * (rows.ndim - 2))


def _of_positions(log_det: Float[Tensor, ""], rows: Float[Tensor, "B C *positions"]) -> Float[Tensor, "B"]:
    """Return the log-determinants of a map that is applied at each position."""
    return (log_det * rows.shape[2:].numel()).expand(rows.shape[0])


MakeNetwork = Callable[[int, int], nn.Sequential]
"""From the numbers of inputs and outputs to a network whose last module is linear."""


class AffineCoupling(nn.Module):
    """Scales and shifts a part of the features depending on the other part; initially the identity.

    A subclass divides features into parts.

    Parameters
    ----------
    kept, moved : int
        Number of features, or channels, of the two parts.
    network : callable
        Makes the network that computes raw scales and shifts of the moved part from the kept part.
    swap : bool
        Whether the parts are exchanged.

    References
    ----------
    Dinh et al., Density Estimation Using Real NVP, ICLR 2017.
    """

    def __init__(self, kept: int, moved: int, network: MakeNetwork, swap: bool) -> None:
        super().__init__()
        self.swap = swap
        self.network = network(kept, 2 * moved)
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)
        self.bound = nn.Parameter(torch.ones(moved))

    def forward(
        self, rows: Float[Tensor, "B *shape"]
    ) -> tuple[Float[Tensor, "B *shape"], Float[Tensor, "B"]]:
        """Map rows towards the base, with log-determinants ``[B]``."""
        kept, moved = self._halves(rows)
        log_scale, shift = self._affine(kept)
        return self._joined(kept, moved * log_scale.exp() + shift), log_scale.flatten(1).sum(1)

    def inverse(self, latent: Float[Tensor, "B *shape"]) -> Float[Tensor, "B *shape"]:
        """Map points back."""
        kept, moved = self._halves(latent)
        log_scale, shift = self._affine(kept)
        return self._joined(kept, (moved - shift) * (-log_scale).exp())

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(kept).chunk(2, 1)
        return _along_channels(self.bound, raw) * torch.tanh(raw), shift

    def _halves(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the kept and the moved part."""
        raise NotImplementedError

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        raise NotImplementedError


class HalfCoupling(AffineCoupling):
    """A coupling of the halves of the features of ``[B, D]``, or of the channels of ``[B, C, H, W]``.

    Parameters
    ----------
    size : int
        Number of features or channels.
    network : callable
        See :class:`AffineCoupling`.
    swap : bool
        If True, the first half is changed depending on the second, otherwise the second depending on the first.

    Raises
    ------
    UsageError
        If there is only one feature.
    """

    def __init__(self, size: int, network: MakeNetwork, swap: bool = False) -> None:
        if size < 2:
            raise UsageError("a coupling flow needs at least two features")
        self.split = size // 2
        kept = size - self.split if swap else self.split
        super().__init__(kept, size - kept, network, swap)

    def _halves(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        first, second = rows[:, : self.split], rows[:, self.split :]
        return (second, first) if self.swap else (first, second)

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, kept] if self.swap else [kept, moved], 1)


class CheckerboardCoupling(AffineCoupling):
    """A coupling of the fields of a checkerboard, over all channels of maps ``[B, C, H, W]``.

    Parameters
    ----------
    shape : (int, int, int)
        ``(C, H, W)``.
    network : callable
        See :class:`AffineCoupling`; it gets maps in which the moved fields are zero.
    swap : bool
        Whether the first field is moved, otherwise its neighbours.
    """

    moves: Float[Tensor, "1 H W"]

    def __init__(self, shape: tuple[int, int, int], network: MakeNetwork, swap: bool = False) -> None:
        channels, height, width = shape
        super().__init__(channels, channels, network, swap)
        fields = torch.arange(height)[:, None] + torch.arange(width)
        self.register_buffer("moves", ((fields + swap) % 2).float()[None], persistent=False)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = super()._affine(kept)
        return log_scale * self.moves, shift * self.moves

    def _halves(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        moved = rows * self.moves
        return rows - moved, moved

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return kept + moved


class ActNorm(nn.Module):
    """Scale and shift of each feature, or channel of maps, initialised by `initialize` to standardise a batch."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.shift = nn.Parameter(torch.zeros(size))

    @torch.no_grad()
    def initialize(self, rows: Float[Tensor, "B D *positions"]) -> None:
        """Standardise rows to mean 0 and variance 1; a constant feature is only shifted."""
        rows = rows.movedim(1, -1).flatten(0, -2)
        deviation = rows.std(0, correction=0)
        self.log_scale.copy_(-torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)).log())
        self.shift.copy_(-rows.mean(0) * self.log_scale.exp())

    def forward(
        self, rows: Float[Tensor, "B D *positions"]
    ) -> tuple[Float[Tensor, "B D *positions"], Float[Tensor, "B"]]:
        """Map rows towards the base, with log-determinants ``[B]``."""
        scale, shift = (_along_channels(values, rows) for values in (self.log_scale.exp(), self.shift))
        return rows * scale + shift, _of_positions(self.log_scale.sum(), rows)

    def inverse(self, latent: Float[Tensor, "B D *positions"]) -> Float[Tensor, "B D *positions"]:
        """Map points back."""
        scale, shift = (_along_channels(values, latent) for values in ((-self.log_scale).exp(), self.shift))
        return (latent - shift) * scale


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

    def forward(
        self, rows: Float[Tensor, "B D *positions"]
    ) -> tuple[Float[Tensor, "B D *positions"], Float[Tensor, "B"]]:
        """Map rows towards the base, with log-determinants ``[B]``."""
        lower, upper = self.factors()
        image = (rows.movedim(1, -1) @ upper.T @ lower.T)[..., self.order]
        return image.movedim(-1, 1), _of_positions(self.log_diagonal.sum(), rows)

    def inverse(self, latent: Float[Tensor, "B D *positions"]) -> Float[Tensor, "B D *positions"]:
        """Map points back, by triangular solves."""
        lower, upper = self.factors()
        points = latent.movedim(1, -1)
        columns = points.flatten(0, -2)[:, self.order.argsort()].T
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return columns.T.reshape(points.shape).movedim(-1, 1)


def perceptron(
    hidden: Sequence[int], activation: str = "relu", generator: torch.Generator | None = None
) -> MakeNetwork:
    """Return a maker of the networks of couplings of vectors, with these hidden widths."""
    return lambda inputs, outputs: MLP(inputs, hidden, outputs, activation, generator)


def realnvp(
    size: int,
    layers: int,
    hidden: Sequence[int],
    activation: str = "relu",
    generator: torch.Generator | None = None,
) -> FlowDensity:
    """Return a RealNVP: couplings that alternate between the halves."""
    network = perceptron(hidden, activation, generator)
    return FlowDensity(size, [HalfCoupling(size, network, bool(layer % 2)) for layer in range(layers)])


def glow(
    size: int,
    layers: int,
    hidden: Sequence[int],
    activation: str = "relu",
    generator: torch.Generator | None = None,
) -> FlowDensity:
    """Return a Glow for vectors: steps of normalisation, invertible matrix and coupling."""
    network = perceptron(hidden, activation, generator)
    flows: list[nn.Module] = []
    for _ in range(layers):
        coupling = HalfCoupling(size, network)
        flows += [ActNorm(size), InvertibleLinear(size, generator), coupling]
    return FlowDensity(size, flows)
