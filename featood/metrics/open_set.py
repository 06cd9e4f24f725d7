"""Open-set recognition: a row is accepted as its predicted class, or taken for unknown.

A threshold `t` accepts the rows with score <= t, each as the class that was predicted for it, and takes the
others for the class "unknown", to which all OOD rows belong.
"""

from __future__ import annotations

__all__ = [
    "OpenSetCurve",
    "cauroc",
    "ccr_at_fpr",
    "macro_f1_open_set",
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
    """What becomes of a classifier as its threshold rises over all distinct scores, arrays of shape [K]."""

    thresholds: Float[np.ndarray, "K"]
    macro_f1: Float[np.ndarray, "K"]
    """Mean F1 of the known classes and "unknown"."""
    known_accuracy: Float[np.ndarray, "K"]
    """Share of the ID rows that are accepted as their own class."""
    unknown_accuracy: Float[np.ndarray, "K"]
    """Share of the OOD rows that are taken for unknown."""
    accepted: Float[np.ndarray, "K"]
    """Share of the ID rows that are accepted, as whatever class."""


def open_set_curve(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    id_predictions: ArrayLike,
    ood_predictions: ArrayLike,
    labels: ArrayLike,
) -> OpenSetCurve:
    """Macro-F1 and accuracies at every threshold, from one sort.

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
        A class found in neither labels nor accepted predictions has no F1 and is left out of the mean, as
        in scikit-learn.

    Raises
    ------
    DataError
        If shapes do not match, a score is NaN, a prediction is negative, or a side has no rows. All functions
        of this module share arguments and errors.
    """
    id_scores, id_predictions, labels = _labelled(id_scores, id_predictions, labels)
    values, id_ranks, ood_ranks = rank_scores(id_scores, ood_scores)
    ood_predictions = checked_indices(ood_predictions, "predictions")
    if len(ood_predictions) != len(ood_ranks):
        raise DataError(f"{len(ood_ranks)} OOD scores come with {len(ood_predictions)} predictions")
    predicted, ranks = (
        np.concatenate([id_predictions, ood_predictions]),
        np.concatenate([id_ranks, ood_ranks]),
    )
    if predicted.min() < 0:
        raise DataError("a prediction is negative; it must be the class of the row if it is accepted")
    id_below, ood_below = (
        np.bincount(rank, minlength=len(values)).cumsum() for rank in (id_ranks, ood_ranks)
    )
    right = id_predictions == labels
    known = np.bincount(id_ranks[right], minlength=len(values)).cumsum()
    hit = np.concatenate([right, np.zeros(len(ood_ranks), bool)])
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
    """Summarise open-set recognition; see `open_set_curve` for the arguments.

    Returns
    -------
    dict
        `f1_macro`: macro-F1 at the smallest threshold that accepts 95 % of the ID rows, that of `fpr95`, which
        no OOD row had a part in. `f1_macro_best`: the largest over all thresholds, which is chosen on the very
        rows it is measured on; some papers (VMDLS) report it. `cauroc`, `oscr`, and `ccr_at_fpr` of 10 % and
        of 1 % as `ccr_fpr10` and `ccr_fpr1`.
    """
    id_scores, id_predictions, labels = _labelled(id_scores, id_predictions, labels)
    curve = open_set_curve(id_scores, ood_scores, id_predictions, ood_predictions, labels)
    right = id_predictions == labels
    area = cauroc(id_scores, ood_scores, right)
    return {
        "f1_macro": float(curve.macro_f1[(curve.accepted >= 0.95).argmax()]),
        "f1_macro_best": float(curve.macro_f1.max()),
        "cauroc": area,
        "oscr": area * float(right.mean()),
        "ccr_fpr10": ccr_at_fpr(id_scores, ood_scores, right, 0.1),
        "ccr_fpr1": ccr_at_fpr(id_scores, ood_scores, right, 0.01),
    }


def cauroc(id_scores: ArrayLike, ood_scores: ArrayLike, correct: ArrayLike) -> float:
    """Area under the ROC curve of the correctly classified ID rows (CAUROC of VMDLS).

    The true positive rate is the share accepted *of the ID rows that are classified correctly*; those that are
    not have no part in it, so this is the AUROC where all are correct.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    correct : boolean array of shape [N]
        Whether the predicted class is that of the label.

    Returns
    -------
    float
        Between 0 and 1, higher is better; 0 where no row is classified correctly.
    """
    scores = np.asarray(id_scores)
    right = _verdicts(scores, correct)
    return auroc(scores[right], ood_scores) if right.any() else 0.0


def oscr(id_scores: ArrayLike, ood_scores: ArrayLike, correct: ArrayLike) -> float:
    """Area under the open-set classification rate curve (Dhamija et al., 2018): accuracy times `cauroc`.

    The correct classification rate, the share of *all* ID rows that are accepted as their own class, against the
    share of OOD rows accepted.
    """
    return cauroc(id_scores, ood_scores, correct) * float(np.mean(np.asarray(correct, bool)))


def ccr_at_fpr(id_scores: ArrayLike, ood_scores: ArrayLike, correct: ArrayLike, fpr: float = 0.1) -> float:
    """Correct classification rate at a false positive rate (Dhamija et al., 2018): one point of the curve of `oscr`.

    The threshold is the score of the OOD row with which the share of OOD rows at or below it reaches `fpr`; counted are
    the ID rows that score below it and are classified correctly, as OpenOOD does. With fewer than ``1 / fpr`` OOD rows
    that is the lowest of them all.

    Parameters
    ----------
    id_scores, ood_scores : array of shape [N] and [M]
        Higher = more out-of-distribution.
    correct : boolean array of shape [N]
        Whether the predicted class is that of the label.
    fpr : float
        In (0, 1].

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
    right = _verdicts(scores, correct)
    # k / n rather than fpr * n: the quotient rounds to the very double that a literal such as 0.1 stands for
    threshold = others[(np.arange(1, len(others) + 1) / len(others) >= fpr).argmax()]
    return float(np.mean(right & (scores < threshold)))


def macro_f1_open_set(predictions: ArrayLike, labels: ArrayLike, n_classes: int) -> float:
    """Macro-averaged F1 over the C known classes and the class "unknown" (index C), of decisions already made.

    Parameters
    ----------
    predictions, labels : integer array of shape [N]
        Class indices. `n_classes`, or any negative number, means unknown.
    n_classes : int
        Number of known classes, C.

    Returns
    -------
    float
        Mean F1. A class found in neither labels nor predictions has no F1 and is left out of the mean.

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
    """Sum of the F1 of the known classes, and how many classes have one, at each of `size` thresholds.

    A row that is accepted changes the F1 of its predicted class alone; the changes are added up, in the order
    of the rows' ranks.
    """
    named, places = np.unique(np.concatenate([predicted, labels]), return_inverse=True)
    classes, predicted, labels = len(named), places[: len(predicted)], places[len(predicted) :]
    order = np.lexsort((ranks, predicted))
    predicted, ranks, hits = predicted[order], ranks[order], hit[order].cumsum()
    first = np.concatenate([[True], predicted[1:] != predicted[:-1]])  # of its class
    start = np.searchsorted(predicted, predicted)
    hits -= np.concatenate([[0], hits])[start]
    labelled = np.bincount(labels, minlength=classes)
    f1 = 2 * hits / (labelled[predicted] + np.arange(len(predicted)) - start + 1)
    gain = f1 - np.where(first, 0, np.concatenate([[0], f1[:-1]]))
    new = ranks[first & (labelled[predicted] == 0)]
    counted = (labelled > 0).sum() + np.bincount(new, minlength=size).cumsum()
    return np.bincount(ranks, gain, size).cumsum(), counted


def _verdicts(scores: Shaped[np.ndarray, "N"], correct: ArrayLike) -> Bool[np.ndarray, "N"]:
    right = np.asarray(correct, bool)
    if scores.shape != right.shape:
        raise DataError(f"{len(scores)} ID scores come with {len(right)} verdicts")
    return right


def _labelled(
    scores: ArrayLike, predictions: ArrayLike, labels: ArrayLike
) -> tuple[Shaped[np.ndarray, "N"], Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Return what belongs to the ID rows that have a label."""
    scores = np.asarray(scores)
    predictions, labels = checked_indices(predictions, "predictions"), checked_indices(labels, "labels")
    if not len(scores) == len(predictions) == len(labels):
        raise DataError(
            f"{len(scores)} ID scores come with {len(predictions)} predictions and {len(labels)} labels"
        )
    known = labels >= 0
    return scores[known], predictions[known], labels[known]
