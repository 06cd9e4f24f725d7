"""Tables, plots, the page and the comparison of measurements."""

from __future__ import annotations

__all__ = ["cell", "compare", "page", "plot", "tables"]

from collections.abc import Mapping, Sequence
from typing import Any

SIZES = ("rows", "features", "classes", "test_rows")
Row = Mapping[str, Any]


def tables(rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
    """Return the tables to show: ours, and the other libraries' seconds divided by ours if they were measured."""
    sizes = [key for key in SIZES if len({row[key] for row in rows}) > 1]
    ours = ["head", *sizes, "fit", "fit/floor", "score", "score/floor", "peak", "note"]
    kept = [key for key in ours if any(row.get(key) not in (None, "") for row in rows)]
    found = [[{key: row.get(key) for key in kept} for row in rows]]
    others = [
        {"head": row["head"], **{key: row[key] for key in sizes}, "library": library, **figures}
        for row in rows
        for library, figures in row["peers"].items()
    ]
    return [*found, others] if others else found


def page(rows: Sequence[Row], about: Mapping[str, Any], command: str) -> str:
    """Return the benchmark page of the documentation, in Markdown."""
    sizes = ", ".join(
        f"{name} {', '.join(str(value) for value in sorted({row[key] for row in rows}))}"
        for key, name in zip(SIZES, ("N", "D", "C", "n"), strict=True)
    )
    lines = [
        "# Speed",
        "",
        "Seconds of fitting N rows of D float32 features of C classes and of scoring n rows, the fastest of several "
        "runs. A floor is the time, in the same run, of the matrix products, decompositions and copies that the "
        "formula cannot do without; `fit/floor` and `score/floor` are multiples of it. `peak` is memory in MB beyond "
        "the features. Floors are float32; heads of covariances compute in float64, whose products take twice as long, "
        "as small variances give large weights. `fit/ours` and `score/ours` are the times of another library divided "
        "by ours: above one, ours is faster.",
        "",
        f"{sizes}. " + ", ".join(f"{key} {value}" for key, value in about.items()) + ".",
        "",
        "```shell",
        command,
        "```",
        "",
    ]
    for shown in tables(rows):
        lines += [
            f"| {' | '.join(shown[0])} |",
            "|"
            + "|".join(" --- " if key in ("head", "library", "note") else " ---: " for key in shown[0])
            + "|",
            *(f"| {' | '.join(cell(value) for value in row.values())} |" for row in shown),
            "",
        ]
    return "\n".join(lines)


def compare(before: Sequence[Row], after: Sequence[Row]) -> list[dict[str, Any]]:
    """Compare the ratios to the floors of two runs, which a slower machine changes little.

    Returns
    -------
    list of dict
        For each head and size in both, ``fit`` and ``score``: the ratio to the floor after, divided by that before.
    """
    known = {(row["head"], *(row[key] for key in SIZES)): row for row in before}
    found = []
    for row in after:
        earlier = known.get((row["head"], *(row[key] for key in SIZES)))
        if earlier is None:
            continue
        line: dict[str, Any] = {"head": row["head"], **{key: row[key] for key in SIZES}}
        for what in ("fit", "score"):
            old, new = earlier.get(f"{what}/floor"), row.get(f"{what}/floor")
            line[what] = new / old if old and new else None
        found.append(line)
    return found


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
