"""Decisions on a batch of rows, or by several heads, from p-values."""

from __future__ import annotations

__all__ = ["COMBINATIONS", "combined_p_values", "discoveries", "false_discovery_bound"]

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy import special

from featood.decisions.checks import check_rate
from featood.errors import DataError, UsageError

GRID = 64
"""Number of thresholds for which a bound holds at once."""


def discoveries(p: ArrayLike, false_share: float = 0.1) -> Bool[np.ndarray, "M"]:
    """Return which rows of a batch to flag, such that few of the flagged ones are in-distribution on average.

    The procedure of Benjamini and Hochberg keeps the expected share of in-distribution rows among the flagged ones (the
    false-discovery rate) at or below `false_share`. Conformal p-values of one calibration set depend on each other in a
    way that it allows (Bates et al., 2023).

    Parameters
    ----------
    p : array of shape [M]
        P-values of the batch, such as those of :func:`~featood.decisions.p_values`. With N calibration rows, none is
        below ``1 / (N + 1)``, so a batch of M rows with one outlier needs ``N >= M / false_share``.
    false_share : float
        In (0, 1).

    References
    ----------
    Benjamini and Hochberg, Controlling the False Discovery Rate, JRSS B 1995.
    """
    check_rate(false_share, "the share of false discoveries")
    values = _checked(p, 1)
    return scipy.stats.false_discovery_control(values) <= false_share if len(values) else np.zeros(0, bool)


def false_discovery_bound(
    p: ArrayLike, flagged: Bool[np.ndarray, "M"], rows: int, confidence: float = 0.95
) -> int:
    """Return how many of the flagged rows of a batch are in-distribution at most.

    The bound holds with a probability of `confidence` over the draw of calibration set and batch, for every choice of
    flagged rows at once, so they may be chosen after looking at the p-values. The number of in-distribution rows above
    the k-th highest calibration score has a beta-binomial law; the bound is a union over 64 values of k.

    Parameters
    ----------
    p : array of shape [M]
        P-values of the batch, as :func:`~featood.decisions.p_values` returns them, without a generator.
    flagged : array of shape [M]
        Which rows are flagged.
    rows : int
        Number of calibration rows.
    confidence : float
        In (0, 1).

    References
    ----------
    Laws of the counts: Marques, Universal Distribution of the Empirical Coverage in Split Conformal Prediction, 2025;
    bounds after the choice: Goeman and Solari, Multiple Testing for Exploratory Research, Statistical Science 2011.

    Example
    -------
    >>> p = np.array([0.001] * 20 + [0.5] * 80)
    >>> false_discovery_bound(p, p < 0.01, rows=999)
    2
    """
    check_rate(confidence, "the confidence")
    values = _checked(p, 1)
    chosen = np.asarray(flagged, bool)
    if chosen.shape != values.shape:
        raise DataError(f"{len(values)} p-values need as many decisions, not {list(chosen.shape)}")
    ranks = np.unique(np.geomspace(1, rows, GRID).round().astype(int))
    counts = np.arange(len(values) + 1)
    # log P(V = v), V in-distribution rows above the k-th highest calibration score
    log_law = _log_choose(len(values), counts) + (
        special.betaln(counts + ranks[:, None], len(values) - counts + rows + 1 - ranks[:, None])
        - special.betaln(ranks, rows + 1 - ranks)[:, None]
    )
    above = 1 - np.exp(log_law).cumsum(1)
    limits = (above > (1 - confidence) / len(ranks)).sum(1)
    own = np.sort(values[chosen])
    further = len(own) - np.searchsorted(own, (ranks + 0.5) / (rows + 1))
    return int(min((limits + further).min(), len(own)))


def combined_p_values(p: ArrayLike, how: str = "mean") -> Float[np.ndarray, "M"]:
    """Return one p-value for each row from those of several heads, valid however the heads depend on each other.

    Parameters
    ----------
    p : array of shape [M, H]
        P-values of each head.
    how : str
        ``mean``: twice the mean; ``bonferroni``: the number of heads times the smallest; ``cauchy``: the Cauchy
        combination, which is more powerful, and valid for small p-values only, under further conditions.

    References
    ----------
    Vovk and Wang, Combining p-values via averaging, Biometrika 2020; Liu and Xie, Cauchy Combination Test, JASA 2020.
    """
    if how not in COMBINATIONS:
        raise UsageError(f"no combination of p-values is named {how!r}; there are {', '.join(COMBINATIONS)}")
    return np.minimum(COMBINATIONS[how](_checked(p, 2)), 1.0)


def _log_choose(count: int, chosen: np.ndarray) -> np.ndarray:
    return -np.log(count + 1) - special.betaln(chosen + 1, count - chosen + 1)


def _cauchy(p: np.ndarray) -> np.ndarray:
    # the tangent is finite at both ends in floating point, and huge, as it should be
    return scipy.stats.cauchy.sf(np.tan((0.5 - p) * np.pi).mean(1))


COMBINATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda p: 2 * p.mean(1),
    "bonferroni": lambda p: p.shape[1] * p.min(1),
    "cauchy": _cauchy,
}
"""By name."""


def _checked(p: ArrayLike, axes: int) -> np.ndarray:
    values = np.asarray(p, np.float64)
    if values.ndim != axes:
        raise DataError(f"p-values must be an array with {axes} axes, got {list(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("p-values must be in [0, 1]")
    return values
