"""Accuracy and calibration of a classifier on ID rows, and its accuracy on rows selected by a score."""

from __future__ import annotations

__all__ = [
    "Reliability",
    "accuracy",
    "aurra",
    "brier",
    "classification_metrics",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability_curve",
]

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped
from numpy.typing import ArrayLike

from featood.errors import DataError, UsageError
from featood.metrics.counts import checked_indices, checked_scores

_CELLS = 2**22  # logits converted to float64 at once


class Reliability(NamedTuple):
    """Calibration by confidence bin; empty bins are NaN."""

    confidence: Float[np.ndarray, "bins"]
    accuracy: Float[np.ndarray, "bins"]
    rows: Int[np.ndarray, "bins"]


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of labelled rows whose largest logit is the one of their label.

    Parameters
    ----------
    logits : array of shape [N, C]
        Any real dtype; the softmax is taken in float64.
    labels : integer array of shape [N]
        Class indices. Rows with a label < 0 (unknown or OOD) are left out.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    DataError
        If shapes do not match, a logit is not finite, a label is >= C, or no row is labelled. All functions of logits
        in this module have the same arguments and errors.
    """
    return float(_evaluate(logits, labels).correct.mean())


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (lo, hi], weighted by their numbers of rows.

    Confidence is the largest softmax probability (Guo et al., 2017). Lower is better.
    """
    return _calibration_error(_reliability(_evaluate(logits, labels), bins))


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean of -log softmax(logits)[label], in nats; lower is better."""
    return float(_evaluate(logits, labels).nll.mean())


def brier(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean over rows of the squared distance between softmax and one-hot label, summed over classes.

    Between 0 and 2: neither halved nor averaged over classes. Lower is better.
    """
    return float(_evaluate(logits, labels).brier.mean())


def classification_metrics(
    logits: ArrayLike, labels: ArrayLike, bins: int = 15, classes: ArrayLike | None = None
) -> dict[str, float]:
    """Return `accuracy`, `ece`, `nll` and `brier` from one pass over the logits.

    Parameters
    ----------
    logits, labels, bins
        As in the functions of the single metrics.
    classes : integer array of shape [C], optional
        Class number of each column of the logits, ascending; by default 0 to C - 1. Rows of other classes count as
        misclassified: their class has probability 0, and their nll is the largest representable number.
    """
    if classes is not None:
        logits, labels = _in_columns(
            np.asarray(logits), checked_indices(labels, "labels"), np.asarray(classes)
        )
    rows = _evaluate(logits, labels)
    return {
        "accuracy": float(rows.correct.mean()),
        "ece": _calibration_error(_reliability(rows, bins)),
        "nll": float(rows.nll.mean()),
        "brier": float(rows.brier.mean()),
    }


def reliability_curve(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> Reliability:
    """Mean confidence, accuracy and number of rows in each of `bins` equal-width bins (lo, hi] of confidence.

    Returns
    -------
    Reliability
        Three arrays of shape [bins]; if `rows` is 0, the other two are NaN.

    Raises
    ------
    UsageError
        If `bins` < 1.
    """
    return _reliability(_evaluate(logits, labels), bins)


class _Evaluation(NamedTuple):
    """Values for each labelled row, four arrays of shape [M]."""

    confidence: Float[np.ndarray, "M"]
    correct: Bool[np.ndarray, "M"]
    nll: Float[np.ndarray, "M"]
    brier: Float[np.ndarray, "M"]


def _evaluate(logits: ArrayLike, labels: ArrayLike) -> _Evaluation:
    logits, labels = np.asarray(logits), checked_indices(labels, "labels")
    if logits.ndim != 2 or not logits.shape[1] or len(logits) != len(labels):
        raise DataError(f"expected logits [N, C] and N labels, got {list(logits.shape)} and {len(labels)}")
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise DataError("no row has a label (all are negative); accuracy and calibration need labelled rows")
    if (top := labels.max()) >= logits.shape[1]:
        raise DataError(
            f"label {top} is too large for {logits.shape[1]} classes; check that labels start at 0"
        )
    blocks = np.array_split(rows, -(-len(rows) * logits.shape[1] // _CELLS))
    parts = [_evaluate_block(logits[block], labels[block]) for block in blocks]
    return _Evaluation(*map(np.concatenate, zip(*parts, strict=True)))


def _in_columns(
    logits: Real[np.ndarray, "N C"], labels: Int[np.ndarray, "N"], classes: Int[np.ndarray, "_"]
) -> tuple[Real[np.ndarray, "N _"], Int[np.ndarray, "N"]]:
    """Return the logits and the column of each label; rows of other classes get a column of probability 0."""
    if len(classes) != logits.shape[-1]:
        raise DataError(f"{len(classes)} class numbers were given for logits of {logits.shape[-1]} classes")
    index = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    other = (labels >= 0) & (classes[index] != labels)
    columns = np.where(labels < 0, -1, np.where(other, len(classes), index))
    if not other.any():
        return logits, columns
    return np.concatenate([logits, np.full((len(logits), 1), np.finfo("f4").min)], 1), columns


def _evaluate_block(logits: Real[np.ndarray, "M C"], labels: Int[np.ndarray, "M"]) -> _Evaluation:
    logits = logits.astype(np.float64)
    if not np.isfinite(logits).all():
        raise DataError("logits contain NaN or infinity; extract them again in float32")
    rows, predicted = np.arange(len(labels)), logits.argmax(1)
    logits -= logits[rows, predicted][:, None]
    residual = np.exp(logits)
    total = residual.sum(1)
    residual /= total[:, None]
    residual[rows, labels] -= 1
    return _Evaluation(
        1 / total, predicted == labels, np.log(total) - logits[rows, labels], (residual**2).sum(1)
    )


def _reliability(evaluation: _Evaluation, bins: int) -> Reliability:
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}")
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    index = np.searchsorted(edges, evaluation.confidence, side="left")  # an edge belongs to the bin below it
    count = np.bincount(index, minlength=bins)

    def mean(values: Shaped[np.ndarray, "M"]) -> Float[np.ndarray, "bins"]:
        total = np.bincount(index, values, bins)
        return np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)

    return Reliability(mean(evaluation.confidence), mean(evaluation.correct), count)


def _calibration_error(curve: Reliability) -> float:
    filled = curve.rows > 0
    gaps = np.abs(curve.accuracy - curve.confidence)[filled]
    return float((gaps * curve.rows[filled]).sum() / curve.rows.sum())


def aurra(scores: ArrayLike, correct: ArrayLike) -> float:
    """Area under the response rate accuracy curve (Hendrycks et al., 2021, "Natural Adversarial Examples").

    Accuracy among the n rows with the lowest scores, averaged over n = 1 to N. It is high if the score ranks
    misclassified rows last; its maximum depends on the classifier's accuracy.

    Parameters
    ----------
    scores : array of shape [N]
        Higher = more out-of-distribution.
    correct : boolean array of shape [N]
        Whether the predicted class equals the label.

    Returns
    -------
    float
        Between 0 and 1, higher is better. For equal scores, the result is the mean over all orders of their rows.

    Raises
    ------
    DataError
        If there are no rows, shapes do not match, or a score is NaN.
    """
    scores, is_correct = checked_scores(scores, "ID"), np.asarray(correct, bool)
    if scores.shape != is_correct.shape:
        raise DataError(f"{len(scores)} scores were given with {len(is_correct)} values of `correct`")
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(ranks, is_correct) / counts
    rows = np.arange(1, len(scores) + 1)
    return float((np.repeat(shares, counts).cumsum() / rows).mean())
