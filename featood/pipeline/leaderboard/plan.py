"""The plan of a leaderboard: a TOML file with backbones and their near and far sets."""

from __future__ import annotations

__all__ = ["Benchmark", "Plan", "read_plan"]

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featood.errors import DataError, UsageError
from featood.heads import head_class
from featood.records import record_problem, whole


def _share(value: Any) -> str:
    inside = isinstance(value, float) and 0 < value < 1
    return "" if inside else "is not a share between 0 and 1, such as 0.5"


SCHEMA: dict[Any, Any] = {
    "benchmark": [
        {
            "backbone": str,
            "dataset": str,
            "near?": [str],
            "far?": [str],
            "test-share?": _share,
            "ranked?": bool,
        }
    ],
    "seeds?": whole(1, 1000),
    "epochs?": whole(1),
    "resamples?": whole(1),
    "note?": str,
    "options?": {str: {str: object}},
}
"""Schema of the file; see `featood.records`."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A backbone, its in-distribution dataset, and the out-of-distribution sets."""

    backbone: str
    dataset: str
    near: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    test_share: float = 0.0
    """Share of the rows of the set to score, drawn with seed 0, where the cache has no training split: heads are fitted
    on the others. 0 if there is a training split."""
    ranked: bool = True
    """Whether it counts in the mean ranks, which are over the heads that all such benchmarks have."""

    @property
    def name(self) -> str:
        """Backbone and dataset."""
        return f"{self.backbone}/{self.dataset}"

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The sets that are near and far, without an empty group."""
        groups = {"near": self.near, "far": self.far}
        return {name: sets for name, sets in groups.items() if sets}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a leaderboard compares, and how."""

    benchmarks: tuple[Benchmark, ...]
    seeds: int = 3
    """Number of fits of each head that has a seed."""
    epochs: int | None = None
    """Epochs of every head that trains a network; by default their own."""
    resamples: int = 1000
    """Resamples of the bootstrap intervals."""
    note: str = ""
    """What readers of the page should know, such as which defaults were chosen on one of its sets."""
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Options that are not the defaults, by head."""


def read_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises
    ------
    DataError
        If the file cannot be read, or is not TOML.
    UsageError
        If a key is unknown or has an invalid value, or a benchmark has no sets or is there twice.
    """
    try:
        body = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise DataError(f"{path} is not TOML: {error}") from None
    field, problem = record_problem(body, SCHEMA)
    if problem:
        raise UsageError(f"{path}: {field[:80]} {problem}; see featood leaderboard --help")
    benchmarks = tuple(map(_benchmark, body.pop("benchmark")))
    names = [benchmark.name for benchmark in benchmarks]
    for benchmark in benchmarks:
        sets = [name for group in benchmark.groups.values() for name in group]
        if not sets or len(set(sets)) < len(sets):
            why = "names a set twice" if sets else "names no set: give near = [...], far = [...]"
            raise UsageError(f"{path}: the benchmark {benchmark.name} {why}")
        if names.count(benchmark.name) > 1:
            raise UsageError(f"{path}: the benchmark {benchmark.name} is there twice")
    if not benchmarks:
        raise UsageError(f"{path} names no benchmark; it needs a table [[benchmark]]")
    for head, options in body.get("options", {}).items():
        head_class(head)  # raises if there is none
        if "seed" in options:
            raise UsageError(
                f"{path}: options.{head} has a seed; give the number of seeds of all heads, seeds = 3"
            )
    return Plan(benchmarks, **body)


def _benchmark(table: Mapping[str, Any]) -> Benchmark:
    near, far = (tuple(table.get(group, ())) for group in ("near", "far"))
    return Benchmark(
        table["backbone"],
        table["dataset"],
        near,
        far,
        table.get("test-share", Benchmark.test_share),
        table.get("ranked", Benchmark.ranked),
    )
