"""Scoring heads on a benchmark by name."""

from __future__ import annotations

__all__ = ["score_benchmark"]

from collections.abc import Sequence

from featood.cache.feature_cache import slug
from featood.data import Benchmark, suite
from featood.errors import DataError, UsageError
from featood.pipeline.resolve import missing_sets
from featood.pipeline.scoring import ScorePlan, Scoring, score_selection
from featood.pipeline.scoring_all import score_all
from featood.pipeline.selection import OOD, Selection
from featood.reporter import SILENT, Reporter


def score_benchmark(
    selection: Selection,
    benchmark: Benchmark,
    heads: Sequence[str] = (),
    *,
    every: bool = False,
    training: bool = False,
    full_spectrum: bool = False,
    available: bool = False,
    reporter: Reporter = SILENT,
) -> tuple[Scoring, list[str]]:
    """Score heads against the sets of a benchmark.

    Parameters
    ----------
    selection : Selection
        The extraction of the benchmark's in-distribution set.
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
    reporter : Reporter
        Receives a line about each choice made, and the progress.

    Returns
    -------
    Scoring, list of str
        The scores, and the names of the sets that are left out.

    Raises
    ------
    UsageError
        If the selection is of another dataset or of an out-of-distribution set, or the benchmark has no full-spectrum
        version.
    DataError
        If sets are missing: any, or with `available` all out-of-distribution sets or all shifted ones.
    """
    if slug(benchmark.dataset) != selection.dataset:
        raise UsageError(
            f"{benchmark.name} has the in-distribution set {benchmark.dataset}, not {selection.dataset}; extract it, "
            "or choose another backbone or benchmark"
        )
    if full_spectrum and not benchmark.shifted:
        raise UsageError(f"{benchmark.name} has no full-spectrum version; omit --full-spectrum")
    shifted = suite(benchmark.shifted) if full_spectrum else []
    wanted = [*benchmark.sets, *shifted]
    test = selection.open(selection.test_split())
    assert test.origin is not None
    if test.origin.role == OOD:
        raise UsageError(
            f"{test.name} is an out-of-distribution set of its backbone; name one for {benchmark.dataset} by --backbone"
        )
    missing = missing_sets(selection, test, wanted)
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
        return score_all(selection, present, (), plan, training=training, reporter=reporter), missing
    return score_selection(selection, heads, present, (), plan, reporter=reporter), missing
