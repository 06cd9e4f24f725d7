"""Selective classification: which rows to accept so that few of them are misclassified."""

from __future__ import annotations

__all__ = ["class_scores", "guaranteed_threshold", "risk_coverage"]

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

from featood.decisions.checks import calibration_scores, check_rate
from featood.errors import DataError, UsageError


class RiskCoverage(NamedTuple):
    """Error rate among the accepted rows, for every threshold."""

    thresholds: Float[np.ndarray, "K"]
    """The distinct scores, ascending; rows at or below are accepted."""
    coverage: Float[np.ndarray, "K"]
    """Share of the rows that are accepted."""
    risk: Float[np.ndarray, "K"]
    """Share of the accepted rows that are errors."""


def risk_coverage(scores: ArrayLike, errors: ArrayLike) -> RiskCoverage:
    """Return the curve of the error rate among the accepted rows against the share of accepted rows.

    Parameters
    ----------
    scores : array of shape [N]
        Higher = less certain.
    errors : array of shape [N]
        Whether each row is misclassified; an outlier always is.

    References
    ----------
    El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010.
    """
    values, wrong = calibration_scores(scores), np.asarray(errors, bool)
    if wrong.shape != values.shape:
        raise DataError(f"{len(values)} scores need as many errors, not {list(wrong.shape)}")
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # of the rows with the same score
    accepted = np.arange(1, len(values) + 1)[last]
    return RiskCoverage(ordered[last], accepted / len(values), wrong[order].cumsum()[last] / accepted)


def guaranteed_threshold(
    scores: ArrayLike, errors: ArrayLike, risk: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return a threshold at or below which at most a share `risk` of new rows are errors, and the bound on that share.

    The bound holds with a probability of `confidence` over the calibration set. Of the thresholds that a binary search
    visits, the largest with a bound of at most `risk` is taken.

    Parameters
    ----------
    scores, errors
        Of a calibration set; see :func:`risk_coverage`.
    risk : float
        In (0, 1).
    confidence : float
        In (0, 1).

    Raises
    ------
    DataError
        If no threshold that was visited has such a bound.

    References
    ----------
    Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017, algorithm 1.
    """
    check_rate(risk, "the risk")
    check_rate(confidence, "the confidence")
    curve = risk_coverage(scores, errors)
    rows = np.size(scores)
    steps = math.ceil(math.log2(max(rows, 2)))
    low, high, found = 0, len(curve.thresholds) - 1, None
    for _ in range(steps):
        place = (low + high + 1) // 2
        accepted = round(curve.coverage[place] * rows)
        wrong = round(curve.risk[place] * accepted)
        # upper limit of Clopper and Pearson, for each of the visited thresholds
        bound = (
            special.betaincinv(wrong + 1, accepted - wrong, 1 - (1 - confidence) / steps)
            if wrong < accepted
            else 1.0
        )
        if bound <= risk:
            found, low = (float(curve.thresholds[place]), float(bound)), place
        else:
            high = max(place - 1, low)
    if found is None:
        raise DataError(
            f"no threshold keeps the error rate at or below {100 * risk:g} % with {100 * confidence:g} % confidence on "
            f"{rows} calibration rows; take more rows, or a higher risk"
        )
    return found


def class_scores(
    probabilities: Float[np.ndarray, "N C"], how: str = "lac", generator: np.random.Generator | None = None
) -> Float[np.ndarray, "N C"]:
    """Return how badly each class fits each row, for conformal sets of classes.

    The :func:`~featood.decisions.threshold` of the scores of the true classes of a calibration set gives sets of the
    classes at or below it, which miss the true class of a new row with a probability of at most its rate.

    Parameters
    ----------
    probabilities : array of shape [N, C]
        Predicted probabilities.
    how : str
        ``lac``: 1 - probability, the smallest sets on average; ``aps``: the probability of all classes that are more
        probable, and of the class itself, for sets that adapt to the row.
    generator : numpy Generator, optional
        With ``aps``, counts a random share of the class itself, without which the sets are too large.

    References
    ----------
    Sadinle et al., Least Ambiguous Set-Valued Classifiers, JASA 2019; Romano et al., Classification with Valid and
    Adaptive Coverage, NeurIPS 2020.
    """
    if how == "lac":
        return 1 - probabilities
    if how != "aps":
        raise UsageError(f"the scores of classes are lac or aps, not {how!r}")
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, 1)
    share = np.ones((len(ordered), 1)) if generator is None else generator.random((len(ordered), 1))
    found = np.empty_like(ordered)
    np.put_along_axis(found, order, ordered.cumsum(1) - ordered + share * ordered, 1)
    return found
