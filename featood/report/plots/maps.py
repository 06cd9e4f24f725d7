"""Maps: scores over a plane, and features projected to one."""

from __future__ import annotations

__all__ = ["feature_map", "score_map"]

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from featood.errors import DataError
from featood.metrics.counts import checked_scores
from featood.report.plots.scores import robust_range
from featood.report.plots.style import INK, line_styles, new_figure, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ON_PLANE = "#141516"  # lines on the score map, which is light on every page


def score_map(
    grid: ArrayLike,
    extent: Sequence[float],
    points: Mapping[str, ArrayLike],
    id_scores: ArrayLike,
    axes_names: Sequence[str] = ("", ""),
) -> Figure:
    """Draw the scores on the plane, darker = more out-of-distribution, and some rows of each set.

    The colours have the range of the histogram; a dotted line marks the threshold that accepts 95 % of ID.

    Parameters
    ----------
    grid : array of shape [rows, columns]
        Scores at evenly spaced points of the extent, the first row at the bottom.
    extent : sequence of float
        Left, right, bottom and top.
    points : dict of arrays
        Points ``[n, 2]`` by the name of their set, the ID set first.
    id_scores : array of shape [N]
        Scores of the ID set.
    axes_names : sequence of str
        Names of the two coordinates.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If scores are missing or NaN.
    """
    id_scores = checked_scores(id_scores, "ID")
    grid = np.asarray(grid, np.float64)
    checked_scores(grid.ravel(), "grid")
    low, high = robust_range(id_scores, [grid.ravel()])
    shown = np.clip(grid, low, high)
    left, right, bottom, top = extent

    def draw(axes: Axes) -> None:
        # the centres of the outermost pixels are on the edges of the extent
        half_x, half_y = (right - left) / (2 * grid.shape[1] - 2), (top - bottom) / (2 * grid.shape[0] - 2)
        image = axes.imshow(
            shown, _plane_colours(), origin="lower", aspect="auto", vmin=low, vmax=high,
            extent=(left - half_x, right + half_x, bottom - half_y, top + half_y),
        )  # fmt: skip
        accepted = np.quantile(id_scores, 0.95, method="inverted_cdf")
        if shown.min() < accepted < shown.max():
            x, y = np.linspace(left, right, grid.shape[1]), np.linspace(bottom, top, grid.shape[0])
            axes.contour(x, y, shown, [accepted], colors=_ON_PLANE, linewidths=0.9, linestyles="dotted")
        colours = itertools.chain([_ON_PLANE], (style["color"] for style in line_styles()))
        for (name, rows), colour in zip(points.items(), colours, strict=False):
            x, y = np.asarray(rows, np.float64).reshape(-1, 2).T
            axes.scatter(x, y, s=5, color=colour, edgecolors="white", linewidths=0.3, label=short_label(name))
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
        bar.set_label("score (higher = more OOD)")
        bar.outline.set_visible(False)
        names = [short_label(name) for name in axes_names]
        axes.set(xlabel=names[0], ylabel=names[1], xlim=(left, right), ylim=(bottom, top))

    return new_figure(draw, len(points))


def _plane_colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("plane", ("#f8f8f7", "#c6c9cb", "#8f9498", "#656a6f", "#43484c"))


def feature_map(points: Mapping[str, ArrayLike], scores: Mapping[str, ArrayLike] | None = None) -> Figure:
    """Draw rows of several sets in the plane, coloured by their set or by their score.

    Parameters
    ----------
    points : dict of arrays
        Coordinates ``[n, 2]`` by the name of the set, the ID set first; for example from
        :func:`featood.report.projections`.
    scores : dict of arrays, optional
        Scores ``[n]`` of the same rows; darker means more out-of-distribution, by rank among all rows.

    Raises
    ------
    DataError
        If a set has another number of scores than of points.
    """
    planes = {name: np.asarray(rows, np.float64).reshape(-1, 2) for name, rows in points.items()}
    if scores is not None:
        values = {name: checked_scores(scores[name], name) for name in planes}
        if wrong := [name for name in planes if len(values[name]) != len(planes[name])]:
            raise DataError(f"{wrong[0]}: {len(planes[wrong[0]])} points have {len(values[wrong[0]])} scores")

    def draw(axes: Axes) -> None:
        if scores is None:
            colours = itertools.chain([INK], (style["color"] for style in line_styles()))
            for (name, rows), colour in zip(planes.items(), colours, strict=False):
                x, y = rows.T
                axes.scatter(x, y, s=4, color=colour, alpha=0.6, linewidths=0, label=short_label(name))
        else:
            x, y = np.concatenate(list(planes.values())).T
            ranks = rankdata(np.concatenate(list(values.values())))
            axes.scatter(x, y, s=4, c=ranks, cmap="viridis_r", linewidths=0)
        axes.set_aspect("equal", "datalim")
        axes.set(xticks=[], yticks=[])

    return new_figure(draw, len(planes) if scores is None else 0, height=3.6)
