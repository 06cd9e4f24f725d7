"""Detection, calibration and open-set metrics; pure functions on arrays, higher score = more OOD."""

from featood.metrics.bootstrap import Interval, bootstrap_intervals, paired_difference
from featood.metrics.by_class import class_table
from featood.metrics.classification import (
    Reliability,
    accuracy,
    brier,
    classification_metrics,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)
from featood.metrics.detection import (
    METRICS,
    aupr_in,
    aupr_out,
    auroc,
    autc,
    detection_error,
    detection_metrics,
    fpr_at_tpr_id,
    fpr_at_tpr_ood,
    roc_curve,
)
from featood.metrics.open_set import (
    OpenSetCurve,
    cauroc,
    macro_f1_open_set,
    open_set_curve,
    open_set_metrics,
    oscr,
)
from featood.metrics.repeats import mean_and_error

__all__ = [
    "METRICS",
    "Interval",
    "OpenSetCurve",
    "Reliability",
    "accuracy",
    "aupr_in",
    "aupr_out",
    "auroc",
    "autc",
    "bootstrap_intervals",
    "brier",
    "cauroc",
    "class_table",
    "classification_metrics",
    "detection_error",
    "detection_metrics",
    "expected_calibration_error",
    "fpr_at_tpr_id",
    "fpr_at_tpr_ood",
    "macro_f1_open_set",
    "mean_and_error",
    "negative_log_likelihood",
    "open_set_curve",
    "open_set_metrics",
    "oscr",
    "paired_difference",
    "reliability_curve",
    "roc_curve",
]
