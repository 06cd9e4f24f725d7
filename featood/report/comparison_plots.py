"""Figures of a comparison: intervals of the heads, and their ranks over the sets with bars over those alike."""

from __future__ import annotations

__all__ = ["interval_plot", "rank_plot"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit

from featood.report.plots import COLOURS, INK, Format, render, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = 0.17
"""Inches that a head takes."""
_OUTERMOST = 0.9999
_UPPER = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_TICKS = (*(1 - tick for tick in reversed(_UPPER)), 0.5, *_UPPER)


def interval_plot(rows: Sequence[Mapping[str, Any]], format: Format = "svg") -> bytes:
    """Draw the AUROC of each head with its interval, the best on top, on the logit scale that intervals are made on.

    Parameters
    ----------
    rows : sequence of dict
        ``head``, ``auroc``, ``auroc_low`` and ``auroc_high``, as fractions; the best first.
    format : {"svg", "png"}
        What to return.

    Returns
    -------
    bytes
    """
    places = -np.arange(len(rows))
    ends = np.array([[row[key] for row in rows] for key in ("auroc_low", "auroc", "auroc_high")])
    # 0 and 1 lie infinitely far out
    low, value, high = logit(np.clip(ends, 1 - _OUTERMOST, _OUTERMOST))
    margin = 0.03 * (high.max() - low.min()) + 0.02
    window = low.min() - margin, high.max() + margin
    ticks = [tick for tick in _TICKS if window[0] <= logit(tick) <= window[1]]

    def draw(axes: Axes) -> None:
        axes.axvline(value[0], color=INK, linewidth=0.8, linestyle="dotted")
        axes.hlines(places, low, high, color=COLOURS[1], linewidth=1.4)
        axes.plot(value, places, "o", color=COLOURS[1], markersize=3.5)
        axes.set_xticks(logit(ticks), [f"{100 * tick:.4g}" for tick in ticks])
        axes.set(xlabel="AUROC (%), logit scale", xlim=window)
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
        axes.set_xticks(np.arange(1, len(heads) + 1, -(-len(heads) // 12)))
        axes.set(xlabel="mean rank (1 = best)")
        _name(axes, np.array(list(place.values())), heads)

    return render(draw, 0, format, height=0.6 + _LINE * len(heads))


def _name(axes: Axes, places: np.ndarray, heads: Sequence[str]) -> None:
    axes.set_yticks(places, [short_label(head) for head in heads])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(places.min() - 0.7, places.max() + 0.7)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
