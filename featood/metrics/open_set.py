"""Metrics of open-set recognition, in which each row is accepted as its predicted class or rejected as unknown.

A threshold `t` accepts the rows with score <= t as their predicted class, and assigns all others to the class
"unknown", to which all OOD rows belong.
"""

from __future__ import annotations

__all__ = [
    "OpenSetCurve",
    "cauroc",
    "ccr_at_fpr",
    "macro_f1_open_set",
    "open_set_at",
    "open_set_curve",
    "open_set_metrics",
    "oscr",
]

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import ArrayLike

from featood.errors import DataError, UsageError
from featood.metrics.counts import checked_indices, checked_scores, rank_scores
from featood.metrics.detection import auroc


class OpenSetCurve(NamedTuple):
    """Metrics of a classifier at each distinct score as threshold, arrays of shape [K]."""

    thresholds: Float[np.ndarray, "K"]
    macro_f1: Float[np.ndarray, "K"]
    """Mean F1 of the known classes and "unknown"."""
    known_accuracy: Float[np.ndarray, "K"]
    """Share of the ID rows that are accepted as their true class."""
    unknown_accuracy: Float[np.ndarray, "K"]
    """Share of the OOD rows that are rejected as unknown."""
    accepted: Float[np.ndarray, "K"]
    """Share of the ID rows that are accepted, as any class."""


def open_set_curve(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    id_predictions: ArrayLike,
    ood_predictions: ArrayLike,
    labels: ArrayLike,
) -> OpenSetCurve:
    """Compute macro-F1 and accuracies at every threshold, from one sort.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    id_predictions, ood_predictions : integer array of shape [N] and [M]
        The class of each row if it is accepted.
    labels : integer array of shape [N]
        Classes of the ID rows. Rows with a label < 0 are left out.

    Returns
    -------
    OpenSetCurve
        A class that occurs neither in the labels nor in the accepted predictions has no F1 and is left out of the
        mean, as in scikit-learn.

    Raises
    ------
    DataError
        If shapes do not match, a score is NaN, a prediction is negative, or a side has no rows. All functions of this
        module have the same arguments and errors.
    """
    id_scores, id_predictions, labels = _labelled(id_scores, id_predictions, labels)
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    ood_predictions = checked_indices(ood_predictions, "predictions")
    if len(ood_predictions) != len(ood_ranks):
        raise DataError(f"{len(ood_ranks)} OOD scores were given with {len(ood_predictions)} predictions")
    predicted, ranks = (
        np.concatenate([id_predictions, ood_predictions]),
        np.concatenate([id_ranks, ood_ranks]),
    )
    if predicted.min() < 0:
        raise DataError("a prediction is negative; it must be the class of the row if it is accepted")
    id_below, ood_below = (
        np.bincount(rank, minlength=len(values)).cumsum() for rank in (id_ranks, ood_ranks)
    )
    correct = id_predictions == labels
    known = np.bincount(id_ranks[correct], minlength=len(values)).cumsum()
    hit = np.concatenate([correct, np.zeros(len(ood_ranks), bool)])
    total, classes = _known_f1(predicted, ranks, hit, labels, len(values))
    missed = len(id_ranks) - id_below
    found = len(ood_ranks) - ood_below
    unknown_f1 = 2 * found / (len(ood_ranks) + found + missed)
    return OpenSetCurve(
        values,
        (total + unknown_f1) / (classes + 1),
        known / len(id_ranks),
        found / len(ood_ranks),
        id_below / len(id_ranks),
    )


def open_set_metrics(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    id_predictions: ArrayLike,
    ood_predictions: ArrayLike,
    labels: ArrayLike,
) -> dict[str, float]:
    """Compute all metrics of open-set recognition; see `open_set_curve` for the arguments.

    Returns
    -------
    dict
        `f1_macro`: macro-F1 at the smallest threshold that accepts 95 % of the ID rows, as for `fpr95`; it does not
        depend on OOD rows. `f1_macro_best`: the maximum over all thresholds, which is selected on the same rows and
        therefore optimistic; some papers (VMDLS) report it. `cauroc`, `oscr`, and `ccr_at_fpr` at 10 % and 1 % as
        `ccr_fpr10` and `ccr_fpr1`.
    """
    id_scores, id_predictions, labels = _labelled(id_scores, id_predictions, labels)
    curve = open_set_curve(id_scores, ood_scores, id_predictions, ood_predictions, labels)
    correct = id_predictions == labels
    area = cauroc(id_scores, ood_scores, correct)
    return {
        "f1_macro": float(curve.macro_f1[(curve.accepted >= 0.95).argmax()]),
        "f1_macro_best": float(curve.macro_f1.max()),
        "cauroc": area,
        "oscr": area * float(correct.mean()),
        "ccr_fpr10": ccr_at_fpr(id_scores, ood_scores, correct, 0.1),
        "ccr_fpr1": ccr_at_fpr(id_scores, ood_scores, correct, 0.01),
    }


