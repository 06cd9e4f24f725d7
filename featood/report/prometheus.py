"""Figures of a monitor in the text format of Prometheus, for the textfile collector of its node exporter."""

from __future__ import annotations

__all__ = ["prometheus_text"]

import math
from collections.abc import Iterator, Mapping
from typing import Any

FIGURES = {
    "rows": ("counter", "all_rows", "Images that could be read."),
    "unread": ("counter", "all_unread", "Images that could not be read."),
    "out": ("counter", "all_out", "Rows beyond the threshold."),
    "batches": ("counter", "batch", "Batches."),
    "out_share": ("gauge", "share", "Share of the last batch beyond the threshold."),
    "out_share_low": ("gauge", "low", "Lower end of its 95 % interval."),
    "out_share_high": ("gauge", "high", "Upper end of its 95 % interval."),
    "log_capital": ("gauge", "log_capital", "Logarithm of the highest capital in the last batch."),
    "alarm_log_capital": ("gauge", "limit", "Logarithm of the capital of an alarm."),
    "alarm": ("gauge", "raised", "1 if the alarm has been raised."),
    "scores_p": ("gauge", "scores_p", "P-value that the scores of the last batch are those of calibration."),
    "features_moved": ("gauge", "moved", "Share of features that have changed in the last batch."),
    "mmd": ("gauge", "mmd", "Squared maximum mean discrepancy of the features of the last batch."),
    "mmd_p": ("gauge", "mmd_p", "Its p-value."),
}
"""Kind, source and description by name."""


def prometheus_text(report: Mapping[str, Any], false_alarm: float, unread: int, name: str) -> str:
    """Return the figures of the last batch, and of all batches.

    Parameters
    ----------
    report : dict
        As of :meth:`featood.pipeline.monitoring.Report.as_json`.
    false_alarm : float
        Probability of a false alarm.
    unread : int
        Images of all batches that could not be read.
    name : str
        Name of the stream, the label ``monitor`` of all figures.
    """
    values = {
        **report,
        "all_unread": unread,
        "share": report["out"] / report["rows"] if report["rows"] else None,
        "limit": -math.log(false_alarm),
        "raised": int(report["alarm"] is not None),
    }
    return "".join(_lines(values, f'monitor="{_escaped(name)}"'))


def _lines(values: Mapping[str, Any], label: str) -> Iterator[str]:
    for name, (kind, source, text) in FIGURES.items():
        if (value := values[source]) is not None:
            full = f"featood_monitor_{name}{'_total' if kind == 'counter' else ''}"
            yield f"# HELP {full} {text}\n# TYPE {full} {kind}\n{full}{{{label}}} {value!r}\n"
    if (diagnosis := values["diagnosis"]) is not None:
        full = "featood_monitor_diagnosis"
        yield f"# HELP {full} 1 for what has changed.\n# TYPE {full} gauge\n"
        yield f'{full}{{{label},kind="{_escaped(diagnosis["kind"])}"}} 1\n'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
