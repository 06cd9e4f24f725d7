"""Free energies kept below a bound where rows are known, and above another where they are outliers."""

from __future__ import annotations

__all__ = ["bounded_energy", "energy_bounds"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.reductions import mean_over


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
    above, below = (energy - low).relu().square(), (high - energy).relu().square()
    return mean_over(above, labels >= 0) + mean_over(below, labels < 0)


def energy_bounds(
    energy: Float[Tensor, "B"], labels: Int[Tensor, "B"], share: float = 0.25
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Choose bounds by the energies as they are: bounds of the paper fit its networks alone.

    Parameters
    ----------
    energy, labels : Tensor
        ``[B]`` each, with known rows and outliers among them.
    share : float
        Share of each side that already is where it is to be.

    Returns
    -------
    low, high : Tensor
        The `share` quantile of the known rows' energies; and the ``1 - share`` quantile of the outliers' or of
        the known rows', whichever is higher, so that the bounds are apart even where the outliers lie lower.
    """
    known, outliers = energy[labels >= 0], energy[labels < 0]
    low, high = known.quantile(share), known.quantile(1 - share)
    return low, torch.maximum(high, outliers.quantile(1 - share))