def open_set_at(
    threshold: float,
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    id_predictions: ArrayLike,
    ood_predictions: ArrayLike,
    labels: ArrayLike,
) -> dict[str, float]:
    """Compute metrics at a threshold that was chosen on other rows; see `open_set_curve` for the other arguments.

    Parameters
    ----------
    threshold : float
        Rows with score <= threshold are accepted.

    Returns
    -------
    dict
        `f1_macro`, as `macro_f1_open_set` over the classes of labels and predictions; `known_accuracy`, the share of
        the ID rows that are accepted as their true class; `unknown_accuracy`, the share of the OOD rows that are
        rejected; `open_mistakes`, the share of the mistakes on ID rows that are rejections (0 without mistakes); and
        `accepted`, the share of the ID rows that are accepted.
    """
    id_scores, id_predictions, labels = _labelled(id_scores, id_predictions, labels)
    ood_scores, ood_predictions = np.asarray(ood_scores), checked_indices(ood_predictions, "predictions")
    rejected, flagged = id_scores > threshold, ood_scores > threshold
    right = (id_predictions == labels) & ~rejected
    decided = np.concatenate([np.where(rejected, -1, id_predictions), np.where(flagged, -1, ood_predictions)])
    truth = np.concatenate([labels, np.full(len(ood_scores), -1)])
    mistakes = int((~right).sum())
    return {
        "f1_macro": macro_f1_open_set(decided, truth, int(max(decided.max(), labels.max())) + 1),
        "known_accuracy": float(right.mean()),
        "unknown_accuracy": float(flagged.mean()),
        "open_mistakes": float(rejected.sum() / mistakes) if mistakes else 0.0,
        "accepted": float(1 - rejected.mean()),
    }


def cauroc(id_scores: ArrayLike, ood_scores: ArrayLike, correct: ArrayLike) -> float:
    """Area under the ROC curve of the correctly classified ID rows (CAUROC of VMDLS).

    The true positive rate is the share accepted *of the correctly classified ID rows*; misclassified ID rows are
    ignored. If all rows are classified correctly, this is the AUROC.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    correct : boolean array of shape [N]
        Whether the predicted class equals the label.

    Returns
    -------
    float
        Between 0 and 1, higher is better; 0 if no row is classified correctly.

    Raises
    ------
    DataError
        If either side is empty or contains NaN.
    """
    scores, others = checked_scores(id_scores, "ID"), checked_scores(ood_scores, "OOD")
    is_correct = _checked_correct(scores, correct)
    return auroc(scores[is_correct], others) if is_correct.any() else 0.0


def oscr(id_scores: ArrayLike, ood_scores: ArrayLike, correct: ArrayLike) -> float:
    """Area under the open-set classification rate curve (Dhamija et al., 2018): accuracy times `cauroc`.

    The curve is the correct classification rate, which is the share of *all* ID rows that are accepted as their true
    class, against the share of OOD rows accepted.

    Raises
    ------
    DataError
        If either side is empty or contains NaN.
    """
    return cauroc(id_scores, ood_scores, correct) * float(np.mean(np.asarray(correct, bool)))


def ccr_at_fpr(id_scores: ArrayLike, ood_scores: ArrayLike, correct: ArrayLike, fpr: float = 0.1) -> float:
    """Correct classification rate at a false positive rate (Dhamija et al., 2018): one point of the curve of `oscr`.

    The threshold is the smallest OOD score for which the share of OOD rows at or below it is at least `fpr`; with
    fewer than ``1 / fpr`` OOD rows, it is the lowest OOD score. The rate counts the correctly classified ID rows with
    a score below the threshold, as in OpenOOD.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    correct : boolean array of shape [N]
        Whether the predicted class equals the label.
    fpr : float
        False positive rate, in (0, 1].

    Returns
    -------
    float
        Share of all ID rows, higher is better.

    Raises
    ------
    UsageError
        If `fpr` is not in (0, 1].
    """
    if not 0 < fpr <= 1:
        raise UsageError(f"fpr must be in (0, 1], got {fpr}")
    scores, others = checked_scores(id_scores, "ID"), np.sort(checked_scores(ood_scores, "OOD"))
    is_correct = _checked_correct(scores, correct)
    # k / n >= fpr, not k >= fpr * n: the quotient rounds to the same double as a literal such as 0.1
    threshold = others[(np.arange(1, len(others) + 1) / len(others) >= fpr).argmax()]
    return float(np.mean(is_correct & (scores < threshold)))


