"""The table of results for documents: Markdown, LaTeX and CSV."""

from __future__ import annotations

__all__ = ["FORMATS", "markdown_text", "results_document"]

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from featood.report.comparison import comparison_lines
from featood.report.files import rows_as_csv
from featood.report.listing import Listing, Order, listed
from featood.report.rows import METRIC_COLUMNS, cell
from featood.report.table import table_title

_NOT_IN_CSV = ("values", "labels")


def results_document(results: Mapping[str, Any], form: str, order: Order = Order()) -> str:  # noqa: B008  (frozen)
    """Return the table of results, with all columns.

    Parameters
    ----------
    results : dict
        Content of ``featood score --json``.
    form : str
        A key of `FORMATS`. Markdown and LaTeX have percentages and the best values in bold, CSV has fractions and one
        row for each head, mean or not, with the sets of a mean in the column `sets`.
    order : Order
        Which heads to list, and how to sort them. In CSV, heads are never listed together.
    """
    return FORMATS[form](results, order)


def _markdown(results: Mapping[str, Any], order: Order) -> str:
    listing = listed(results, order)
    titles = ["head", "OOD", *(column.title for column in METRIC_COLUMNS), "n"]
    lines = [_lines(titles), "|" + "|".join([":--"] * 2 + ["--:"] * (len(titles) - 2)) + "|"]
    lines += map(_lines, _cells(listing, markdown_text, "**{}**"))
    notes = [*listing.notes(results), *(line.strip() for line in comparison_lines(results))]
    text = [*table_title(results, listing.sets).split("\n"), "", *lines, ""]
    return "\n".join([markdown_text(line) if line[:1] != "|" else line for line in text] + [
        f"- {markdown_text(note)}" for note in notes
    ]) + "\n"  # fmt: skip


def _latex(results: Mapping[str, Any], order: Order) -> str:
    listing = listed(results, order)
    titles = ["head", "OOD", *(column.title for column in METRIC_COLUMNS), "$n$"]
    body: list[str] = []
    for cells in _cells(listing, _latex_text, r"\textbf{{{}}}"):
        if cells[0] and body and len(listing.sets) > 1:
            body.append(r"\addlinespace")
        body.append(" & ".join(cells) + r" \\")
    notes = [
        *table_title(results, listing.sets).split("\n"),
        *listing.notes(results),
        *comparison_lines(results),
    ]
    return "\n".join(
        [
            *(f"% {note}" for note in notes),
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{ll{'r' * (len(titles) - 2)}}}",
            r"\toprule",
            " & ".join(titles) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _csv(results: Mapping[str, Any], order: Order) -> str:
    rows = [
        {
            key: ", ".join(value) if key == "sets" else value
            for key, value in row.items()
            if key not in _NOT_IN_CSV
        }
        for row in listed(results, dataclasses.replace(order, fold=False)).rows
    ]
    return rows_as_csv(rows)


FORMATS: Mapping[str, Callable[[Mapping[str, Any], Order], str]] = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
}
"""Formats of documents."""


def _cells(listing: Listing, escape: Callable[[str], str], bold: str) -> list[list[str]]:
    """Return the cells of each line, the head only on the first of its lines."""
    found = []
    for names, lines in listing.heads:
        for line in lines:
            numbers = [
                bold.format(escape(cell(line.row, key))) if key in line.best else escape(cell(line.row, key))
                for key, *_ in METRIC_COLUMNS
            ]
            head = "" if line.depth else escape(" = ".join(names))
            found.append([head, escape(line.ood), *numbers, str(line.row.get("n_ood", "-"))])
    return found


def _lines(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_text(text: str) -> str:
    """Escape the characters that have a meaning in Markdown and in HTML."""
    text = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


def _latex_text(text: str) -> str:
    """Escape the characters that have a meaning in LaTeX."""
    return "".join(_LATEX.get(char, char) for char in text)
