"""Figures of a comparison: intervals of the heads, and their ranks over the sets with bars for cliques."""

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
"""Height per head in inches."""
_LARGEST = 0.9999
_UPPER = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_TICKS = (*(1 - tick for tick in reversed(_UPPER)), 0.5, *_UPPER)


def interval_plot(rows: Sequence[Mapping[str, Any]], format: Format = "svg") -> bytes:
    """Draw the AUROC of each head with its interval, the best on top, on the logit scale.

    Parameters
    ----------
    rows : sequence of dict
        ``head``, ``auroc``, ``auroc_low`` and ``auroc_high``, as fractions; the best first.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes
    """
    positions = -np.arange(len(rows))
    values = np.array([[row[key] for row in rows] for key in ("auroc_low", "auroc", "auroc_high")])
    # the logits of 0 and 1 are infinite
    low, value, high = logit(np.clip(values, 1 - _LARGEST, _LARGEST))
    margin = 0.03 * (high.max() - low.min()) + 0.02
    limits = low.min() - margin, high.max() + margin
    ticks = [tick for tick in _TICKS if limits[0] <= logit(tick) <= limits[1]]

    def draw(axes: Axes) -> None:
        axes.axvline(value[0], color=INK, linewidth=0.8, linestyle="dotted")
        axes.hlines(positions, low, high, color=COLOURS[1], linewidth=1.4)
        axes.plot(value, positions, "o", color=COLOURS[1], markersize=3.5)
        axes.set_xticks(logit(ticks), [f"{100 * tick:.4g}" for tick in ticks])
        axes.set(xlabel="AUROC (%), logit scale", xlim=limits)
        _label_heads(axes, positions, [row["head"] for row in rows])

    return render(draw, 0, format, height=0.6 + _LINE * len(rows))


def rank_plot(
    mean_ranks: Mapping[str, float], cliques: Sequence[Sequence[str]], format: Format = "svg"
) -> bytes:
    """Draw the mean rank of each head, the best on top, and a bar for each clique of heads that do not differ.

    Parameters
    ----------
    mean_ranks : mapping of str to float
        Mean rank by head; 1 means best on every set.
    cliques : sequence of sequence of str
        As returned by `featood.metrics.rank_heads`; cliques of one head get no bar.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes
    """
    heads = sorted(mean_ranks, key=mean_ranks.__getitem__)
    positions = {head: -index for index, head in enumerate(heads)}
    bars = [[positions[head] for head in clique] for clique in cliques if len(clique) > 1]

    def draw(axes: Axes) -> None:
        axes.plot(
            [mean_ranks[head] for head in heads],
            list(positions.values()),
            "o",
            color=COLOURS[1],
            markersize=3.5,
        )
        right = max(mean_ranks.values())
        step = 0.035 * (right - 1 or 1)
        for index, bar in enumerate(bars, 1):
            # each bar has its own x, so that bars that overlap or touch can be distinguished
            x = right + step * (1 + index)
            axes.vlines(x, min(bar) - 0.3, max(bar) + 0.3, color=INK, linewidth=2)
        axes.set_xticks(np.arange(1, len(heads) + 1, -(-len(heads) // 12)))
        axes.set(xlabel="mean rank (1 = best)")
        _label_heads(axes, np.array(list(positions.values())), heads)

    return render(draw, 0, format, height=0.6 + _LINE * len(heads))


def _label_heads(axes: Axes, positions: np.ndarray, heads: Sequence[str]) -> None:
    axes.set_yticks(positions, [short_label(head) for head in heads])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(positions.min() - 0.7, positions.max() + 0.7)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
