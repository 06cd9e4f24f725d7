"""Figures of several heads: metrics by set, intervals, and ranks over the sets with bars for cliques."""

from __future__ import annotations

__all__ = ["interval_plot", "metric_matrix", "rank_plot"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from featood.report.matrix import shades_of
from featood.report.plots.style import COLOURS, INK, new_figure, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.17
"""Height per head in inches."""
_SHADES = "GnBu"
_LARGEST = 0.9999
_UPPER = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_TICKS = (*(1 - tick for tick in reversed(_UPPER)), 0.5, *_UPPER)


def interval_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the AUROC of each head with its interval, the best on top, on the logit scale.

    Parameters
    ----------
    rows : sequence of dict
        ``head``, ``auroc``, ``auroc_low`` and ``auroc_high``, as fractions; the best first.

    Returns
    -------
    Figure
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

    return new_figure(draw, height=0.6 + _LINE * len(rows))


def metric_matrix(
    values: ArrayLike, heads: Sequence[str], sets: Sequence[str], *, higher_is_better: bool = True
) -> Figure:
    """Draw a metric of each head on each set as numbers in percent; the darker the cell, the better.

    Parameters
    ----------
    values : array of shape [heads, sets]
        The metric as fractions; NaN where a head was not scored.
    heads, sets : sequence of str
        Names of rows and columns.
    higher_is_better : bool
        Orientation of the metric.
    """
    numbers = np.asarray(values, np.float64)
    shades, _ = shades_of(numbers, higher_is_better)

    def draw(axes: Axes) -> None:
        axes.imshow(shades, _SHADES, vmin=0, vmax=100, aspect="auto")
        for row, column in np.argwhere(~np.isnan(numbers)):
            colour = "white" if shades[row, column] > 60 else INK
            axes.text(
                column, row, f"{100 * numbers[row, column]:.1f}", ha="center", va="center", color=colour
            )
        axes.set_xticks(range(len(sets)), [short_label(name) for name in sets], rotation=30, ha="left")
        axes.set_yticks(range(len(heads)), [short_label(name) for name in heads])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)

    return new_figure(draw, height=0.9 + _LINE * len(heads), width=1.6 + 0.7 * len(sets))


def rank_plot(mean_ranks: Mapping[str, float], cliques: Sequence[Sequence[str]]) -> Figure:
    """Draw the mean rank of each head, the best on top, and a bar for each clique of heads that do not differ.

    Parameters
    ----------
    mean_ranks : mapping of str to float
        Mean rank by head; 1 means best on every set.
    cliques : sequence of sequence of str
        As returned by `featood.metrics.rank_heads`; cliques of one head get no bar.

    Returns
    -------
    Figure
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

    return new_figure(draw, height=0.6 + _LINE * len(heads))


def _label_heads(axes: Axes, positions: np.ndarray, heads: Sequence[str]) -> None:
    axes.set_yticks(positions, [short_label(head) for head in heads])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(positions.min() - 0.7, positions.max() + 0.7)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
