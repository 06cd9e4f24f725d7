"""Loss that keeps free energies of known rows below a bound, and those of outliers above another."""

from __future__ import annotations

__all__ = ["bounded_energy", "energy_bounds", "energy_penalties"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.reductions import mean_over


def energy_penalties(
    energy: Float[Tensor, "B"],
    labels: Int[Tensor, "B"],
    low: Float[Tensor, ""] | float,
    high: Float[Tensor, ""] | float,
) -> Float[Tensor, "B"]:
    """``max(E - low, 0)^2`` of each known row, and ``max(high - E, 0)^2`` of each outlier ``[B]``."""
    return torch.where(labels < 0, high - energy, energy - low).relu().square()


def bounded_energy(
    energy: Float[Tensor, "B"],
    labels: Int[Tensor, "B"],
    low: Float[Tensor, ""] | float,
    high: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Return ``mean max(E - low, 0)^2`` over known rows plus ``mean max(high - E, 0)^2`` over outliers.

    Parameters
    ----------
    energy, labels : Tensor
        ``[B]`` each; a negative label marks an outlier.
    low, high : float or scalar Tensor
        The bounds (m_in and m_out of the paper).

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020.
    """
    penalties = energy_penalties(energy, labels, low, high)
    return mean_over(penalties, labels >= 0) + mean_over(penalties, labels < 0)


def energy_bounds(
    energy: Float[Tensor, "B"], labels: Int[Tensor, "B"], share: float = 0.25
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Choose the bounds from the current energies, as the bounds of the paper are specific to its networks.

    Parameters
    ----------
    energy, labels : Tensor
        ``[B]`` each, of known rows and outliers.
    share : float
        Share of each side that already satisfies its bound.

    Returns
    -------
    low, high : Tensor
        The `share` quantile of the energies of known rows, and the larger of the ``1 - share`` quantiles of outliers
        and known rows, so that ``high > low`` even if the energies of outliers are lower.
    """
    known, outliers = energy[labels >= 0], energy[labels < 0]
    low, high = known.quantile(share), known.quantile(1 - share)
    return low, torch.maximum(high, outliers.quantile(1 - share))
