"""Sections of measurements: their tables, the page and plots."""

from __future__ import annotations

__all__ = ["SECTIONS", "Section", "cell", "label", "page", "plot", "tables"]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SIZES = ("rows", "features", "classes", "test_rows")
TEXT = ("head", "library", "note", "store", "backbone", "images")
Row = Mapping[str, Any]


class Section(NamedTuple):
    """A part of the page, with one kind of measurement."""

    title: str
    text: str
    """What the columns mean, in Markdown."""
    keys: tuple[str, ...]
    """Columns that identify a row."""
    ratios: tuple[str, ...]
    """Columns of times as multiples of floors, which two runs are compared by."""


SECTIONS = {
    "heads": Section(
        "Heads",
        "Seconds of fitting rows of float32 features and of scoring test rows, the fastest of several runs. A "
        "floor is the time of the matrix products, decompositions and copies that the formula cannot do without. "
        "`peak` is memory in MB beyond the features. Floors are float32; heads of covariances compute in float64,"
        " whose products take twice as long, as small variances give large weights. `fit/ours` and `score/ours` "
        "are the times of another library divided by ours: above one, ours is faster.",
        ("head", *SIZES),
        ("fit/floor", "score/floor"),
    ),
    "io": Section(
        "Stores",
        "GB/s of float32 features in each store. Reading is from the page cache, in blocks of 4,096 rows, each of"
        " which is compared with its checksum; gathering is of 2,000 random rows from checked blocks; writing "
        "includes fsync. The floor is an `.npy` file, which has no checksums. Medians of several rounds, in which"
        " the stores are read in turn.",
        ("store", "rows", "features"),
        ("read/floor", "gather/floor"),
    ),
    "extract": Section(
        "Extraction",
        "Images per second of extracting features into a cache: from an array of the network's input size, and "
        "from JPEG files of photographs, which one other process decodes. The floor is the slower of the "
        "network's bare forward pass (`forward/s`) and of Pillow alone, which decodes and resizes the files in "
        "one process (`decode/s`). `setup` are the seconds in which the network is analysed before. Medians of "
        "several rounds, in which all are measured in turn.",
        ("backbone", "images"),
        ("extract/floor",),
    ),
    "train": Section(
        "Training",
        "Milliseconds of one update of heads that train a network, in batches of 512 rows. The floor is the bare "
        "forward pass, backward pass and update of the same network, on rows that are already a batch; `overhead`"
        " is the share of an update that is not part of it. Medians of several rounds, in which both are measured"
        " in turn.",
        ("head", "features", "classes"),
        ("fit/floor",),
    ),
}
"""By their names in the JSON file."""


def tables(rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
    """Return the tables to show: the rows of a section, and other libraries' figures if they were measured."""
    keys = [
        key
        for key in rows[0]
        if key != "peers"
        and not key.endswith(" floor")
        and any(row[key] not in (None, "") for row in rows)
        and (key not in SIZES or len({row[key] for row in rows}) > 1)
    ]
    found = [[{key: row[key] for key in keys} for row in rows]]
    sizes = [key for key in keys if key in SIZES]
    others = [
        {"head": row["head"], **{key: row[key] for key in sizes}, "library": library, **figures}
        for row in rows
        for library, figures in row.get("peers", {}).items()
    ]
    return [*found, others] if others else found


def label(section: str, row: Row) -> str:
    """Return what a row is of, such as ``zarr, rows 20000, features 2048``."""
    first, *others = SECTIONS[section].keys
    return ", ".join([str(row[first]), *(f"{key.replace('_', ' ')} {row[key]}" for key in others)])


def page(
    measured: Mapping[str, Sequence[Row]], about: Mapping[str, Any], command: str, earlier: str = ""
) -> str:
    """Return the page of the documentation, in Markdown.

    Parameters
    ----------
    measured : mapping of str to rows
        Rows by section.
    about : mapping
        Processor, threads and versions.
    command : str
        The command that measured them.
    earlier : str
        The page so far; its sections that were not measured now are kept.
    """
    parts = {part.partition("\n")[0]: part.rstrip() for part in earlier.split("\n## ")[1:]}
    parts |= {
        SECTIONS[name].title: _part(name, rows, about, command) for name, rows in measured.items() if rows
    }
    titles = [section.title for section in SECTIONS.values() if section.title in parts]
    return "\n\n".join([INTRODUCTION, *(f"## {parts[title]}" for title in titles)]) + "\n"


INTRODUCTION = """# Speed

Everything is measured beside a floor in the same run: the time of what cannot be left out, by the fastest plain means.
A column such as `fit/floor` is a time as a multiple of its floor; it depends less on the machine than seconds do.
`load` is the number of processes that wanted a core before the measurement: unless it is near 0, other work ran
beside it. `featood bench` measures the same on your machine."""


def _part(name: str, rows: Sequence[Row], about: Mapping[str, Any], command: str) -> str:
    section = SECTIONS[name]
    fixed = {key: rows[0][key] for key in SIZES if key in rows[0] and len({row[key] for row in rows}) == 1}
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in {**fixed, **about}.items())
    lines = [
        section.title,
        "",
        section.text,
        "",
        f"{facts[:1].upper()}{facts[1:]}.",
        "",
        "```shell",
        command,
        "```",
    ]
    for shown in tables(rows):
        lines += [
            "",
            f"| {' | '.join(shown[0])} |",
            "|" + "|".join(" --- " if key in TEXT else " ---: " for key in shown[0]) + "|",
            *(f"| {' | '.join(cell(value) for value in row.values())} |" for row in shown),
        ]
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: str) -> None:
    """Draw seconds against each size that varies, one line for each head."""
    from matplotlib.figure import Figure

    from featood.files import replacing

    varying = [key for key in SIZES if len({row[key] for row in rows}) > 1]
    figure = Figure(figsize=(5 * len(varying), 8), layout="constrained")
    axes = figure.subplots(2, len(varying), squeeze=False)
    for column, key in enumerate(varying):
        least = {other: min(row[other] for row in rows) for other in varying if other != key}
        for line, what in enumerate(("fit", "score")):
            axis = axes[line][column]
            for head in dict.fromkeys(row["head"] for row in rows):
                points = sorted(
                    (row[key], row[what])
                    for row in rows
                    if row["head"] == head and row[what] and all(row[name] == least[name] for name in least)
                )
                if points:
                    axis.loglog(*zip(*points, strict=True), marker="o", label=head)
            axis.set_xlabel(key.replace("_", " "))
            axis.set_ylabel(f"seconds to {what}")
    axes[0][0].legend(fontsize="small")
    with replacing(path) as file:
        figure.savefig(file, format=path.rpartition(".")[2])


def cell(value: Any) -> str:
    """Return a figure as text."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
