"""Small figures of scores and calibration, as PNG, or as SVG in the text colour of the page."""

from __future__ import annotations

__all__ = [
    "COLOURS",
    "INK",
    "Format",
    "learning_curves",
    "reliability_diagram",
    "render",
    "roc_curves",
    "score_histogram",
    "score_map",
    "short_label",
]

import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from featood.metrics import roc_curve
from featood.metrics.counts import checked_scores
from featood.report.rows import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]

INK = "#2a2b2c"  # lines and text; becomes currentColor in SVG
_ON_PLANE = "#141516"  # lines on the score map, which is light on every page
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito, 2008
_DASHES = ("solid", "dashed", "dotted")
_BINS = 60
_STYLE: Any = {
    "font.size": 8,
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "text.parse_math": False,  # names may contain a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "featood",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "patch.linewidth": 1.2,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def score_histogram(
    id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike], id_name: str = "ID", format: Format = "svg"
) -> bytes:
    """Draw histograms of the scores of the ID set (filled) and each OOD set (lines), in percent of the set's rows.

    The axis covers the central 99 % of every set, but at most twice the width of the ID scores on either side of
    them; the outermost bins contain all values beyond. A dotted line marks the threshold that accepts 95 % of ID.

    Parameters
    ----------
    id_scores : array of shape [N]
        Higher = more out-of-distribution; infinite values are counted in the outermost bins.
    ood_scores : dict of arrays
        Scores by the name of their set.
    id_name : str
        Name of the ID set in the legend.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes

    Raises
    ------
    DataError
        If a set is empty or contains NaN.
    """
    id_scores = checked_scores(id_scores, id_name)
    sets = {name: checked_scores(values, name) for name, values in ood_scores.items()}
    edges = np.linspace(*robust_range(id_scores, sets.values()), _BINS + 1)

    def shares(values: np.ndarray) -> np.ndarray:
        return 100 * np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)

    def draw(axes: Axes) -> None:
        axes.stairs(shares(id_scores), edges, fill=True, color=INK, alpha=0.3, label=short_label(id_name))
        for (name, values), style in zip(sets.items(), _styles(), strict=False):
            axes.stairs(shares(values), edges, label=short_label(name), **style)
        accepted = np.quantile(id_scores, 0.95, method="inverted_cdf")
        axes.axvline(np.clip(accepted, edges[0], edges[-1]), color=INK, linewidth=0.8, linestyle="dotted")
        axes.set(xlabel="score (higher = more OOD)", ylabel="rows of the set (%)", xlim=edges[[0, -1]])

    return render(draw, len(sets) + 1, format)


def roc_curves(id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike], format: Format = "svg") -> bytes:
    """Draw one ROC curve per OOD set: share of OOD rows flagged against share of ID rows flagged.

    Parameters, result and errors as for `score_histogram`.
    """
    curves = {name: roc_curve(id_scores, values) for name, values in ood_scores.items()}

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="dotted")
        for (name, (fpr, tpr)), style in zip(curves.items(), _styles(), strict=False):
            # a curve has length 2 in the L1 norm; steps of 1/200 are finer than the pixels
            kept = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, 401)).clip(max=len(fpr) - 1))
            axes.plot(fpr[kept], tpr[kept], label=short_label(name), **style)
        axes.set(xlabel="ID flagged", ylabel="OOD flagged", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))

    return render(draw, len(curves), format)


def reliability_diagram(
    confidence: ArrayLike, accuracy: ArrayLike, rows: ArrayLike, format: Format = "svg"
) -> bytes:
    """Draw accuracy against confidence by bin; a calibrated classifier is on the diagonal.

    Parameters
    ----------
    confidence, accuracy, rows : array of shape [bins]
        As returned by `featood.metrics.reliability_curve`. The area of a dot increases with its share of the rows;
        empty bins are not drawn.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes
    """
    confidence, accuracy, rows = (np.asarray(values, np.float64) for values in (confidence, accuracy, rows))
    filled = rows > 0
    areas = 6 + 200 * rows[filled] / rows.sum()

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="dotted")
        axes.plot(confidence[filled], accuracy[filled], color=COLOURS[1])
        axes.scatter(confidence[filled], accuracy[filled], areas, color=COLOURS[1], alpha=0.6, linewidth=0)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))

    return render(draw, 0, format)


