"""Figures of a stream that is monitored."""

from __future__ import annotations

__all__ = ["capital_plot", "share_plot"]

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.report.plots.style import COLOURS, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def capital_plot(history: Sequence[Mapping[str, Any]], false_alarm: float) -> Figure:
    """Draw the highest capital of each batch, and the capital of the alarm.

    Parameters
    ----------
    history : list of dict
        ``batch`` and ``log_capital`` of each batch.
    false_alarm : float
        Probability of a false alarm.
    """
    capital = np.array([row["log_capital"] for row in history]) / math.log(10)

    def draw(axes: Axes) -> None:
        axes.plot([row["batch"] for row in history], capital, color=COLOURS[1], marker=".", markersize=3)
        axes.axhline(-math.log10(false_alarm), color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="batch", ylabel="capital (power of 10)")

    return new_figure(draw)


def share_plot(history: Sequence[Mapping[str, Any]], alarm_rate: float) -> Figure:
    """Draw the share of rows above the threshold in each batch, with its interval.

    Parameters
    ----------
    history : list of dict
        ``batch``, ``out``, ``rows``, ``low`` and ``high`` of each batch.
    alarm_rate : float
        The share of in-distribution rows that the threshold flags.
    """
    batch = [row["batch"] for row in history]
    low, high = (100 * np.array([row[end] for row in history]) for end in ("low", "high"))

    def draw(axes: Axes) -> None:
        axes.fill_between(batch, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)
        shares = [100 * row["out"] / row["rows"] for row in history]
        axes.plot(batch, shares, color=COLOURS[0], marker=".", markersize=3)
        axes.axhline(100 * alarm_rate, color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="batch", ylabel="beyond the threshold (%)", ylim=(0, None))

    return new_figure(draw)
