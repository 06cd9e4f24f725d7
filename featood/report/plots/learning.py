"""Learning curves of active learning."""

from __future__ import annotations

__all__ = ["learning_curves"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featood.report.plots.style import line_styles, new_figure, short_label
from featood.report.rows import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curves(curves: Mapping[str, Mapping[str, Sequence[float | None]]], title: str = "") -> Figure:
    """Draw the mean test accuracy by the number of labels, with a band of one standard error on either side.

    Parameters
    ----------
    curves : mapping
        By name, ``labels``, ``accuracy`` (as fractions) and ``standard_error`` (None where there is a single run), of
        equal length; as in the ``acquisitions`` of :func:`featood.active_learning`.
    title : str
        What was learned from.

    Returns
    -------
    Figure
    """

    def draw(axes: Axes) -> None:
        for (name, curve), style in zip(curves.items(), line_styles(), strict=False):
            labels = np.asarray(curve["labels"], np.float64)
            mean = 100 * np.asarray(curve["accuracy"], np.float64)
            error = 100 * np.array(
                [np.nan if one is None else one for one in curve["standard_error"]], np.float64
            )
            axes.fill_between(
                labels, mean - error, mean + error, color=style["color"], alpha=0.2, linewidth=0
            )
            axes.plot(labels, mean, marker="o", markersize=2.5, label=short_label(name), **style)
        axes.set(xlabel="labels", ylabel="test accuracy (%)")
        axes.set_title(printable(title), fontsize=8)

    return new_figure(draw, len(curves))
