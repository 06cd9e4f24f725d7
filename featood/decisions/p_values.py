"""P-values of scores: how often an in-distribution row would have a score at least as high."""

from __future__ import annotations

__all__ = ["class_p_values", "conditional_p_values", "p_values", "weighted_p_values"]

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from featood.decisions.checks import calibration_scores, check_rate
from featood.errors import DataError
from featood.metrics.counts import checked_scores


def p_values(
    calibration: ArrayLike, scores: ArrayLike, generator: np.random.Generator | None = None
) -> Float[np.ndarray, "M"]:
    """Return split-conformal p-values of scores, low = out-of-distribution.

    For a new in-distribution row, exchangeable with those of the calibration set, ``P(p <= a) <= a`` for every a.

    Parameters
    ----------
    calibration : array of shape [N]
        Scores of in-distribution rows that the head was not fitted on.
    scores : array of shape [M]
        Scores of the rows to test, higher = more out-of-distribution.
    generator : numpy Generator, optional
        Breaks ties at random, which makes the p-values of in-distribution rows exactly uniform. Without it, they are
        multiples of ``1 / (N + 1)``.

    References
    ----------
    Vovk et al., Algorithmic Learning in a Random World, 2005; as tests of outliers: Bates et al., Testing for Outliers
    with Conformal p-values, Annals of Statistics 2023.

    Example
    -------
    >>> p_values([1.0, 2.0, 3.0, 4.0], [0.5, 3.5, 9.0]).tolist()
    [1.0, 0.4, 0.2]
    """
    known = calibration_scores(calibration)
    return weighted_p_values(known, scores, np.ones(len(known)), np.ones(np.shape(scores)), generator)


def class_p_values(
    calibration: ArrayLike,
    calibration_classes: Int[np.ndarray, "N"],
    scores: ArrayLike,
    classes: Int[np.ndarray, "M"],
) -> Float[np.ndarray, "M"]:
    """Return conformal p-values among the calibration rows of the same class (Mondrian).

    Parameters
    ----------
    calibration, scores
        See :func:`p_values`.
    calibration_classes, classes : array of shape [N], [M]
        Class of each row, as it is known for new rows: the predicted one.

    References
    ----------
    Vovk et al., Algorithmic Learning in a Random World, 2005, section 4.5.
    """
    known = calibration_scores(calibration)
    if not np.size(scores):
        return np.zeros(0)
    values = checked_scores(scores, "tested")
    # within its class, a row has the position of its rank among all scores
    levels, ranks = np.unique(np.concatenate([known, values]), return_inverse=True)
    before, own = ranks[: len(known)], ranks[len(known) :]
    ordered = np.sort(calibration_classes * len(levels) + before)
    starts = np.searchsorted(ordered, [classes * len(levels) + own, (classes + 1) * len(levels)])
    sizes = starts[1] - np.searchsorted(ordered, classes * len(levels))
    return (starts[1] - starts[0] + 1) / (sizes + 1)


def weighted_p_values(
    calibration: ArrayLike,
    scores: ArrayLike,
    calibration_weights: ArrayLike,
    weights: ArrayLike,
    generator: np.random.Generator | None = None,
) -> Float[np.ndarray, "M"]:
    """Return conformal p-values under a covariate shift between calibration and tested in-distribution rows.

    Parameters
    ----------
    calibration, scores, generator
        See :func:`p_values`.
    calibration_weights, weights : array of shape [N], [M]
        Density of the tested in-distribution rows over that of the calibration rows, at each row, up to a factor.

    Raises
    ------
    DataError
        If a weight is negative or not finite, or none is positive.

    References
    ----------
    Tibshirani et al., Conformal Prediction Under Covariate Shift, NeurIPS 2019; for outliers: Jin and Candes,
    Model-free Selective Inference Under Covariate Shift via Weighted Conformal p-values, 2023.
    """
    known = calibration_scores(calibration)
    if not np.size(scores):
        return np.zeros(0)
    values = checked_scores(scores, "tested")
    before, own = _weights(calibration_weights, known, "calibration"), _weights(weights, values, "tested")
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    total = before.sum()
    # weight of the calibration rows from each position on
    upwards = np.append(total - np.concatenate([[0.0], before[order].cumsum()[:-1]]), 0.0)
    at_least = upwards[np.searchsorted(ordered, values, "left")]
    above = upwards[np.searchsorted(ordered, values, "right")]
    share = 1.0 if generator is None else generator.random(len(values))
    found = (above + share * (at_least - above + own)) / (total + own)
    return np.clip(found, 0.0, 1.0)


def conditional_p_values(
    p: Float[np.ndarray, "M"], rows: int, confidence: float = 0.9
) -> Float[np.ndarray, "M"]:
    """Return larger p-values that hold for most calibration sets, not only on average over them.

    With a probability of `confidence` over the draw of the calibration set, ``P(p <= a) <= a`` for every a at once, for
    new in-distribution rows.

    Parameters
    ----------
    p : array of shape [M]
        As :func:`p_values` returns them, without a generator.
    rows : int
        Number of calibration rows N.
    confidence : float
        In (0, 1).

    References
    ----------
    Bates et al., Testing for Outliers with Conformal p-values, Annals of Statistics 2023, with the generalised Simes
    inequality for k = N / 2, as in the authors' code.
    """
    check_rate(confidence, "the confidence")
    if rows < 2:
        raise DataError("conditional p-values need at least two calibration rows")
    k = rows // 2
    logs = np.log(np.arange(1, rows + 1))
    # bound[i - 1] = (delta (i ... (i - k + 1)) / (n ... (n - k + 1)))^(1/k), 0 for i < k
    sums = np.concatenate([[0.0], logs.cumsum()])
    means = (sums[k:] - sums[:-k]) / k
    bound = np.zeros(rows)
    bound[k - 1 :] = np.exp(np.log1p(-confidence) / k + means - means[-1])
    place = np.maximum(1, np.floor((rows + 1) * (1 - p) + 1e-9).astype(int))
    return 1 - bound[place - 1]


def _weights(weights: ArrayLike, like: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(weights, np.float64)
    if values.shape != like.shape:
        raise DataError(f"{len(like)} {what} rows need as many weights, not {list(values.shape)}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise DataError(f"weights of the {what} rows must be finite and not negative")
    if what == "calibration" and not values.any():
        raise DataError("no calibration row has a positive weight")
    return values
