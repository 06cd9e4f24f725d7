"""Tables for notebooks, as HTML."""

from __future__ import annotations

__all__ = ["html_table"]

import html
from collections.abc import Iterable, Sequence


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table; all texts are escaped.

    Examples
    --------
    >>> html_table("set <a>", ["rows"], [[3]])
    '<table><caption>set &lt;a&gt;</caption><tr><th>rows</th></tr><tr><td>3</td></tr></table>'
    """

    def line(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><caption>{html.escape(title)}</caption>{line(columns, 'th')}{body}</table>"
