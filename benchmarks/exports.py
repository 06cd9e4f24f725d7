"""Exports of all heads on synthetic features: which can be exported, how their scores differ, and their speed.

Each head is fitted with the options of the conformance tests, written by ``featood.pipeline.export``, and run in the
runtime of the format. Times are for scoring, of one row and of many.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show

from featood import FeatureSet
from featood.errors import FeatoodError
from featood.heads import list_heads
from featood.heads.base.head import Head
from featood.pipeline.export import export_head
from featood.pipeline.export.formats import FORMATS
from featood.speed.environment import environment
from featood.speed.timing import seconds
from featood.testing import example_sets
from featood.testing.check import Subject

FEW = 1


def measured(head: Head, data: FeatureSet, path: Path, columns: list[str], repeat: int) -> dict[str, float]:
    """Return milliseconds of the head and of the file, for one row and for all."""
    run = FORMATS[path.suffix].load(path.read_bytes())
    times = {}
    for count in (FEW, len(data)):
        rows = data.rows(slice(0, count))
        values = [np.asarray(rows.logits if name == "logits" else rows.feature(name)) for name in columns]
        run(values)  # the first run allocates
        for who, call in (
            ("head", lambda rows=rows: head.score(rows)),
            ("file", lambda values=values: run(values)),
        ):
            times[f"{who} ms, {count} rows"] = 1e3 * seconds(call, repeat)[0]
    return times


def exported(name: str, data: FeatureSet, folder: Path, suffix: str, repeat: int) -> dict[str, Any]:
    """Fit and export a head; return a row of the table."""
    row: dict[str, Any] = {"head": name}
    head, path = Subject.of(name).fitted, folder / f"head{suffix}"
    start = time.perf_counter()
    try:
        made = export_head(head, data, path)
    except FeatoodError as error:
        return {**row, "why not": str(error)}
    took = time.perf_counter() - start
    times = measured(head, data, path, list(made.inputs), repeat)
    return {**row, "difference": made.difference, "export s": took, "kB": path.stat().st_size / 1e3, **times}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", nargs="*", help="names of heads (default: all)")
    parser.add_argument("--format", default=".onnx", choices=sorted(FORMATS))
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    test = example_sets()[1]
    data = dataclasses.replace(test.rows(np.resize(np.arange(len(test)), given.rows)), name="synthetic")
    with tempfile.TemporaryDirectory() as folder:
        found = [
            exported(name, data, Path(folder), given.format, given.repeat)
            for name in given.heads or list_heads()
        ]
    done, refused = ([row for row in found if ("why not" in row) == kind] for kind in (False, True))
    if done:
        show(f"exported to {given.format}", done)
    if refused:
        show("refused", refused)
    print(f"{len(done)} of {len(found)} heads are exported to {given.format}")
    if done:
        print(f"largest relative difference: {max(row['difference'] for row in done):.2g}")
        for count in (FEW, given.rows):
            ratios = [row[f"head ms, {count} rows"] / row[f"file ms, {count} rows"] for row in done]
            print(f"{count} rows: the file takes 1/{np.median(ratios):.1f} of the head's time (median)")
    about = environment("onnx", "onnxruntime", "onnxscript")
    save(given.json, about, exported=done, refused=refused)


if __name__ == "__main__":
    main()
