"""The content of the page of a leaderboard, from its finished fits."""

from __future__ import annotations

__all__ = ["tables"]

from collections.abc import Collection, Sequence
from typing import Any

from featood.errors import DataError
from featood.heads import heads_by_family
from featood.pipeline.leaderboard.fits import Sets
from featood.pipeline.leaderboard.plan import Benchmark
from featood.pipeline.leaderboard.results import Fit, Results
from featood.pipeline.leaderboard.standings import LEVEL, mean_ranks, standings
from featood.pipeline.leaderboard.work import Work


def tables(work: Work, results: Results) -> dict[str, Any]:
    """Return what the page shows.

    Parameters
    ----------
    work : Work
    results : Results

    Returns
    -------
    dict
        ``benchmarks``: by name, groups and rows of the sets, `standings`, heads that were left out with the reason, and
        heads that were not fitted yet; ``pending``: names of benchmarks without a scored head; ``ranking``: see
        `mean_ranks`; ``families``: by head; ``plan``; ``versions``: of the libraries, each with all that occur.

    Raises
    ------
    DataError
        If no head was scored.
    """
    plan, found = work.plan, {}
    versions: dict[str, set[str]] = {}
    for benchmark in plan.benchmarks:
        own = {
            job: results.finished(job, settings)
            for job, settings in work.jobs.items()
            if job.benchmark == benchmark
        }
        fits = [fit for fit in own.values() if fit is not None]
        for fit in fits:
            for name, version in fit.line["versions"].items():
                versions.setdefault(name, set()).add(version)
        if any(fit.ranks for fit in fits):
            found[benchmark.name] = _table(benchmark, work.sets[benchmark], fits, {job.head for job in own})
    if not found:
        raise DataError(f"{results.file} has no scored head of this plan, so there is no page")
    return {
        "benchmarks": found,
        "pending": [benchmark.name for benchmark in plan.benchmarks if benchmark.name not in found],
        "ranking": mean_ranks(
            {
                benchmark.name: found[benchmark.name]["standings"]
                for benchmark in plan.benchmarks
                if benchmark.ranked and benchmark.name in found
            }
        ),
        "families": {card.name: family for family, cards in heads_by_family().items() for card in cards},
        "plan": {
            "level": LEVEL,
            "seeds": plan.seeds,
            "epochs": plan.epochs,
            "note": plan.note,
            "options": {head: dict(options) for head, options in plan.options.items()},
        },
        "versions": {name: sorted(each) for name, each in versions.items()},
    }


def _table(benchmark: Benchmark, sets: Sets, fits: Sequence[Fit], heads: Collection[str]) -> dict[str, Any]:
    scored = [fit for fit in fits if fit.ranks]
    names = {fit.line["head"] for fit in scored}
    reasons = {fit.line["head"]: fit.line["left_out"] for fit in fits if fit.line["head"] not in names}
    return {
        "groups": benchmark.groups,
        "fitted_on": len(sets.train),
        "divided": bool(benchmark.test_share),
        "rows": {
            benchmark.dataset: len(sets.test),
            **{name: len(odd) for name, odd in sets.outliers.items()},
        },
        "standings": standings(scored, benchmark.groups),
        "left_out": reasons,
        "missing": sorted(set(heads) - names - set(reasons)),
    }
