"""The common style of the figures, and their conversion to SVG and PNG."""

from __future__ import annotations

__all__ = ["COLOURS", "INK", "line_styles", "new_figure", "png", "short_label", "svg"]

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featood.report.rows import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#2a2b2c"  # lines and text; becomes currentColor in SVG
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito, 2008
_DASHES = ("solid", "dashed", "dotted")
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


def new_figure(
    draw: Callable[[Axes], None], n_labels: int = 0, height: float = 2.7, width: float = 4.2
) -> Figure:
    """Create a figure, draw on its axes with `draw`, and add the legend of `n_labels` entries below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(width, height + 0.17 * -(-n_labels // 2)), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        if n_labels:
            figure.legend(loc="outside lower center", ncols=2, markerscale=1.8)
        return figure


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG in the text colour of the page; the same figure gives the same bytes."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _style():
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # ids of groups are the same in every figure and would clash on one page
    return re.sub(r'<(g|image) id="[^"]*"', r"<\1", text).encode()


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def line_styles() -> Iterator[dict[str, Any]]:
    """Yield combinations of colour and dashes without end."""
    while True:
        yield from ({"color": colour, "linestyle": dash} for dash in _DASHES for colour in COLOURS)


def short_label(name: str) -> str:
    """Return a name as displayed in a figure."""
    name = printable(name)
    # matplotlib hides labels that start with an underscore
    name = f" {name}" if name.startswith("_") else name
    return name if len(name) <= 30 else f"{name[:27]}..."


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield
