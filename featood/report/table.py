"""The table of results for a terminal."""

from __future__ import annotations

__all__ = ["results_table", "table_title"]

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from featood.report.listing import Line, Order, listed
from featood.report.rows import METRIC_COLUMNS, cell, interval, percent, printable

# If the table is too wide, columns are left out in this order. AUROC is always shown.
_LEFT_OUT_FIRST = ("n", "autc", "detection_error", "fpr95_ood", "aupr_in", "aupr_out", "fpr95")
_NAME_WIDTH = 30  # longer names have a line of their own
_GAP = 2
_INDENT = 2


class _Column(NamedTuple):
    """A column of numbers."""

    key: str
    title: tuple[str, str]
    """In two lines."""
    cells: list[str]

    @property
    def width(self) -> int:
        return max(map(cell_len, (*self.title, *self.cells)))


def results_table(results: Mapping[str, Any], width: int = 80, order: Order = Order()) -> Text:  # noqa: B008  (frozen)
    """Return the table of results as text: the mean of each head, followed by its sets.

    No number and no name is cut: a name that is too long has a line of its own, and columns that do not fit are left
    out, the least important first, and named below the table.

    Parameters
    ----------
    results : dict
        Content of ``featood score --json``: `id`, `rows` and, if present, `repeats`, `comparison` and `evidence`.
        Metrics are shown as percentages, the best value on each set in bold.
    width : int
        Width of the terminal.
    order : Order
        Which heads to list, and how to sort them.
    """
    listing = listed(results, order)
    entries = [
        (line, " = ".join(names) if not line.depth else line.ood)
        for names, lines in listing.heads
        for line in lines
    ]
    lines = [line for line, _ in entries]
    names = [" " * (_INDENT * line.depth) + name for line, name in entries]
    first = max((cell_len(name) for name in names if cell_len(name) <= _NAME_WIDTH), default=0)
    columns, left_out = _fitting(_columns(lines), width - max(first, len("head")))
    first = max(first, len("head"))
    text = Text("\n".join(_wrapped(table_title(results, listing.sets), width)) + "\n\n")
    for number in range(0 if any(column.title[0] for column in columns) else 1, 2):
        titles = (f"{column.title[number]:>{column.width + _GAP}}" for column in columns)
        text.append(f"{'head' if number else '':<{first}}{''.join(titles)}".rstrip() + "\n")
    text.append("─" * (first + sum(column.width + _GAP for column in columns)) + "\n")
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        if number and not line.depth and len(listing.sets) > 1:
            text.append("\n")
        if cell_len(name) > first:
            text.append("\n".join(_wrapped(name, width)) + "\n")
            name = ""
        text.append(name + " " * (first - cell_len(name)))
        for column in columns:
            value = column.cells[number]
            text.append(" " * (_GAP + column.width - cell_len(value)))
            text.append(value, "bold" if column.key in line.best else "")
        text.append("\n")
    notes = listing.notes(results)
    if left_out:
        notes.append(
            f"too wide for {width} columns: {', '.join(left_out)} (a wider terminal or --format shows all)"
        )
    return text.append(
        "\n".join(["", *(part for note in notes for part in _wrapped(note, width))]) if notes else ""
    )


def table_title(results: Mapping[str, Any], sets: Sequence[str]) -> str:
    """Describe the in-distribution set, those joined with it, and the only out-of-distribution set."""
    facts = results["id"]
    lines = [f"ID {_described(facts)}"]
    if shifted := facts.get("shifted"):
        lines += [f"joined with {_described(entry)}" for entry in shifted]
        lines.append(f"full-spectrum ID{_size(facts['joined'])}")
    if len(sets) == 1:
        lines.append(f"OOD {sets[0]}")
    return "\n".join(map(printable, lines)) + "; metrics in %"


def _columns(lines: Sequence[Line]) -> list[_Column]:
    columns = []
    for key, title, _ in METRIC_COLUMNS:
        above, _, below = title.replace("-", " ").rpartition(" ")
        columns.append(_Column(key, (above, below), [cell(line.row, key) for line in lines]))
    return [*columns, _Column("n", ("", "n"), [str(line.row.get("n_ood", "-")) for line in lines])]


def _fitting(columns: list[_Column], width: int) -> tuple[list[_Column], list[str]]:
    """Leave out columns until the others fit; return them, and the titles of those left out."""
    left_out = []
    for key in _LEFT_OUT_FIRST:
        if sum(column.width + _GAP for column in columns) <= width:
            break
        left_out.append(next(" ".join(column.title).strip() for column in columns if column.key == key))
        columns = [column for column in columns if column.key != key]
    return columns, left_out


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines at spaces, and names at commas; only a longer part is split."""

    wordsep_simple_re = re.compile(r"(\s+)|(?<=,)(?=\S)")


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        wrapper = _Wrapper(
            width, initial_indent=indent, subsequent_indent=indent + " " * _INDENT, break_on_hyphens=False
        )
        lines += wrapper.wrap(line.strip())
    return lines


def _described(facts: Mapping[str, Any]) -> str:
    split = f"/{facts['split']}" if facts.get("split") is not None else ""
    return f"{facts['dataset']}{split}{_size(facts)}"


def _size(facts: Mapping[str, Any]) -> str:
    text = f", {facts['n']:,} rows" if facts.get("n") is not None else ""
    if facts.get("accuracy") is not None:
        text += f", accuracy {percent(facts['accuracy'])}{interval(facts, 'accuracy')} %"
    return text
