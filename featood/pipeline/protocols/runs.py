"""Networks that were trained several times, and the results of their runs."""

from __future__ import annotations

__all__ = [
    "Failure",
    "Network",
    "Plan",
    "RunSets",
    "columns_of",
    "evaluate_runs",
    "find_networks",
    "in_all",
    "open_run",
    "select_run",
    "summary",
]

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from featood.cache.feature_cache import FeatureCache, slug
from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, FeatoodError, UsageError
from featood.metrics import mean_and_error
from featood.pipeline.protocols.training_rows import training_rows
from featood.pipeline.resolve import TestSets, find_test_sets
from featood.pipeline.selection import OOD, Selection, select
from featood.reporter import SILENT, Reporter

T = TypeVar("T")
K = TypeVar("K")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to evaluate on, for every protocol."""

    dataset: str = ""
    """In-distribution dataset; by default the newest of the run."""
    outliers: Sequence[str] = ()
    """Out-of-distribution sets."""
    suites: Sequence[str] = ()
    """Named lists of them."""
    data_dir: str | None = None
    """Folder of the images of sets that are not in the cache."""


class Network(NamedTuple):
    """A network, and the backbones in the cache that are its runs."""

    name: str
    runs: tuple[str, ...]
    """Names of the backbones, in alphabetical order."""


class Failure(NamedTuple):
    """A run that could not be evaluated."""

    run: str
    reason: str


class RunSets(NamedTuple):
    """The sets of one run."""

    trained_on: FeatureSet
    """The rows that the network was trained on."""
    held_out: FeatureSet
    """The rows that its training held out."""
    test: FeatureSet
    outliers: dict[str, FeatureSet]
    """Out-of-distribution sets by name."""
    origin: str
    """How the training rows were divided."""


def find_networks(cache: FeatureCache, texts: Sequence[str], dataset: str = "") -> list[Network]:
    """Find the runs of networks among the backbones of a cache.

    Parameters
    ----------
    cache : FeatureCache
    texts : sequence of str
        Each describes one network: names or patterns (``plain-*``) of backbones, separated by commas, with its name in
        front if it is not to be derived from them: ``plain=plain-0,plain-1``.
    dataset : str
        In-distribution dataset; by default any.

    Raises
    ------
    DataError
        If nothing matches.
    UsageError
        If two networks have the same name, or one backbone is listed twice.
    """
    names = sorted(
        {
            entry.backbone
            for entry in cache.entries()
            if (not dataset or entry.dataset == slug(dataset))
            and (entry.damage is not None or entry.manifest.role != OOD)
        }
    )
    networks = [_network(text, names, cache) for text in texts]
    runs = [run for network in networks for run in network.runs]
    for listed in ([network.name for network in networks], runs):
        if repeated := next((name for name in listed if listed.count(name) > 1), None):
            raise UsageError(f"{repeated} is listed twice; name each network once, as NAME=BACKBONE,BACKBONE")
    return networks


def _network(text: str, names: Sequence[str], cache: FeatureCache) -> Network:
    name, named, patterns = text.rpartition("=")
    runs: list[str] = []
    for pattern in filter(None, patterns.split(",")):
        found = fnmatch.filter(names, pattern)
        if not found:
            raise DataError(
                f"no backbone of the cache {cache.root} matches '{pattern}' (it holds: {', '.join(names)}); "
                "extract its features first"
            )
        runs += [run for run in found if run not in runs]
    if not runs:
        raise UsageError(
            f"'{text}' names no backbone; write NAME=BACKBONE,BACKBONE or a pattern such as plain-*"
        )
    return Network(name if named else patterns.split(",")[0].strip("*?-_@") or "network", tuple(sorted(runs)))


def select_run(
    cache: FeatureCache, run: str, plan: Plan, reporter: Reporter = SILENT
) -> tuple[Selection, TestSets]:
    """Select a run, and find the sets to score; out-of-distribution sets that are not in the cache are extracted.

    Raises
    ------
    DataError, Mismatch
        If a set is missing or cannot be used.
    """
    selection = select(cache, run, plan.dataset, plan.data_dir)
    return selection, find_test_sets(selection, plan.outliers, plan.suites, reporter=reporter)


def open_run(
    cache: FeatureCache,
    run: str,
    plan: Plan,
    *,
    share: float = 0.1,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> RunSets:
    """Open the sets of a run, its training rows divided as by :func:`training_rows`.

    Raises
    ------
    DataError, Mismatch
        If a set is missing or cannot be used.
    """
    selection, sets = select_run(cache, run, plan, reporter)
    parts = training_rows(selection.open(selection.train_split()), share, seed)
    reporter.line(f"{run}: {parts.origin}")
    return RunSets(parts.trained_on, parts.held_out, sets.test, sets.outliers, parts.origin)


def evaluate_runs(
    runs: Iterable[str], evaluate: Callable[[str], T], reporter: Reporter = SILENT
) -> tuple[dict[str, T], list[Failure]]:
    """Evaluate each run; one that fails is reported and listed with the reason, unless its cause is a wrong option."""
    done: dict[str, T] = {}
    failed = []
    for run in runs:
        try:
            done[run] = evaluate(run)
        except UsageError:
            raise
        except FeatoodError as error:
            failed.append(Failure(run, str(error)))
            reporter.line(f"{run} failed: {error}")
    return done, failed


def columns_of(values: Iterable[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean of each metric over the runs, its standard error as ``NAME_se``, and its ``NAME_values``."""
    moments = summary(values)
    columns: dict[str, Any] = {}
    for name, mean in moments["mean"].items():
        columns[name], columns[f"{name}_se"] = mean, moments["standard_error"][name]
        columns[f"{name}_values"] = moments["values"][name]
    return columns


def in_all(results: Iterable[Mapping[K, Any]]) -> list[K]:
    """Return the keys that all mappings have, in the order of the first; a set of a suite may be missing for some."""
    first, *others = results
    return [key for key in first if all(key in other for other in others)]


def summary(values: Iterable[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Return ``mean``, ``standard_error`` and ``values`` of each metric over the runs; see `mean_and_error`.

    The standard error of a single run is None.
    """
    rows = list(values)
    columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}
    moments = {key: mean_and_error(column) for key, column in columns.items()}
    return {
        "mean": {key: mean for key, (mean, _) in moments.items()},
        "standard_error": {key: None if math.isnan(error) else error for key, (_, error) in moments.items()},
        "values": columns,
    }
