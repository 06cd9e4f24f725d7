"""Detection of single changed bytes in every file of a cache and of fitted heads.

    python benchmarks/mutations.py --count 20000

Each trial changes one byte of one file, opens the set or head of the file, and compares everything accessible to users:
the listing, every value of every column, and the classifier; for heads their options, record, tensors and scores. The
outcome of a trial is

- refused: an error for damage (exit code 4), or for a newer version (exit code 5);
- same: nothing accessible has changed, for example if the byte is white space;
- different: something has changed without an error, or another error was raised. This must not happen.

Files are also truncated, removed and swapped. Cards (README.md) are prose, and ``features.h5`` is for other programs;
they are counted separately. The lock is not changed.
"""

from __future__ import annotations

__all__ = ["make_cache", "make_heads", "mutate", "read_cache", "read_head"]

import argparse
import functools
import re
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show

from featood import create_head, load_head
from featood.cache import STORES, Classifier, ColumnSpec, FeatureCache, Manifest
from featood.cache.reader import encode_ids
from featood.errors import CacheCorrupt, DataError, Mismatch
from featood.heads.compositions.compose import compose
from featood.speed.environment import environment
from featood.speed.synthetic import clustered

KEY = "net/toy/train"
ROWS, BLOCK, SIZE = 300, 128, 6
APART = ("README.md", "features.h5")
DATA = clustered(ROWS, SIZE, 3, seed=0)
Reader = Callable[[], Any]


def make_cache(root: Path, store: str, seed: int = 0) -> FeatureCache:
    """Write a set of three blocks, with a classifier and one unreadable input."""
    data = clustered(ROWS, SIZE, 3, seed=seed)
    columns = {
        "avg": np.asarray(data.feature()),
        "std": np.asarray(data.feature())[:, :2].astype("f2"),
        "logits": np.asarray(data.logits),
        "labels": np.asarray(data.labels),
        "ids": encode_ids([f"{row}.png" for row in range(ROWS)], 8),
    }
    manifest = Manifest(
        recipe={"backbone": "net"},
        data={"dataset": "toy", "split": "train", "inputs_sha256": str(seed)},
        columns={name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()},
        rows=ROWS,
        store=store,
        main="avg",
        block_rows=BLOCK,
        run={"classes": ["a", "b", "c"]},
    )
    cache = FeatureCache(root)
    with cache.writer(KEY, manifest, Classifier(*data.classifier)) as writer:  # type: ignore[misc]
        for block in writer.pending():
            span = writer.span(block)
            lost = [5] if block == 0 else []
            writer.write(block, {name: values[span] for name, values in columns.items()}, lost)
        writer.finish(KEY)
    return cache


def read_cache(cache: FeatureCache, path: Path | None = None) -> Any:
    """Return everything accessible in the cache: the listing, the classifier and every value.

    If `path` contains values, only these are read, because the other files are unchanged.
    """
    entries = cache.entries()
    for entry in entries:
        if entry.damage is not None:
            raise entry.damage
    listing = [(entry.key, entry.committed, entry.created, entry.manifest.as_json()) for entry in entries]
    found = cache[KEY]
    linear = [np.asarray(part).tobytes() for part in found.classifier]  # type: ignore[union-attr]
    columns = {**found.features, "logits": found.logits, "labels": found.labels, "ids": found.ids}
    wanted = {part for part in (path.parts if path else ()) if part in columns} or set(columns)
    blocks = re.fullmatch(r"block-(\d+)\.h5", path.name if path else "")
    start, stop = (0, len(found)) if blocks is None else _kept(int(blocks[1]))
    raw = []
    for name in sorted(wanted):
        values = np.asarray(columns[name][start:stop])  # type: ignore[index]
        raw.append(
            (name, values.shape, list(values) if name == "ids" else (values.dtype.str, values.tobytes()))
        )
    return listing, linear, raw, found.left_out, len(found)


def _kept(block: int) -> tuple[int, int]:
    """Return the range of readable rows of a block; the unreadable one is in the first block."""
    return max(BLOCK * block - 1, 0), min(BLOCK * (block + 1), ROWS) - 1


def make_heads(root: Path) -> list[Path]:
    """Fit a head that sums over rows, one that stores rows, one that trains a network, and a composition."""
    small = {"epochs": 1, "depth": 2, "width": 4, "validation": 0.0}
    heads = [create_head("mahalanobis"), create_head("knn", k=3), create_head("mlp", **small)]
    heads = [head.fit(DATA) for head in heads]
    heads.append(compose(heads[:2], DATA))
    return [head.save(root / head.name) for head in heads]


def read_head(folder: Path) -> Any:
    """Return everything accessible in a fitted head."""
    head = load_head(folder)
    tensors = {name: (str(value.dtype), value.numpy().tobytes()) for name, value in head.state.items()}
    return head.name, head.options, head.record, tensors, np.asarray(head.score(DATA)).tobytes()


