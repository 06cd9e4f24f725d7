"""Decisions from scores: thresholds, p-values, batches, and sets of classes; no head knows of them."""

from featood.decisions.batches import combined_p_values, discoveries, false_discovery_bound
from featood.decisions.p_values import class_p_values, conditional_p_values, p_values, weighted_p_values
from featood.decisions.selection import class_scores, guaranteed_threshold, risk_coverage
from featood.decisions.thresholds import alarm_rate_interval, class_thresholds, rows_needed, threshold

__all__ = [
    "alarm_rate_interval",
    "class_p_values",
    "class_scores",
    "class_thresholds",
    "combined_p_values",
    "conditional_p_values",
    "discoveries",
    "false_discovery_bound",
    "guaranteed_threshold",
    "p_values",
    "risk_coverage",
    "rows_needed",
    "threshold",
    "weighted_p_values",
]
