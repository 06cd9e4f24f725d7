"""Calibration of a head: scores of in-distribution rows, from which decisions on new rows follow."""

from __future__ import annotations

__all__ = ["Calibrated", "Calibration", "Decisions", "calibration_of", "predicted_classes"]

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np

from featood.cache.feature_set import FeatureSet, as_feature_set
from featood.decisions import alarm_rate_interval, class_p_values, class_thresholds, p_values, threshold
from featood.errors import DataError, NotFitted, UsageError
from featood.heads.base.fit import Fit, Fitted
from featood.heads.base.probes import Probes, choose_probes

if TYPE_CHECKING:
    from featood.heads.base.head import Head


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
    probes: Probes
    """Some of the rows, to notice later that the encoder or the head computes other values."""

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


def calibration_of(
    head: Head,
    features: FeatureSet,
    tpr: float = 0.95,
    *,
    confidence: float | None = None,
    by_class: bool = False,
    force: bool = False,
) -> Calibration:
    """Return the calibration of a head on a set; see :meth:`Calibrated.calibrate`."""
    from featood.heads.base.head import WORST

    fit = head.record
    if head.learns and fit.fingerprint and fit.fitted_on == features.name and not force:
        raise UsageError(
            f"{head.name} was fitted on {features.name}, whose scores are lower than those of new rows; calibrate on "
            "another split (--split), or add --force"
        )
    all_scores = np.asarray(head.score(features, force=force), np.float64)
    predicted = None
    if features.logits is not None and features.num_classes and features.num_classes > 1:
        predicted = predicted_classes(features.logits)
    known = np.ones(len(features), bool) if features.labels is None else np.asarray(features.labels[:]) >= 0
    scores = all_scores[known]
    if (unscored := int((scores >= WORST).sum())) > 0:
        raise DataError(
            f"{unscored} of {len(scores)} rows of {features.name} have no finite score; choose another head, or "
            "look for NaN in its features"
        )
    alarm_rate = round(1 - tpr, 12)
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
    facts = {
        "set": features.name, "inputs_sha256": features.inputs_sha256, "rows": len(scores),
        "alarm_rate": alarm_rate, "confidence": confidence, "by_class": by_class,
        "alarm_rate_low": low, "alarm_rate_high": high,
    }  # fmt: skip
    probes = choose_probes(head, features, all_scores, known)
    return Calibration(scores, limits, predicted, facts, probes)


class Calibrated(Fitted):
    """A fitted head that decides on rows, once it is calibrated."""

    @property
    def calibration(self) -> Calibration | None:
        """Its calibration; None before `calibrate`. A new fit has none."""
        return self._fit.calibration if self._fit else None

    def calibrate(
        self,
        data: Any,
        tpr: float = 0.95,
        *,
        confidence: float | None = None,
        by_class: bool = False,
        force: bool = False,
    ) -> Self:
        """Choose the threshold on a set of in-distribution rows; rows labelled as outliers are left out.

        Parameters
        ----------
        data : FeatureSet or array
            In-distribution rows that the head was not fitted on.
        tpr : float
            Share of new in-distribution rows to accept, in (0, 1); see :func:`featood.decisions.threshold`.
        confidence : float, optional
            Accept that share for this share of all calibration sets, not only on average over them.
        by_class : bool
            Whether to have a threshold for each class that the backbone predicts, which keeps the rate within the
            class.
        force : bool
            Accept rows that the head was fitted on, and features of another backbone.

        Returns
        -------
        Head
            This head; `save` saves its calibration too.

        Raises
        ------
        UsageError
            If the head was fitted on the set, or a rate is impossible.
        DataError
            If there are too few rows.

        Example
        -------
        >>> import numpy as np
        >>> import featood
        >>> x = np.random.default_rng(0).normal(size=(400, 2)).astype("f4")
        >>> head = featood.create_head("knn").fit(x[:200]).calibrate(x[200:], tpr=0.95)
        >>> bool(head.predict([[9.0, 9.0]]).out[0])
        True
        """
        head = cast("Head", self)
        found = calibration_of(
            head, as_feature_set(data), tpr, confidence=confidence, by_class=by_class, force=force
        )
        self._fit = dataclasses.replace(self._fit or Fit({}), calibration=found)
        return self

    def predict(self, data: Any, *, force: bool = False) -> Decisions:
        """Decide on rows.

        Parameters
        ----------
        data, force
            See `score`.

        Returns
        -------
        Decisions
            ``scores``, ``p_values`` and ``out``, each ``[N]``.

        Raises
        ------
        NotFitted
            Before `calibrate`.
        DataError
            If there is a threshold for each class, and the rows have no logits.
        """
        if self.calibration is None:
            raise NotFitted(
                f"{self.name} has no threshold; calibrate it on in-distribution rows that it was not fitted on "
                "(head.calibrate, or featood threshold)"
            )
        source = as_feature_set(data)
        scores = np.asarray(cast("Head", self).score(source, force=force), np.float64)
        return self.calibration.decide(scores, predicted_classes(source.logits))


def predicted_classes(logits: Any, numbers: np.ndarray | None = None) -> np.ndarray | None:
    """Return the predicted classes ``[N]`` of logits ``[N, C]``, or None if there are none.

    `numbers` are the classes of the columns, by default 0 to C - 1.
    """
    if logits is None:
        return None
    columns = np.asarray(logits[:]).argmax(1)
    return columns if numbers is None else numbers[columns]
