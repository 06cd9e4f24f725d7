"""Figures of single rows and of classes that a head decides wrongly."""

from __future__ import annotations

__all__ = ["class_bars", "image_gallery"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from featood.report.plots.style import COLOURS, new_figure, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def image_gallery(images: Sequence[ArrayLike], titles: Sequence[str]) -> Figure:
    """Draw images next to each other, such as those that :func:`featood.report.hardest_rows` selects.

    Parameters
    ----------
    images : sequence of array
        Pixels ``[H, W]`` or ``[H, W, 3]``, uint8.
    titles : sequence of str
        Text below each image, such as its score.
    """
    count = max(1, len(images))

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        for place, (image, title) in enumerate(zip(images, titles, strict=True)):
            frame = axes.inset_axes((place / count, 0, 0.94 / count, 0.9))
            frame.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
            frame.set(xticks=[], yticks=[])
            frame.set_xlabel(short_label(title), fontsize=7)

    return new_figure(draw, height=1.2, width=0.9 * count)


def class_bars(classes: Sequence[str], shares: ArrayLike, title: str = "rows decided wrongly (%)") -> Figure:
    """Draw the share of wrong decisions in each class, the first class on top.

    Parameters
    ----------
    classes : sequence of str
        Names, such as of the classes that :func:`featood.report.worst_classes` selects.
    shares : array of shape [K]
        Shares between 0 and 1.
    title : str
        What the shares are.
    """
    places = -np.arange(len(classes))

    def draw(axes: Axes) -> None:
        axes.barh(places, 100 * np.asarray(shares, np.float64), color=COLOURS[1])
        axes.set_yticks(places, [short_label(name) for name in classes])
        axes.set(xlabel=title, xlim=(0, 100))
        axes.tick_params(axis="y", length=0)

    return new_figure(draw, height=0.6 + 0.17 * len(classes))