def macro_f1_open_set(predictions: ArrayLike, labels: ArrayLike, n_classes: int) -> float:
    """Macro-averaged F1 of given decisions over the C known classes and the class "unknown" (index C).

    Parameters
    ----------
    predictions, labels : integer array of shape [N]
        Class indices; `n_classes` or any negative number means unknown.
    n_classes : int
        Number of known classes, C.

    Returns
    -------
    float
        Mean F1. A class that occurs neither in labels nor in predictions has no F1 and is left out of the mean.

    Raises
    ------
    DataError
        If shapes do not match, there are no rows, or an index exceeds C.
    """
    predictions, labels = checked_indices(predictions, "predictions"), checked_indices(labels, "labels")
    if predictions.shape != labels.shape or not len(labels):
        raise DataError(f"F1 needs one prediction per label, got {len(predictions)} for {len(labels)}")
    if (top := max(predictions.max(), labels.max())) > n_classes:
        raise DataError(f"class index {top} exceeds {n_classes}, the index of the class unknown")
    predictions = np.where(predictions < 0, n_classes, predictions)
    labels = np.where(labels < 0, n_classes, labels)
    hits = np.bincount(labels[predictions == labels], minlength=n_classes + 1)
    total = np.bincount(labels, minlength=n_classes + 1) + np.bincount(predictions, minlength=n_classes + 1)
    return float((2 * hits[total > 0] / total[total > 0]).mean())


def _known_f1(
    predicted: Int[np.ndarray, "R"],
    ranks: Int[np.ndarray, "R"],
    hit: Bool[np.ndarray, "R"],
    labels: Int[np.ndarray, "N"],
    size: int,
) -> tuple[Float[np.ndarray, "{size}"], Int[np.ndarray, "{size}"]]:
    """Sum of the F1 of the known classes, and the number of classes with an F1, at each of `size` thresholds.

    Accepting a row changes only the F1 of its predicted class; the changes are summed in the order of the rows' ranks.
    """
    names, indices = np.unique(np.concatenate([predicted, labels]), return_inverse=True)
    classes, predicted, labels = len(names), indices[: len(predicted)], indices[len(predicted) :]
    order = np.lexsort((ranks, predicted))
    predicted, ranks, hits = predicted[order], ranks[order], hit[order].cumsum()
    first = np.concatenate([[True], predicted[1:] != predicted[:-1]])  # first row of its class
    start = np.searchsorted(predicted, predicted)
    hits -= np.concatenate([[0], hits])[start]
    labelled = np.bincount(labels, minlength=classes)
    f1 = 2 * hits / (labelled[predicted] + np.arange(len(predicted)) - start + 1)
    gain = f1 - np.where(first, 0, np.concatenate([[0], f1[:-1]]))
    new = ranks[first & (labelled[predicted] == 0)]
    counted = (labelled > 0).sum() + np.bincount(new, minlength=size).cumsum()
    return np.bincount(ranks, gain, size).cumsum(), counted


def _checked_correct(scores: Shaped[np.ndarray, "N"], correct: ArrayLike) -> Bool[np.ndarray, "N"]:
    is_correct = np.asarray(correct, bool)
    if scores.shape != is_correct.shape:
        raise DataError(f"{len(scores)} ID scores were given with {len(is_correct)} values of `correct`")
    return is_correct


def _labelled(
    scores: ArrayLike, predictions: ArrayLike, labels: ArrayLike
) -> tuple[Shaped[np.ndarray, "N"], Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Return scores, predictions and labels of the ID rows that have a label."""
    scores = np.asarray(scores)
    predictions, labels = checked_indices(predictions, "predictions"), checked_indices(labels, "labels")
    if not len(scores) == len(predictions) == len(labels):
        raise DataError(
            f"{len(scores)} ID scores were given with {len(predictions)} predictions and {len(labels)} labels"
        )
    known = labels >= 0
    return scores[known], predictions[known], labels[known]
