"""What manifests and commit records hold, field by field, and whether they belong together."""

from __future__ import annotations

__all__ = ["MANIFEST", "REDO", "check_commit"]

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from featood.cache.stores import STORES, Store
from featood.errors import CacheCorrupt
from featood.names import name_problem
from featood.records import check_record, one_of, optional, whole

REDO = "run the same extract again to redo this block"


def _dtype(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"float(16|32|64)|u?int(8|16|32|64)", value)
    return "" if plain else "is no type of a column"


def _columns(value: Any) -> str:
    """Columns by name: of each the shape of a row, which has one axis (labels: none), and the type."""
    if not isinstance(value, dict) or not value:
        return "is not a mapping of columns"
    for name, spec in value.items():
        if problem := name_problem(name):
            return f"has a column whose name {problem}"
        if not isinstance(spec, list) or len(spec) != 2 or not isinstance(spec[0], list):
            return f"of {name} is not a shape and a type"
        if len(spec[0]) != (0 if name == "labels" else 1) or any(map(whole(), spec[0])):
            return f"of {name} has a shape that no such column has"
        if _dtype(spec[1]) or (name == "ids" and spec[1] != "uint8"):
            return f"of {name} has a type that no such column has"
    return ""


def _digest(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"([0-9a-f]{64})?", value)
    return "" if plain else "is no SHA-256"


RECIPE = {
    "backbone?": str,
    "weights_sha256?": str,
    "main?": str,
    "dtype?": str,
    "precision?": str,
    "transform?": {
        "channels": whole(1),
        "height": whole(1),
        "width": whole(1),
        "mean": [(int, float)],
        "std": [(int, float)],
        "interpolation?": str,
        ...: object,
    },
    "extras?": {str: {str: object}},
    "columns?": {str: list},
    "map_shape?": [whole(1)],
    "members?": [str],
    "table?": {
        "columns": [str],
        "classes": [str],
        "scale": {"kind": str, ...: object},
        ...: object,
    },
    ...: object,
}
RUN = {
    "created?": str,
    "name?": str,
    "role?": str,
    "dataset?": str,
    "data_dir?": str,
    "weights?": str,
    "weights_file?": str,
    "seed?": whole(0, 2**63),
    "taps?": [str],
    "pools?": optional([str]),
    "outputs?": str,
    "batch_size?": whole(1),
    "classes?": [str],
    "decoding?": {"bits?": whole(8, 16), "upright?": bool},
    "inputs_stamp?": str,
    "members?": [str],
    "titles?": {str: [str]},
    "table?": {"left_out?": [str], ...: object},
    ...: object,
}
MANIFEST = {
    "schema": whole(1),
    "recipe": RECIPE,
    "data": {"dataset": str, "split": str, "inputs_sha256": str, ...: object},
    "columns": _columns,
    "rows": whole(1),
    "store": one_of(STORES),
    "main": str,
    "block_rows": whole(1),
    "versions": {str: str},
    "classifier_sha256": _digest,
    "run": RUN,
    "fingerprint": str,
    "backbone_fingerprint": str,
}
COMMIT = {
    "block": whole(),
    "rows": [whole()],
    "failed": [whole()],
    "columns": {str: whole(0, 2**32 - 1)},
    "files": {str: whole()},
    "fingerprint?": str,
}


def check_commit(
    record: dict[str, Any], store: Store, block: int, fingerprint: str, path: Path
) -> dict[str, Any]:
    """Return a commit record that is one of this block of this set.

    Raises
    ------
    CacheCorrupt
        When a field holds what it cannot hold, the record is of another block or set, or its files are too small.
    """
    check_record(record, COMMIT, path, REDO)
    rows = store.span(block)
    here = {
        "block": block,
        "rows": [rows.start, rows.stop],
        "columns": sorted(store.columns),
        "fingerprint": fingerprint,
    }
    there = {
        "fingerprint": fingerprint,
        **record,
        "columns": sorted(record["columns"]),
    }  # older ones have none
    for field, value in here.items():
        if there[field] != value:
            raise CacheCorrupt(f"{path}: {field} is not that of block {block} of this set; {REDO}")
    if not all(rows.start <= row < rows.stop for row in record["failed"]):
        raise CacheCorrupt(f"{path}: failed has rows of another block than {block}; {REDO}")
    # nothing is compressed, so that small files cannot ask for large pieces of memory
    wide = (math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in store.columns.values())
    if sum(record["files"].values()) < (needed := (rows.stop - rows.start) * sum(wide)):
        raise CacheCorrupt(f"{path}: files are too small for {needed} bytes of values; {REDO}")
    return record