def learning_curves(
    curves: Mapping[str, Mapping[str, Sequence[float | None]]], title: str = "", format: Format = "svg"
) -> bytes:
    """Draw the mean test accuracy by the number of labels, with a band of one standard error on either side.

    Parameters
    ----------
    curves : mapping
        By name, ``labels``, ``accuracy`` (as fractions) and ``standard_error`` (None where there is a single run), of
        equal length; as in the ``acquisitions`` of :func:`featood.active_learning`.
    title : str
        What was learned from.
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes
    """

    def draw(axes: Axes) -> None:
        for (name, curve), style in zip(curves.items(), _styles(), strict=False):
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

    return render(draw, len(curves), format)


def score_map(
    grid: ArrayLike,
    extent: Sequence[float],
    points: Mapping[str, ArrayLike],
    id_scores: ArrayLike,
    axes_names: Sequence[str] = ("", ""),
    format: Format = "svg",
) -> bytes:
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
    format : {"svg", "png"}
        Format of the figure.

    Returns
    -------
    bytes

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
        colours = itertools.chain([_ON_PLANE], (style["color"] for style in _styles()))
        for (name, rows), colour in zip(points.items(), colours, strict=False):
            x, y = np.asarray(rows, np.float64).reshape(-1, 2).T
            axes.scatter(x, y, s=5, color=colour, edgecolors="white", linewidths=0.3, label=short_label(name))
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
        bar.set_label("score (higher = more OOD)")
        bar.outline.set_visible(False)
        names = [short_label(name) for name in axes_names]
        axes.set(xlabel=names[0], ylabel=names[1], xlim=(left, right), ylim=(bottom, top))

    return render(draw, len(points), format)


def _plane_colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("plane", ("#f8f8f7", "#c6c9cb", "#8f9498", "#656a6f", "#43484c"))


def render(draw: Callable[[Axes], None], n_labels: int, format: Format, height: float = 2.7) -> bytes:
    """Create a figure, draw on its axes with `draw`, add the legend below, and return it as bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=(4.2, height + 0.17 * -(-n_labels // 2)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        if n_labels:
            figure.legend(loc="outside lower center", ncols=2, markerscale=1.8)
        return _svg(figure) if format == "svg" else _png(figure)


def _svg(figure: Figure) -> bytes:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # ids of groups are the same in every figure and would clash on one page
    return re.sub(r'<(g|image) id="[^"]*"', r"<\1", svg).encode()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _styles() -> Iterator[dict[str, Any]]:
    while True:
        yield from ({"color": colour, "linestyle": dash} for dash in _DASHES for colour in COLOURS)


def short_label(name: str) -> str:
    """Return a name as displayed in a figure."""
    name = printable(name)
    # matplotlib hides labels that start with an underscore
    name = f" {name}" if name.startswith("_") else name
    return name if len(name) <= 30 else f"{name[:27]}..."


def robust_range(id_scores: np.ndarray, others: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the range of the central 99 % of all sets, within twice the width of the ID scores; never empty."""
    finite = [values[np.isfinite(values)] for values in (id_scores, *others)]
    ranges = np.array([np.quantile(values, [0.005, 0.995]) for values in finite if len(values)])
    low, high = (ranges[:, 0].min(), ranges[:, 1].max()) if len(ranges) else (0.0, 0.0)
    if len(finite[0]) and (width := ranges[0, 1] - ranges[0, 0]) > 0:
        low, high = max(low, ranges[0, 0] - 2 * width), min(high, ranges[0, 1] + 2 * width)
    margin = 0.02 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - margin, high + margin
