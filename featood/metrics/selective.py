"""Answering only the rows that look most in-distribution."""

from __future__ import annotations

__all__ = ["aurra"]

import numpy as np
from numpy.typing import ArrayLike

from featood.errors import DataError
from featood.metrics.counts import checked_scores


def aurra(scores: ArrayLike, correct: ArrayLike) -> float:
    """Area under the response rate accuracy curve (Hendrycks et al., 2021, "Natural Adversarial Examples").

    Accuracy among the rows answered, as more and more are answered in the order of their scores, averaged over all
    numbers of rows: high where a score ranks mistakes last, and never above what the classifier's accuracy allows.

    Parameters
    ----------
    scores : array of shape [N]
        Higher = more out-of-distribution: answered later.
    correct : boolean array of shape [N]
        Whether the predicted class is that of the label.

    Returns
    -------
    float
        Between 0 and 1, higher is better. Rows of equal score come in any order; the result is the mean over all.

    Raises
    ------
    DataError
        If there are no rows, shapes do not match, or a score is NaN.
    """
    scores, right = checked_scores(scores, "ID"), np.asarray(correct, bool)
    if scores.shape != right.shape:
        raise DataError(f"{len(scores)} scores come with {len(right)} verdicts")
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(ranks, right) / counts
    answered = np.arange(1, len(scores) + 1)
    return float((np.repeat(shares, counts).cumsum() / answered).mean())
