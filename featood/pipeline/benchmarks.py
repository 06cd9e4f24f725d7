"""Scoring heads on a benchmark by name."""

from __future__ import annotations

__all__ = ["ScoredBenchmark", "score_benchmark", "select_inliers"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from featood.cache.feature_cache import FeatureCache, slug
from featood.cache.feature_set import FeatureSet
from featood.data import Benchmark, get_entry, image_list_of, open_dataset
from featood.errors import DataError, UsageError
from featood.pipeline.leakage import dataset_name
from featood.pipeline.resolve import images_folder, missing_sets
from featood.pipeline.scoring import ScorePlan, Scoring, score_selection
from featood.pipeline.scoring_all import score_all
from featood.pipeline.selection import OOD, Selection, select
from featood.reporter import SILENT, Reporter


class ScoredBenchmark(NamedTuple):
    """Scores of heads on the sets of a benchmark."""

    scoring: Scoring
    """Its results have the key ``benchmark``: name, protocol, and which sets have the rows of its image lists."""
    benchmark: Benchmark
    """The benchmark, with the names of the sets that were scored."""
    missing: list[str]
    """Sets that are left out."""


def select_inliers(
    cache: FeatureCache,
    benchmark: Benchmark,
    backbone: str = "",
    data_dir: str | None = None,
    *,
    lists: bool = True,
) -> Selection:
    """Choose an extraction of the in-distribution set, with `lists` that of its image lists if there is one.

    Raises
    ------
    DataError, UsageError, CacheCorrupt, Mismatch
        As :func:`featood.pipeline.selection.select`.
    """
    listed = benchmark.listed(benchmark.dataset)
    if lists and any(entry.dataset == slug(listed) for entry in cache.entries()):
        try:
            return select(cache, backbone, listed, data_dir)
        except DataError:  # that of another backbone
            pass
    return select(cache, backbone, benchmark.dataset, data_dir)


def score_benchmark(
    selection: Selection,
    benchmark: Benchmark,
    heads: Sequence[str] = (),
    *,
    every: bool = False,
    training: bool = False,
    full_spectrum: bool = False,
    available: bool = False,
    lists: bool = True,
    reporter: Reporter = SILENT,
) -> ScoredBenchmark:
    """Score heads against the sets of a benchmark.

    Parameters
    ----------
    selection : Selection
        The extraction of the benchmark's in-distribution set; see :func:`select_inliers`.
    benchmark : Benchmark
        See :func:`featood.data.benchmark`.
    heads : sequence of str
        Names or folders of fitted heads; by default all fitted heads.
    every, training : bool
        Score all heads; see :func:`featood.pipeline.scoring_all.score_all`.
    full_spectrum : bool
        Count the benchmark's sets with a covariate shift as in-distribution, too.
    available : bool
        Leave out sets that are missing.
    lists : bool
        Score the rows of the benchmark's image lists where these and their images are there.
    reporter : Reporter
        Receives a line about each choice made, and the progress.

    Returns
    -------
    ScoredBenchmark
        The scores, and what was scored.

    Raises
    ------
    UsageError
        If the selection is of another dataset or of an out-of-distribution set, or the benchmark has no full-spectrum
        version.
    DataError
        If sets are missing: any, or with `available` all out-of-distribution sets or all shifted ones. If an image list
        is of another version of the protocol.
    """
    if selection.dataset not in {slug(benchmark.dataset), slug(benchmark.listed(benchmark.dataset))}:
        raise UsageError(
            f"{benchmark.name} has the in-distribution set {benchmark.dataset}, not {selection.dataset}; extract it, "
            "or choose another backbone or benchmark"
        )
    if full_spectrum and not benchmark.shifted:
        raise UsageError(f"{benchmark.name} has no full-spectrum version; omit --full-spectrum")
    test = selection.open(selection.test_split())
    assert test.origin is not None
    if test.origin.role == OOD:
        raise UsageError(
            f"{test.name} is an out-of-distribution set of its backbone; name one for {benchmark.dataset} by --backbone"
        )
    if lists and benchmark.lists:
        benchmark = _with_lists(selection, test, benchmark)
    shifted = benchmark.shifted if full_spectrum else ()
    wanted = [*benchmark.sets, *shifted]
    missing = missing_sets(selection, test, wanted)
    missing += _of_other_lists(
        selection, test, benchmark, [one for one in wanted if one not in missing], reporter
    )
    present, inliers = (
        [name for name in group if name not in missing] for group in (benchmark.sets, shifted)
    )
    where = (
        f"are neither in the cache nor in the folder of images: {', '.join(missing)} (see featood datasets)"
    )
    if missing and not available:
        raise DataError(
            f"{len(missing)} of {len(wanted)} sets of {benchmark.name} {where}; --available leaves them out"
        )
    if not present or (shifted and not inliers):
        raise DataError(
            f"all {'shifted' if present else 'out-of-distribution'} sets of {benchmark.name} {where}"
        )
    plan = ScorePlan(shifted=tuple(inliers))
    if every:
        scoring = score_all(selection, present, (), plan, training=training, reporter=reporter)
    else:
        scoring = score_selection(selection, heads, present, (), plan, reporter=reporter)
    scoring.results["benchmark"] = _facts(benchmark, [dataset_name(test), *inliers, *present], missing)
    return ScoredBenchmark(scoring, benchmark, missing)


def _with_lists(selection: Selection, test: FeatureSet, benchmark: Benchmark) -> Benchmark:
    """Rename the sets whose image lists are there, or whose rows are in the cache."""
    listed = {name: benchmark.listed(name) for name in (*benchmark.sets, *benchmark.shifted)}
    lacking = missing_sets(selection, test, list(listed.values()))
    names = {name: other for name, other in listed.items() if other not in lacking}
    for name in (dataset_name(test), *names.values()):
        _require_version(selection, test, benchmark, name)
    return benchmark.renamed(names)


def _of_other_lists(
    selection: Selection, test: FeatureSet, benchmark: Benchmark, names: Sequence[str], reporter: Reporter
) -> list[str]:
    """Return the sets of which only the image list of another benchmark is there, perhaps of another version."""
    found = []
    for name in names:
        if selection.cache.entry(f"{selection.backbone}/{slug(name)}/test") is None:
            other = image_list_of(name, images_folder(selection, test))
            if benchmark.lists and other not in ("", benchmark.lists):
                reporter.line(
                    f"{name}: there is only the image list of {other}, which is not that of {benchmark.name}"
                )
                found.append(name)
    return found


def _require_version(selection: Selection, test: FeatureSet, benchmark: Benchmark, name: str) -> None:
    """Raise if an image list has another number of rows than that of the protocol."""
    entry = get_entry(name)
    if name != benchmark.listed(entry.name):
        return
    where = f"{benchmark.lists}/test_{entry.lists[benchmark.lists]}"
    expected = benchmark.protocol.rows.get(where)
    if expected is None:
        return
    cached = selection.cache.entry(f"{selection.backbone}/{slug(name)}/test")
    if cached is not None:
        rows = cached.manifest.rows
    else:
        rows = len(open_dataset(name, "test", images_folder(selection, test)))
    if rows != expected:
        raise DataError(
            f"{name} has {rows} rows, and the image list {where}.txt of {benchmark.protocol.title} has {expected}: it "
            "is of another version; replace it, and remove the set from the cache, or use other files by --no-lists"
        )


def _facts(benchmark: Benchmark, scored: Sequence[str], missing: Sequence[str]) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "protocol": benchmark.protocol.title,
        "lists": benchmark.lists,
        "other_rows": [
            name for name in scored if benchmark.lists and not name.endswith(f":list={benchmark.lists}")
        ],
        "missing": list(missing),
    }
