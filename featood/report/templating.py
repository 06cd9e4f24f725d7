"""Templates of HTML pages."""

from __future__ import annotations

__all__ = ["environment", "inline"]

from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from featood.report.plots.style import svg
from featood.report.rows import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def environment(package: str) -> jinja2.Environment:
    """Return the environment of the templates in a package's folder ``templates``, which escape all text."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters["printable"] = printable
    return found


def inline(figure: Figure) -> Markup:
    """Return a figure as SVG within a page."""
    return Markup(svg(figure).decode())
