"""Frozen prior energies of HEAT: a Gaussian mixture with one covariance, and the energy of the classifier."""

from __future__ import annotations

__all__ = ["FREE", "ClassifierPrior", "GaussianPrior", "Prior", "free_proposals"]

import dataclasses
import functools
from typing import Protocol

import torch
from torch import Tensor

from featood.energies.sgld import Gradient
from featood.nets.linear import linear
from featood.numerics.gaussian import Whitening, log_density, logsumexp_weighted, squared_distances

SPREADS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Multiples of the random factor of a batch by which wide proposals scale deviations from the mean."""
FREE = ("normal", "uniform", "data")
"""Proposals that do not depend on a prior, see :func:`free_proposals`."""


class Prior(Protocol):
    """Frozen energy to which the residual energy is added."""

    def energy(self, rows: Tensor) -> Tensor:
        """Return energies ``[B]`` of rows ``[B, D]``."""

    def propose(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Gradient]:
        """Draw a start for each row ``[B, D]`` of a batch, and return it with the gradient that its chain follows."""


def free_proposals(kind: str, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many proposals as there are rows ``[B, D]``.

    ``normal``: standard normal. ``uniform``: uniform on [-2, 2]. ``data``: the rows themselves.
    """
    if kind == "data":
        return rows
    draw = torch.randn if kind == "normal" else torch.rand
    drawn = draw(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype)
    return drawn if kind == "normal" else 4 * drawn - 2


@dataclasses.dataclass(frozen=True)
class GaussianPrior:
    """``E(z) = -log sum_c pi_c N(z; mu_c, S)``, with all constants.

    Parameters
    ----------
    whitening : Whitening
        Whitening of S.
    means : Tensor
        Whitened class means ``[C, D]``.
    weights : Tensor
        Class frequencies ``[C]``.
    proposals : str
        ``prior`` for samples of the mixture. ``between``: the mean is a random point between those of two components.
        ``wide``: components are drawn by the class frequencies of the batch instead of `weights`, and each row's
        deviation from its mean is scaled by t / 100, t / 10, t, 10 t or 100 t, with one t ~ U(0, 100) per batch.
        One of `FREE`: independent of the mixture.
    simplified : bool
        Let each chain follow only the Gaussian of the component it was drawn from.
    """

    whitening: Whitening
    means: Tensor
    weights: Tensor
    proposals: str = "prior"
    simplified: bool = False

    def energy(self, rows: Tensor) -> Tensor:
        """Return energies ``[B]`` in float64."""
        squared = squared_distances(self.whitening(rows), self.means)
        return -logsumexp_weighted(
            log_density(squared, self.whitening.log_det, rows.shape[1]), self.weights.double()
        )

    @functools.cached_property
    def _precision(self) -> tuple[Tensor, Tensor]:
        """The inverse of S ``[D, D]``, and its products with the means, seen from the center, ``[C, D]``."""
        matrix = self.whitening.matrix.double()
        return (matrix @ matrix.T).to(self.means), (self.means.double() @ matrix.T).to(self.means)

    def gradient(self, rows: Tensor, components: Tensor | None = None) -> Tensor:
        """Return the gradient of the energy ``[B, D]``, or that of the Gaussian of each row's component ``[B]``.

        It takes one product with a matrix ``[D, D]``, half as many as differentiating the energy.
        """
        precision, pulls = self._precision
        rows = (rows - self.whitening.center).to(rows.dtype)
        if components is not None:
            return linear(rows, precision) - pulls[components]
        odds = linear(rows, pulls, self.weights.log() - 0.5 * self.means.square().sum(1))
        return linear(rows, precision) - odds.softmax(1) @ pulls

    def propose(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Gradient]:
        """Draw components first, then rows from their Gaussians."""
        if self.proposals in FREE:
            return free_proposals(self.proposals, rows, generator), self.gradient
        weights = self.weights
        if self.proposals == "wide":
            weights = torch.bincount(labels, minlength=len(weights)).to(self.means)
        components = torch.multinomial(weights, len(labels), replacement=True, generator=generator)
        shape = (len(labels), self.means.shape[1])
        deviations = torch.randn(shape, generator=generator, device=generator.device, dtype=self.means.dtype)
        if self.proposals == "wide":
            factor = 100 * torch.rand((), generator=generator, device=generator.device)
            picks = torch.randint(
                len(SPREADS), (len(labels), 1), generator=generator, device=generator.device
            )
            deviations *= factor * deviations.new_tensor(SPREADS)[picks]
        means = self.means[components]
        if self.proposals == "between":
            others = torch.multinomial(weights, len(labels), replacement=True, generator=generator)
            share = torch.rand((len(labels), 1), generator=generator, device=generator.device).to(means)
            means = torch.lerp(means, self.means[others], share)
        # rows @ matrix whitens, so the triangular solve inverts the whitening
        drawn = torch.linalg.solve_triangular(
            self.whitening.matrix, means + deviations, upper=True, left=False
        )
        drawn = drawn.contiguous() + self.whitening.center.to(drawn.dtype)  # the solver returns columns
        return drawn, functools.partial(self.gradient, components=components if self.simplified else None)


@dataclasses.dataclass(frozen=True)
class ClassifierPrior:
    """``E(z) = -logsumexp(W z + b)``.

    Parameters
    ----------
    weight, bias : Tensor
        ``[C, D]`` and ``[C]``.
    proposals : str
        One of `FREE`.
    """

    weight: Tensor
    bias: Tensor
    proposals: str = "normal"

    def energy(self, rows: Tensor) -> Tensor:
        """Return energies ``[B]``."""
        return -torch.addmm(self.bias, rows, self.weight.T).logsumexp(1)

    def gradient(self, rows: Tensor) -> Tensor:
        """Return the gradient of the energy ``[B, D]``."""
        return -linear(rows, self.weight, self.bias).softmax(1) @ self.weight

    def propose(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Gradient]:
        """Draw rows that do not depend on the classifier."""
        return free_proposals(self.proposals, rows, generator), self.gradient
