"""Calibration of a head: scores of in-distribution rows, from which decisions on new rows follow."""

from __future__ import annotations

__all__ = ["Calibration", "Decisions", "calibrate"]

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.decisions import alarm_rate_interval, class_p_values, class_thresholds, p_values, threshold
from featood.errors import DataError, UsageError
from featood.heads.base.head import WORST, Head
from featood.pipeline.leakage import inputs_digest
from featood.pipeline.result_rows import predicted_classes


class Decisions(NamedTuple):
    """Decisions on M rows."""

    scores: np.ndarray
    """``[M]``, higher = more out-of-distribution."""
    p_values: np.ndarray
    """``[M]``, the share of calibration rows with a score at least as high, counting the row itself."""
    out: np.ndarray
    """``[M]``, whether the score is above the threshold."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of in-distribution rows that a head was not fitted on, and the threshold made of them."""

    scores: np.ndarray
    """``[N]``."""
    thresholds: np.ndarray
    """One, or one for each class ``[C]``."""
    classes: np.ndarray | None
    """Predicted classes ``[N]``, if there is a threshold for each; otherwise None."""
    record: Mapping[str, Any]
    """``set``, ``inputs_sha256``, ``rows``, ``alarm_rate``, ``confidence``, ``by_class``, and ``alarm_rate_low`` and
    ``alarm_rate_high``, between which the false-alarm rate of 95 % of all calibration sets lies."""

    def decide(self, scores: np.ndarray, classes: np.ndarray | None = None) -> Decisions:
        """Decide on rows by their scores ``[M]`` and, with a threshold for each class, their predicted classes ``[M]``.

        Raises
        ------
        DataError
            If classes are needed and missing.
        """
        if self.classes is None:
            p, limit = p_values(self.scores, scores), self.thresholds[0]
        else:
            if classes is None:
                raise DataError(
                    "the thresholds depend on the predicted class, and the rows have no logits to predict it"
                )
            p = class_p_values(self.scores, self.classes, scores, classes)
            limit = self.thresholds[classes]
        return Decisions(np.asarray(scores), p, scores > limit)


def calibrate(
    head: Head,
    features: FeatureSet,
    alarm_rate: float = 0.05,
    *,
    confidence: float | None = None,
    by_class: bool = False,
    force: bool = False,
) -> Calibration:
    """Return the calibration of a head on a set of in-distribution rows; rows labelled as outliers are left out.

    Parameters
    ----------
    head : Head
        A fitted head.
    features : FeatureSet
        In-distribution rows that it was not fitted on.
    alarm_rate : float
        Share of new in-distribution rows to flag; see :func:`featood.decisions.threshold`.
    confidence : float, optional
        Keep the rate for this share of all calibration sets, not only on average over them.
    by_class : bool
        Whether to have a threshold for each predicted class, which keeps the rate within the class.
    force : bool
        Accept rows that the head was fitted on, and features of another backbone.

    Raises
    ------
    UsageError
        If the head was fitted on the set, or a rate is impossible.
    DataError
        If there are too few rows.
    """
    if head.learns and head.record.fitted_on == features.name and not force:
        raise UsageError(
            f"{head.name} was fitted on {features.name}, whose scores are lower than those of new rows; calibrate on "
            "another split (--split), or add --force"
        )
    scores = np.asarray(head.score(features, force=force), np.float64)
    predicted = None
    if features.logits is not None and features.num_classes and features.num_classes > 1:
        predicted = predicted_classes(features.logits)
    known = np.ones(len(scores), bool) if features.labels is None else np.asarray(features.labels[:]) >= 0
    scores = scores[known]
    if (unscored := int((scores >= WORST).sum())) > 0:
        raise DataError(
            f"{unscored} of {len(scores)} rows of {features.name} have no finite score; choose another head, or "
            "look for NaN in its features"
        )
    if by_class:
        if predicted is None:
            raise UsageError(
                f"{features.name} has no logits, so there are no thresholds by class; omit --by-class"
            )
        if confidence is not None:
            raise UsageError("thresholds by class have no confidence; leave out one of the two")
        predicted, count = predicted[known], features.num_classes or 0
        limits = class_thresholds(scores, predicted, count, alarm_rate, features.classes)
        low, high = None, None
    else:
        predicted = None
        limits = np.array([threshold(scores, alarm_rate, confidence)])
        low, high = alarm_rate_interval(len(scores), alarm_rate, confidence)
    record = {
        "set": features.name, "inputs_sha256": inputs_digest(features), "rows": len(scores),
        "alarm_rate": alarm_rate, "confidence": confidence, "by_class": by_class,
        "alarm_rate_low": low, "alarm_rate_high": high,
    }  # fmt: skip
    return Calibration(scores, limits, predicted, record)
