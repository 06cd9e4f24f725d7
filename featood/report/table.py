"""The table of results for a terminal."""

from __future__ import annotations

__all__ = ["results_table"]

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from featood.report.rows import (
    MEAN,
    METRIC_COLUMNS,
    best_cells,
    cell,
    headline,
    interval,
    percent,
    printable,
    with_means,
)

# If the table is too wide, columns are dropped in this order. AUROC is always shown.
_DROP_ORDER = ("n", "autc", "detection_error", "fpr95_ood", "aupr_in", "aupr_out", "fpr95")
_NAME_WIDTH = 30  # longer names fold
_GAP = 2


def results_table(
    rows: Sequence[Mapping[str, Any]],
    id_info: Mapping[str, Any],
    width: int = 80,
    comparison: Mapping[str, Any] | None = None,
) -> Table:
    """Return a table of result rows: one line per head and OOD set, and the mean of each head over its sets.

    Parameters
    ----------
    rows : sequence of dict
        Result rows with `head`, `ood`, `n_ood` and metrics as fractions; shown as percentages, the best value on each
        OOD set in bold.
    id_info : dict
        `dataset`, and if known `split`, `n` and `accuracy` of the ID set, for the title; with sets that count as
        in-distribution, too, these under `shifted`, and the whole under `joined`.
    width : int
        Width of the terminal. Columns that do not fit are left out, the least important first.
    comparison : dict, optional
        ``comparison`` of the results: settings of the intervals, and the intervals of the means.

    Returns
    -------
    rich.table.Table
    """
    rows = with_means(rows, comparison["means"] if comparison else ())
    best = best_cells(rows)
    cells: dict[str, tuple[str, list[Text]]] = {
        "head": ("head", [Text(headline(row)) for row in rows]),
        "ood": ("OOD", [Text(printable(row["ood"]), "italic" if "sets" in row else "") for row in rows]),
    }
    for key, title, _ in METRIC_COLUMNS:
        styles = ["bold" if (i, key) in best else "" for i in range(len(rows))]
        values = [Text(cell(row, key), style) for row, style in zip(rows, styles, strict=True)]
        cells[key] = (title.replace("-", "\n").replace(" ", "\n"), values)
    cells["n"] = ("n", [Text(str(row.get("n_ood", "-"))) for row in rows])

    for key in _DROP_ORDER:
        if sum(map(_width, cells.values())) + _GAP * (len(cells) - 1) <= width:
            break
        del cells[key]

    table = Table(title=_title(id_info), title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)
    for key, (heading, _) in cells.items():
        name = key in ("head", "ood")
        table.add_column(
            Text(heading if "\n" in heading else f"\n{heading}"),
            justify="left" if name else "right",
            no_wrap=not name,
            overflow="fold",
            max_width=_NAME_WIDTH if name else None,
        )
    marks = {
        "xN": (any(row.get("repeats") for row in rows), "seeds: mean ± its standard error"),
        "!": (any(row.get("diverged") for row in rows), "training diverged; the last good state was scored"),
        "*": (
            any(row.get("ood_validated") for row in rows),
            "OOD-validated: fitted or tuned on outliers",
        ),
    }
    if comparison:
        from featood.report.comparison import how_made

        marks["[ ]"] = (True, how_made(comparison))
    table.caption = "\n".join(f"{mark} {text}" for mark, (shown, text) in marks.items() if shown) or None
    table.caption_justify = "left"
    for i, row in enumerate(rows):
        table.add_row(*(column[i] for _, column in cells.values()), end_section=row["ood"] == MEAN)
    return table


def _width(cell: tuple[str, list[Text]]) -> int:
    title, values = cell
    return min(max(text.cell_len for text in (*map(Text, title.split("\n")), *values)), _NAME_WIDTH)


def _title(id_info: Mapping[str, Any]) -> Text:
    lines = [f"ID {_described(id_info)}"]
    if shifted := id_info.get("shifted"):
        lines += [f"joined with {_described(entry)}" for entry in shifted]
        lines.append(f"full-spectrum ID{_size(id_info['joined'])}")
    return Text("\n".join(map(printable, lines)) + "; metrics in %")


def _described(facts: Mapping[str, Any]) -> str:
    split = f"/{facts['split']}" if facts.get("split") is not None else ""
    return f"{facts['dataset']}{split}{_size(facts)}"


def _size(facts: Mapping[str, Any]) -> str:
    text = f", {facts['n']:,} rows" if facts.get("n") is not None else ""
    if facts.get("accuracy") is not None:
        text += f", accuracy {percent(facts['accuracy'])}{interval(facts, 'accuracy')} %"
    return text
