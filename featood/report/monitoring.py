"""The page of a monitor: alarm, diagnosis, and figures of its batches, in one HTML file."""

from __future__ import annotations

__all__ = ["capital_plot", "share_plot", "write_monitor_page"]

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.report.files import write_text
from featood.report.html import environment, inline
from featood.report.plots import COLOURS, INK, Format, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_TABLE = 20
"""Number of batches in the table."""


def write_monitor_page(path: str | Path, summary: Mapping[str, Any], date: str = "") -> None:
    """Write what a monitor knows as one self-contained HTML page, which fetches nothing and runs no scripts.

    Parameters
    ----------
    path : path
        The file to write; "-" is standard output.
    summary : dict
        As of :meth:`featood.Monitor.summary`.
    date : str
        Date of the page, as text.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    history = summary["history"]
    drawn = [row for row in history if row["rows"]]
    figures = {}
    if drawn:
        figures = {
            "Capital of the bets against the stream. The dotted line is that of an alarm.": inline(
                capital_plot(drawn, summary["false_alarm"])
            ),
            "Rows beyond the threshold, with 95 % intervals. The dotted line is the expected share.": inline(
                share_plot(drawn, summary["alarm_rate"])
            ),
        }
    page = environment().get_template("monitor.html")
    write_text(
        path, page.render(summary=summary, figures=figures, table=history[-LONGEST_TABLE:][::-1], date=date)
    )


def capital_plot(history: Sequence[Mapping[str, Any]], false_alarm: float, format: Format = "svg") -> bytes:
    """Draw the highest capital of each batch, and the capital of the alarm.

    Parameters
    ----------
    history : list of dict
        ``batch`` and ``log_capital`` of each batch.
    false_alarm : float
        Probability of a false alarm.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes
    """
    capital = np.array([row["log_capital"] for row in history]) / math.log(10)

    def draw(axes: Axes) -> None:
        axes.plot([row["batch"] for row in history], capital, color=COLOURS[1], marker=".", markersize=3)
        axes.axhline(-math.log10(false_alarm), color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="batch", ylabel="capital (power of 10)")

    return render(draw, 0, format)


def share_plot(history: Sequence[Mapping[str, Any]], alarm_rate: float, format: Format = "svg") -> bytes:
    """Draw the share of rows above the threshold in each batch, with its interval.

    Parameters
    ----------
    history : list of dict
        ``batch``, ``out``, ``rows``, ``low`` and ``high`` of each batch.
    alarm_rate : float
        The share of in-distribution rows that the threshold flags.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes
    """
    batch = [row["batch"] for row in history]
    low, high = (100 * np.array([row[end] for row in history]) for end in ("low", "high"))

    def draw(axes: Axes) -> None:
        axes.fill_between(batch, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)
        shares = [100 * row["out"] / row["rows"] for row in history]
        axes.plot(batch, shares, color=COLOURS[0], marker=".", markersize=3)
        axes.axhline(100 * alarm_rate, color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="batch", ylabel="beyond the threshold (%)", ylim=(0, None))

    return render(draw, 0, format)