def outcome(read: Reader, expected: Any) -> str:
    """Return the outcome of reading."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = read()
    except (CacheCorrupt, Mismatch):
        return "refused"
    except DataError as error:  # a folder without head.json contains no head
        return "refused" if "no head.json" in str(error) else "different"
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return "different"
    return "same" if found == expected else "different"


def mutations(path: Path, rng: np.random.Generator) -> Iterator[bytes]:
    """Yield the content of a file with one random byte changed, indefinitely."""
    content = path.read_bytes()
    while True:
        at, change = int(rng.integers(len(content))), int(rng.integers(1, 256))
        yield content[:at] + bytes([content[at] ^ change]) + content[at + 1 :]


def mutate(files: list[Path], read: dict[Path, Reader], count: int, seed: int) -> list[dict[str, Any]]:
    """Change single bytes of files, equally often for each file, and count outcomes by kind of file.

    Parameters
    ----------
    files : list of path
        Files to change.
    read : dict
        For each file, the function that reads its set or head.
    count : int
        Total number of trials.
    seed : int
        Seed of positions and values.
    """
    rng = np.random.default_rng(seed)
    expected = {path: read[path]() for path in files}
    counts: dict[str, Counter[str]] = {}
    for number, path in enumerate(files):
        share = count * (number + 1) // len(files) - count * number // len(files)
        content, found = path.read_bytes(), counts.setdefault(kind_of(path), Counter())
        for _, changed in zip(range(share), mutations(path, rng), strict=False):
            path.write_bytes(changed)
            result = outcome(read[path], expected[path])
            found[result] += 1
            if result == "different" and path.name not in APART:
                at = next(place for place, byte in enumerate(content) if byte != changed[place])
                print(f"{path}: byte {at}: {content[at]} became {changed[at]}")
        path.write_bytes(content)
    return table(counts)


def damage(
    files: list[Path], read: dict[Path, Reader], others: dict[Path, list[Path]]
) -> list[dict[str, Any]]:
    """Truncate, remove and replace every file, and count outcomes by kind of file."""
    expected = {path: read[path]() for path in files}
    counts: dict[str, Counter[str]] = {}
    for path in files:
        content, found = path.read_bytes(), counts.setdefault(kind_of(path), Counter())
        cuts = [content[:-1], content[: len(content) // 2], b"", content + b"\0"]
        swaps = [other.read_bytes() for other in others[path]]
        for changed in [*cuts, *(swap for swap in swaps if swap != content), None]:
            path.unlink() if changed is None else path.write_bytes(changed)
            result = outcome(read[path], expected[path])
            found[result] += 1
            if result == "different" and path.name not in APART:
                print(f"{path}: {'removed' if changed is None else f'{len(changed)} bytes'}")
            path.write_bytes(content)
    return table(counts)


def kind_of(path: Path) -> str:
    """Return the kind of a file."""
    if path.parent.name == "commits":
        return "commit record"
    if path.suffix == "" or path.name.startswith("block-"):
        return "block"
    return path.name


def table(counts: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    """Convert counts to rows."""
    outcomes = ("refused", "same", "different")
    return [
        {"file": kind, **{name: found[name] for name in outcomes}} for kind, found in sorted(counts.items())
    ]


def files_in(folder: Path) -> list[Path]:
    """List the files of a set or head, except the lock."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def trials(root: Path, count: int, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Run all trials, `count` of single bytes for each store and for the heads; return a table of each."""
    found = {}
    for store in STORES:
        cache, other = make_cache(root / store, store), make_cache(root / f"{store}-other", store, seed=1)
        folder, beside = cache.folder(*KEY.split("/")), other.folder(*KEY.split("/"))
        files = files_in(folder)

        readers: dict[Path, Reader] = {path: functools.partial(read_cache, cache, path) for path in files}
        swaps = {path: [beside / path.relative_to(folder)] for path in files}
        for number, path in enumerate(files):
            swaps[path] += [other for other in files[number + 1 :] if kind_of(other) == kind_of(path)][:3]
        found[store] = mutate(files, readers, count, seed)
        found[f"{store}, damaged"] = damage(files, readers, swaps)
    readers, swaps = {}, {}
    for folder in make_heads(root / "heads"):
        readers |= {path: functools.partial(read_head, folder) for path in files_in(folder)}
    for path in readers:
        swaps[path] = [other for other in readers if other.name == path.name and other != path]
    found["heads"] = mutate(list(readers), readers, count, seed)
    found["heads, damaged"] = damage(list(readers), readers, swaps)
    return found


def main() -> int:
    """Run the trials from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=20_000, help="single bytes for each store, and for the heads"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="working folder, preferably in memory (default: a temporary folder)")
    parser.add_argument("--json", help="write the tables as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = trials(Path(folder), given.count, given.seed)
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()
    for title, rows in found.items():
        show(title, rows)
    save(
        given.json,
        environment("zarr", "h5py"),
        **{title.replace(", ", "_"): rows for title, rows in found.items()},
    )
    rows = [row for part in found.values() for row in part if row["file"] not in APART]
    bad = sum(row["different"] for row in rows)
    total = sum(row[name] for row in rows for name in ("refused", "same", "different"))
    print(f"different: {bad} of {total}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
