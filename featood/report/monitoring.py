"""The page of a monitor: alarm, diagnosis, and figures of its batches, in one HTML file."""

from __future__ import annotations

__all__ = ["write_monitor_page"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featood.report.files import write_text
from featood.report.plots.streams import capital_plot, share_plot
from featood.report.templating import environment, inline

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
    page = environment("featood.report").get_template("monitor.html")
    write_text(
        path, page.render(summary=summary, figures=figures, table=history[-LONGEST_TABLE:][::-1], date=date)
    )
