"""Metrics of tensors of scores and labels, of which the negative ones mark outliers.

All are those of :mod:`featood.metrics`, in its float64. AUPR is the trapezoidal area.
"""

from __future__ import annotations

__all__ = [
    "accuracy",
    "aupr",
    "auroc",
    "aurra",
    "autc",
    "calc_openness",
    "calibration_error",
    "fpr_at_tpr",
    "oscr_score",
    "pr_curve",
    "roc_curve",
]

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featood import metrics
from featood.errors import DataError, UsageError
from featood.metrics.counts import count_scores


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve."""
    return metrics.auroc(*_sides(scores, labels))


def aupr(scores: Tensor, labels: Tensor, positive: str = "ood") -> float:
    """Trapezoidal area under the precision-recall curve of outliers (``ood``) or of known rows (``id``)."""
    return metrics.trapezoidal_aupr(*_sides(scores, labels))[is_outlier(positive)]


def roc_curve(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shares of known rows and of outliers that are flagged, both from 0 to 1, and the thresholds.

    After the first point, there is one for each distinct score, which is its threshold, in descending order.
    """
    fpr, tpr = metrics.roc_curve(*_sides(scores, labels))
    return torch.from_numpy(fpr), torch.from_numpy(tpr), _distinct(scores).flip(0)


def pr_curve(scores: Tensor, labels: Tensor, positive: str = "ood") -> tuple[Tensor, Tensor, Tensor]:
    """Return precision, recall and thresholds, where outliers (``ood``) or known rows (``id``) are positive.

    There is one point for each distinct score, which is its threshold, in order of decreasing recall, and a last one of
    precision 1 and recall 0.
    """
    counts, thresholds = count_scores(*_sides(scores, labels)), _distinct(scores)
    counts, thresholds = (
        (counts.mirrored, thresholds) if is_outlier(positive) else (counts, thresholds.flip(0))
    )
    precision = counts.id_below / (counts.id_below + counts.ood_below)
    recall = counts.id_below / counts.n_id
    return (
        torch.from_numpy(np.append(precision[::-1], 1.0)),
        torch.from_numpy(np.append(recall[::-1], 0.0)),
        thresholds,
    )


def fpr_at_tpr(scores: Tensor, labels: Tensor, tpr: float = 0.95) -> float:
    """Share of the known rows that are flagged where the share `tpr` of the outliers is."""
    return metrics.fpr_at_tpr_ood(*_sides(scores, labels), tpr)


def autc(scores: Tensor, labels: Tensor) -> float:
    """Area under the threshold curve."""
    return metrics.autc(*_sides(scores, labels))


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share of the known rows whose prediction is the label."""
    known = labels >= 0
    if not bool(known.any()):
        raise DataError("accuracy needs known rows (labels of at least 0)")
    return float((predictions == labels)[known].double().mean())


def oscr_score(outlier_scores: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Area under the open-set classification rate curve."""
    known = labels >= 0
    return metrics.oscr(*_sides(outlier_scores, labels), _array((predictions == labels)[known]))


def aurra(confidence: Tensor, correct: Tensor) -> float:
    """Area under the response rate accuracy curve; rows with high confidence are answered first."""
    return metrics.aurra(-_array(confidence), _array(correct).astype(bool))


def calibration_error(confidence: Tensor, correct: Tensor, p: str = "2", beta: int = 100) -> float:
    """Difference of confidence and accuracy in bins of `beta` rows with similar confidence.

    Parameters
    ----------
    confidence, correct : Tensor
        ``[N]`` each.
    p : str
        ``1`` for the mean of the absolute differences, ``2`` for the root of their mean square, ``max`` or ``infty``
        for the largest; bins have the weight of their rows.
    beta : int
        Rows in a bin; the last bin also has what remains.

    References
    ----------
    Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019 (appendix).
    """
    if p not in ("1", "2", "max", "infty", "infinity") or beta < 1:
        raise UsageError(f"p is '1', '2' or 'max' and beta at least 1, not {p!r} and {beta}")
    gaps = _array(confidence) - _array(correct)
    if not len(gaps):
        raise DataError("a calibration error needs rows")
    order = np.argsort(_array(confidence), kind="stable")
    starts = np.arange(max(1, len(gaps) // beta)) * beta
    sizes = np.diff([*starts, len(gaps)])
    errors = np.abs(np.add.reduceat(gaps[order], starts) / sizes)
    if p in ("1", "2"):
        return float(np.average(errors ** int(p), weights=sizes) ** (1 / int(p)))
    return float(errors.max())


def calc_openness(n_train: int, n_test: int, n_target: int) -> float:
    """Return the openness ``1 - sqrt(2 n_train / (n_test + n_target))`` of a problem, from its numbers of classes.

    References
    ----------
    Scheirer et al., Toward Open Set Recognition, PAMI 2013.
    """
    return 1 - math.sqrt(2 * n_train / (n_test + n_target))


def is_outlier(positive: str) -> bool:
    """Return whether the positive rows are the outliers."""
    if positive not in ("ood", "id"):
        raise UsageError(f"positive is 'ood' or 'id', not '{positive}'")
    return positive == "ood"


def _sides(scores: Tensor, labels: Tensor) -> tuple[Any, Any]:
    """Return the scores of known rows and those of outliers."""
    if scores.shape != labels.shape:
        raise UsageError(f"scores {list(scores.shape)} and labels {list(labels.shape)} differ in shape")
    values, outlier = _array(scores), _array(labels) < 0
    return values[~outlier], values[outlier]


def _distinct(scores: Tensor) -> Tensor:
    """Return the distinct scores, ascending."""
    return torch.from_numpy(np.unique(_array(scores)))


def _array(values: Tensor) -> Any:
    values = values.detach().flatten().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()
