"""Figures of a comparison: intervals of the heads, and their ranks over the sets with bars over those alike."""

from __future__ import annotations

__all__ = ["interval_plot", "rank_plot"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.report.plots import COLOURS, INK, Format, render, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = 0.17
"""Inches that a head takes."""


def interval_plot(rows: Sequence[Mapping[str, Any]], key: str = "auroc", format: Format = "svg") -> bytes:
    """Draw a metric of each head with its interval, the best on top.

    Parameters
    ----------
    rows : sequence of dict
        ``head``, and the metric with ``KEY_low`` and ``KEY_high``, as fractions; the best first.
    key : str
        The metric.
    format : {"svg", "png"}
        What to return.

    Returns
    -------
    bytes
    """
    places = -np.arange(len(rows))
    value, low, high = (
        100 * np.array([row[name] for row in rows]) for name in (key, f"{key}_low", f"{key}_high")
    )

    def draw(axes: Axes) -> None:
        axes.hlines(places, low, high, color=COLOURS[1], linewidth=1.4)
        axes.plot(value, places, "o", color=COLOURS[1], markersize=3.5)
        axes.axvline(value[0], color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="AUROC (%)" if key == "auroc" else f"{key} (%)")
        _name(axes, places, [row["head"] for row in rows])

    return render(draw, 0, format, height=0.6 + _LINE * len(rows))


def rank_plot(
    mean_ranks: Mapping[str, float], cliques: Sequence[Sequence[str]], format: Format = "svg"
) -> bytes:
    """Draw the mean rank of each head, the best on top, and a bar along each clique of heads that do not differ.

    Parameters
    ----------
    mean_ranks : mapping of str to float
        1 is the best on every set.
    cliques : sequence of sequence of str
        As `featood.metrics.rank_heads` finds them; heads alone get no bar.
    format : {"svg", "png"}
        What to return.

    Returns
    -------
    bytes
    """
    heads = sorted(mean_ranks, key=mean_ranks.__getitem__)
    place = {head: -position for position, head in enumerate(heads)}
    bars = [[place[head] for head in clique] for clique in cliques if len(clique) > 1]

    def draw(axes: Axes) -> None:
        axes.plot(
            [mean_ranks[head] for head in heads], list(place.values()), "o", color=COLOURS[1], markersize=3.5
        )
        right = max(mean_ranks.values())
        step = 0.035 * (right - 1 or 1)
        for position, bar in enumerate(bars, 1):
            # a bar of two neighbours, and one that ends where another begins, must stay apart from each other
            x = right + step * (1 + position)
            axes.vlines(x, min(bar) - 0.3, max(bar) + 0.3, color=INK, linewidth=2)
        axes.set(xlabel="mean rank (1 = best)")
        _name(axes, np.array(list(place.values())), heads)

    return render(draw, 0, format, height=0.6 + _LINE * len(heads))


def _name(axes: Axes, places: np.ndarray, heads: Sequence[str]) -> None:
    axes.set_yticks(places, [short_label(head) for head in heads])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(places.min() - 0.7, places.max() + 0.7)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
