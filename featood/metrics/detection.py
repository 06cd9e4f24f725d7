"""Metrics of the separation of OOD and ID rows by a score: AUROC, AUPR, both kinds of FPR95, detection error, AUTC.

A higher score means more out-of-distribution. A threshold `t` *accepts* the rows with score <= t as ID and *flags*
the rows with score >= t as OOD.
"""

from __future__ import annotations

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "aupr_in",
    "aupr_out",
    "auroc",
    "autc",
    "best_of",
    "detection_error",
    "detection_metrics",
    "fpr_at_tpr_id",
    "fpr_at_tpr_ood",
    "roc_curve",
    "trapezoidal_aupr",
]

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from featood.errors import UsageError
from featood.metrics.counts import ScoreCounts, count_scores

Key = TypeVar("Key")


def auroc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Area under the ROC curve: P(ood > id) + P(ood = id) / 2.

    Computed from integer counts, so ties count exactly one half, and constant scores give 0.5.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Scores of the ID and OOD rows, higher = more out-of-distribution; may be infinite.

    Returns
    -------
    float
        Between 0 and 1, higher is better.

    Raises
    ------
    DataError
        If either side is empty or contains NaN. All metrics of this module have the same arguments and errors.
    """
    return float(_auroc(count_scores(id_scores, ood_scores)))


def aupr_in(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Average precision with ID as the positive class; rows with lower scores rank first.

    The step-wise sum of scikit-learn's `average_precision_score`, not the trapezoidal area. Higher is better; a random
    score gives the share of ID among all rows.
    """
    return float(_aupr_in(count_scores(id_scores, ood_scores)))


