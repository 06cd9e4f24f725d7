"""Benchmarks by name: an in-distribution set, groups of out-of-distribution sets, and what is published about them."""

from __future__ import annotations

__all__ = ["Benchmark", "Protocol", "benchmark", "list_benchmarks"]

import dataclasses
import difflib
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path

from featood.data.catalogue.suites import suite
from featood.errors import UsageError

LIST = Path(__file__).with_suffix(".toml")
"""The table, in the package."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Who defined a benchmark."""

    title: str
    page: str
    note: str
    """What has to be known in a comparison with published figures."""
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Numbers of rows of image lists ``FOLDER/SPLIT_NAME``, which differ between versions."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """An in-distribution set, and the sets to score against."""

    name: str
    dataset: str
    """In-distribution set."""
    protocol: Protocol
    groups: Mapping[str, tuple[str, ...]]
    """Out-of-distribution sets by group, such as near and far."""
    shifted: tuple[str, ...] = ()
    """Sets with the same classes, which count as in-distribution in full-spectrum detection."""
    lists: str = ""
    """Folder of the image lists that define the rows, below ``benchmark_imglist/``; empty if there are none."""
    published: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    """Published AUROC in percent by head and group, none of which was checked."""
    network: str = ""
    """The network of the published figures."""

    @property
    def sets(self) -> tuple[str, ...]:
        """All out-of-distribution sets."""
        return tuple(name for names in self.groups.values() for name in names)

    def listed(self, name: str) -> str:
        """Return the name of a set with the rows of its image list, such as ``svhn:list=cifar10``."""
        return f"{name}:list={self.lists}" if self.lists else name

    def renamed(self, names: Mapping[str, str]) -> Benchmark:
        """Return the benchmark with other names for some sets."""
        groups = {group: tuple(names.get(name, name) for name in sets) for group, sets in self.groups.items()}
        shifted = tuple(names.get(name, name) for name in self.shifted)
        return dataclasses.replace(self, groups=groups, shifted=shifted)


@functools.cache
def list_benchmarks() -> Mapping[str, Benchmark]:
    """List all benchmarks by name."""
    content = tomllib.loads(LIST.read_text("utf-8"))
    protocols = {name: Protocol(**facts) for name, facts in content["protocol"].items()}
    found = {}
    for name, facts in content["benchmark"].items():
        groups = {
            group: tuple(suite(sets) if isinstance(sets, str) else sets)
            for group, sets in facts.pop("groups").items()
        }
        published = {
            head: dict(zip(groups, figures, strict=True))
            for head, figures in facts.pop("published", {}).items()
        }
        shifted = tuple(suite(facts.pop("shifted"))) if "shifted" in facts else ()
        protocol = protocols[facts.pop("protocol")]
        found[name] = Benchmark(
            name, protocol=protocol, groups=groups, shifted=shifted, published=published, **facts
        )
    return found


def benchmark(name: str) -> Benchmark:
    """Find a benchmark by name, such as ``cifar10-openood``.

    Raises
    ------
    UsageError
        If there is none.

    Examples
    --------
    >>> benchmark("cifar10-openood").groups["near"]
    ('cifar100', 'tiny-imagenet')
    """
    known = list_benchmarks()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise UsageError(f"no benchmark is named {name!r}; there are {', '.join(near or known)}")
    return known[name]
