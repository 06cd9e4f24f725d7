"""Decisions from scores: thresholds, p-values, batches, sets of classes, alarms; no head knows of them."""

from featood.decisions.batches import combined_p_values, discoveries, false_discovery_bound
from featood.decisions.martingales import Capital, bet, change_start, online_p_values
from featood.decisions.p_values import class_p_values, conditional_p_values, p_values, weighted_p_values
from featood.decisions.selection import class_scores, guaranteed_threshold, risk_coverage
from featood.decisions.shares import running_interval
from featood.decisions.thresholds import alarm_rate_interval, class_thresholds, rows_needed, threshold
from featood.decisions.two_samples import changed_features, mmd

__all__ = [
    "Capital",
    "alarm_rate_interval",
    "bet",
    "change_start",
    "changed_features",
    "class_p_values",
    "class_scores",
    "class_thresholds",
    "combined_p_values",
    "conditional_p_values",
    "discoveries",
    "false_discovery_bound",
    "guaranteed_threshold",
    "mmd",
    "online_p_values",
    "p_values",
    "risk_coverage",
    "rows_needed",
    "running_interval",
    "threshold",
    "weighted_p_values",
]
