"""Seconds and peak memory of fitting and scoring heads from a cache on disk, against the number of rows.

    python benchmarks/growth.py --folder rows --rows 10000,100000 --json growth.jsonl --plot growth.svg

The rows are clustered float16 features with float32 logits and labels, written block by block. Each head fits and
scores them in a process of its own. A head whose score compares a row with all training rows (`BANKS`) scores fewer.
Seconds are those of the processor, of all threads, which other programs on the machine change little.
``peak`` is the resident memory of the whole process, in MiB, and ``start`` that before the fit, with all libraries
loaded. The last table has the exponents between the two largest sizes: 1 is proportional to the rows, 0 is constant.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from common import show

from featood.cache import ColumnSpec, FeatureCache, Manifest
from featood.cache.feature_set import Classifier
from featood.heads import create_head, head_class, list_heads
from featood.speed.environment import environment
from featood.speed.synthetic import clustered
from featood.speed.timing import in_process, peak_bytes, reset_peak

KEY = "synthetic/{rows}-{features}-{classes}/train"
OUTLIERS = 50
"""Every row whose number is a multiple is labelled as an outlier, for the heads that learn from outliers."""
BANKS = ("knn", "nnguide")
QUERIES = 8192
"""Rows to score with a bank."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # covariances of 100 classes in 2,048 features take 3.4 GB whatever the number of rows
    "gmm": {"covariance": "tied"},
    "fisher": {"members": ("energy", "mahalanobis")},
    "rank-average": {"members": ("energy", "mahalanobis")},
    "compose": {"members": ("energy", "mahalanobis")},
}
"""Options other than the defaults."""
FIGURES = ("fit", "score", "peak")


def write(cache: FeatureCache, rows: int, features: int, classes: int) -> None:
    """Write the rows, one block at a time, unless they are there already."""
    key = KEY.format(rows=rows, features=features, classes=classes)
    backbone, dataset, split = key.split("/")
    columns = {
        "avg": ColumnSpec((features,), "float16"),
        "logits": ColumnSpec((classes,), "float32"),
        "labels": ColumnSpec((), "int64"),
    }
    manifest = Manifest(
        recipe={"backbone": backbone, "main": "avg"},
        data={"dataset": dataset, "split": split, "inputs_sha256": ""},
        columns=columns,
        rows=rows,
        store="zarr",
        main="avg",
    )
    classifier = clustered(1, features, classes, 0).classifier
    assert classifier is not None
    with cache.writer(key, manifest, Classifier(*classifier)) as writer:
        for block in writer.pending():
            span = writer.span(block)
            made = clustered(span.stop - span.start, features, classes, seed=block)
            labels = made.labels.copy()  # type: ignore[union-attr]
            labels[-span.start % OUTLIERS :: OUTLIERS] = -1
            writer.write(block, {"avg": made.features["avg"], "logits": made.logits, "labels": labels})  # type: ignore[dict-item]
        writer.finish(key)


def work(pipe: Connection, name: str, folder: Path, key: str) -> None:
    """Fit and score, and send each figure as soon as it is known."""
    warnings.simplefilter("ignore")
    data = FeatureCache(folder)[key]
    create_head(name, **OPTIONS.get(name, {}))
    pipe.send(("start", reset_peak() / 2**20))
    pipe.send(("ready", True))
    began = time.process_time()
    head = create_head(name, **OPTIONS.get(name, {})).fit(data)
    pipe.send(("fit", time.process_time() - began if head_class(name).card.learns else None))
    pipe.send(("peak", peak_bytes() / 2**20))
    data = data.rows(slice(0, QUERIES)) if name in BANKS else data
    began = time.process_time()
    head.score(data)
    pipe.send(("score", time.process_time() - began))
    pipe.send(("peak", peak_bytes() / 2**20))


def measured(name: str, rows: int, folder: Path, key: str, cap: float) -> dict[str, Any]:
    """Return the figures of one head and one size."""
    found = in_process(work, name, folder, key, cap=cap)
    return {
        "head": name,
        "rows": rows,
        **{figure: found.get(figure) for figure in (*FIGURES, "start")},
        "note": found.get("error", ""),
    }


def exponents(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Exponents p of ``figure ~ N^p`` between the two largest sizes, and bytes of peak memory per further row."""
    found = []
    for name in dict.fromkeys(row["head"] for row in rows):
        own = sorted((row for row in rows if row["head"] == name and not row["note"]), key=_rows)[-2:]
        if len(own) < 2:
            continue
        small, large = own
        line: dict[str, Any] = {"head": name}
        for figure in FIGURES:
            ends = small[figure], large[figure]
            line[figure] = math.log(ends[1] / ends[0], large["rows"] / small["rows"]) if all(ends) else None
        line["bytes/row"] = 2**20 * (large["peak"] - small["peak"]) / (large["rows"] - small["rows"])
        found.append(line)
    return found


def plot(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw each figure against the number of rows, one line for each head."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(15, 6), layout="constrained")
    labels = ("seconds to fit", "seconds to score", "peak memory (MiB)")
    for axis, figure, label in zip(canvas.subplots(1, len(FIGURES)), FIGURES, labels, strict=True):
        for number, name in enumerate(dict.fromkeys(row["head"] for row in rows)):
            points = sorted((row["rows"], row[figure]) for row in rows if row["head"] == name and row[figure])
            if points:
                axis.loglog(*zip(*points, strict=True), marker="o", label=name, color=f"C{number}")
        axis.set(xlabel="rows", ylabel=label)
    canvas.legend(*axis.get_legend_handles_labels(), fontsize="small", loc="outside right", ncols=2)
    canvas.savefig(path)


def _rows(row: Mapping[str, Any]) -> int:
    return int(row["rows"])


def main() -> None:
    """Measure each head at each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("heads", nargs="*", help="default: all heads that train no network")
    parser.add_argument("--folder", type=Path, required=True, help="cache for the rows, which are kept there")
    parser.add_argument("--rows", default="10000,100000", help="sizes, such as 10000,100000,1000000")
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--cap", type=float, default=180, help="maximum seconds of one fit or scoring")
    parser.add_argument("--json", help="file to which a line is appended for each head and size")
    parser.add_argument("--plot")
    given = parser.parse_args()
    names = given.heads or [name for name in list_heads() if not head_class(name).trains]
    found = []
    for rows in map(int, given.rows.split(",")):
        write(FeatureCache(given.folder), rows, given.features, given.classes)
        key = KEY.format(rows=rows, features=given.features, classes=given.classes)
        for name in names:
            found.append(measured(name, rows, given.folder, key, given.cap))
            if given.json:  # after each head, so that an interruption loses none
                with open(given.json, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found[-1]) + "\n")
    show("seconds and MiB", found)
    if lines := exponents(found):
        show("exponents between the two largest sizes", lines)
    if given.plot:
        plot(found, given.plot)
    print(", ".join(f"{key} {value}" for key, value in environment().items()))


if __name__ == "__main__":
    main()