def aupr_out(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Average precision with OOD as the positive class; otherwise as `aupr_in`."""
    return float(_aupr_in(count_scores(id_scores, ood_scores).mirrored))


def trapezoidal_aupr(id_scores: ArrayLike, ood_scores: ArrayLike) -> tuple[float, float]:
    """Areas below the precision-recall curves by the trapezoidal rule, with ID and with OOD as the positive class.

    The AUPR of OpenOOD, ``auc(recall, precision)`` of scikit-learn. It interpolates precision linearly, which is too
    optimistic (Davis & Goadrich, 2006); `aupr_in` and `aupr_out` do not interpolate.
    """
    counts = count_scores(id_scores, ood_scores)
    return _trapezoidal_aupr_in(counts), _trapezoidal_aupr_in(counts.mirrored)


def fpr_at_tpr_id(id_scores: ArrayLike, ood_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Share of OOD accepted at the smallest threshold that accepts at least `tpr` of ID.

    At 0.95 this is `fpr95`, the FPR95 of most papers (ODIN, energy, ViM, KNN, HEAT). Lower is better.

    Raises
    ------
    UsageError
        If `tpr` is not in (0, 1].
    """
    return float(_fpr_at_tpr(count_scores(id_scores, ood_scores), tpr))


def fpr_at_tpr_ood(id_scores: ArrayLike, ood_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Share of ID flagged at the largest threshold that flags at least `tpr` of OOD.

    At 0.95 this is `fpr95_ood`, the FPR95 of pytorch-ood and OpenOOD. Lower is better.

    Raises
    ------
    UsageError
        If `tpr` is not in (0, 1].
    """
    return float(_fpr_at_tpr(count_scores(id_scores, ood_scores).mirrored, tpr))


def detection_error(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Smallest mean of both error rates over all thresholds, min_t (FNR + FPR) / 2.

    Between 0 and 0.5, lower is better; ID and OOD have equal weight, whatever their numbers of rows.
    """
    return float(_detection_error(count_scores(id_scores, ood_scores)))


def autc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Area under the threshold curve (Humblot-Renaux et al., 2023, "Beyond AUROC & co."), lower is better.

    The scores of ID and OOD together are scaled to [0, 1]; the result is the mean of the areas under FPR(t) and
    FNR(t). Both are step functions with the exact areas mean(id) and 1 - mean(ood). Infinite scores are clamped to the
    finite range; if all finite scores are equal, the result is 0.5.
    """
    return float(_autc(count_scores(id_scores, ood_scores)))


def detection_metrics(id_scores: ArrayLike, ood_scores: ArrayLike) -> dict[str, float]:
    """Compute all detection metrics from one sort.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.

    Returns
    -------
    dict
        `auroc`, `aupr_in`, `aupr_out`, `fpr95`, `fpr95_ood`, `detection_error`, `autc`, as fractions.

    Raises
    ------
    DataError
        If either side is empty or contains NaN.
    """
    counts = count_scores(id_scores, ood_scores)
    return {name: float(metric(counts)) for name, metric in METRICS.items()}


def roc_curve(
    id_scores: ArrayLike, ood_scores: ArrayLike
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """Points of the ROC curve, one per distinct score, from (0, 0) to (1, 1).

    Returns
    -------
    fpr, tpr : ndarray of shape [K + 1]
        Shares of ID and OOD flagged as the threshold decreases from above all scores to the smallest.
    """
    flagged = count_scores(id_scores, ood_scores).mirrored
    fpr, tpr = flagged.ood_below / flagged.n_ood, flagged.id_below / flagged.n_id
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])


def _auroc(counts: ScoreCounts) -> Float[np.ndarray | np.float64, "..."]:
    twice_wins = (counts.ood * (2 * counts.id_below - counts.id)).sum(-1)
    return twice_wins / (2.0 * counts.n_id * counts.n_ood)[..., 0]


def _aupr_in(counts: ScoreCounts) -> Float[np.ndarray | np.float64, "..."]:
    # in a resample, the lowest values may have no rows; they add no recall, so their precision does not matter
    precision = counts.id_below / np.maximum(counts.id_below + counts.ood_below, 1)
    return (counts.id * precision).sum(-1) / counts.n_id[..., 0]


def _trapezoidal_aupr_in(counts: ScoreCounts) -> float:
    recall = np.concatenate([[0.0], counts.id_below / counts.n_id])
    precision = np.concatenate([[1.0], counts.id_below / (counts.id_below + counts.ood_below)])
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1])) / 2)


def _fpr_at_tpr(counts: ScoreCounts, tpr: float = 0.95) -> Float[np.ndarray | np.float64, "..."]:
    if not 0 < tpr <= 1:
        raise UsageError(f"tpr must be in (0, 1], got {tpr}")
    # k / n >= tpr, not k >= tpr * n: the quotient rounds to the same double as a literal such as 0.95
    threshold = (counts.id_below / counts.n_id >= tpr).argmax(-1, keepdims=True)
    return (np.take_along_axis(counts.ood_below, threshold, -1) / counts.n_ood)[..., 0]


def _detection_error(counts: ScoreCounts) -> Float[np.ndarray | np.float64, "..."]:
    errors = (counts.n_id - counts.id_below) / counts.n_id + counts.ood_below / counts.n_ood
    return errors.min(-1) / 2


def _autc(counts: ScoreCounts) -> Float[np.ndarray | np.float64, "..."]:
    finite = np.isfinite(counts.values)
    # scaling by a power of two is exact, and prevents overflow of the range of very large scores
    exponent = np.frexp(np.abs(counts.values, where=finite, out=np.zeros(finite.shape)).max())[1]
    values = np.ldexp(counts.values, -exponent)

    present = finite & (counts.id + counts.ood > 0)
    low = np.where(present, values, np.inf).min(-1, keepdims=True)
    high = np.where(present, values, -np.inf).max(-1, keepdims=True)
    wide = high > low
    scaled = np.clip((values - np.where(wide, low, 0)) / np.where(wide, high - low, 1), 0, 1)
    fpr_area = (counts.id / counts.n_id * scaled).sum(-1)
    fnr_area = (counts.ood / counts.n_ood * (1 - scaled)).sum(-1)
    return np.where(wide[..., 0], (fpr_area + fnr_area) / 2, 0.5)


METRICS: Mapping[str, Callable[[ScoreCounts], Float[np.ndarray | np.float64, "..."]]] = MappingProxyType(
    {
        "auroc": _auroc,
        "aupr_in": _aupr_in,
        "aupr_out": lambda counts: _aupr_in(counts.mirrored),
        "fpr95": _fpr_at_tpr,
        "fpr95_ood": lambda counts: _fpr_at_tpr(counts.mirrored),
        "detection_error": _detection_error,
        "autc": _autc,
    }
)
"""The metrics of a result row, in the order of tables, as functions of `ScoreCounts`."""

LOWER_IS_BETTER = frozenset({"fpr95", "fpr95_ood", "detection_error", "autc"})
"""The keys of `METRICS` for which lower is better."""


def best_of(values: Mapping[Key, float], metric: str) -> Key:
    """Return the key of the best value of a metric, or the first of several equal ones.

    Examples
    --------
    >>> best_of({"knn": 0.2, "msp": 0.3}, "fpr95"), best_of({"knn": 0.2, "msp": 0.3}, "auroc")
    ('knn', 'msp')
    """
    return (min if metric in LOWER_IS_BETTER else max)(values, key=values.__getitem__)
