"""A plan on a cache: its sets and its fits."""

from __future__ import annotations

__all__ = ["Work"]

from typing import NamedTuple

from featood.cache import FeatureCache
from featood.pipeline.leaderboard.fits import Job, Sets, jobs_of, open_sets, settings_of
from featood.pipeline.leaderboard.plan import Benchmark, Plan


class Work(NamedTuple):
    """A plan on a cache."""

    cache: FeatureCache
    plan: Plan
    sets: dict[Benchmark, Sets]
    jobs: dict[Job, str]
    """All fits of the plan, with the digests of their settings."""

    @classmethod
    def of(cls, cache: FeatureCache, plan: Plan) -> Work:
        """Open the sets of a plan, and list its fits.

        Raises
        ------
        DataError, Mismatch
            As :func:`featood.pipeline.leaderboard.fits.open_sets`.
        UsageError
            If the plan has an option that its head has not.
        """
        sets = {benchmark: open_sets(cache, benchmark) for benchmark in plan.benchmarks}
        jobs = [job for benchmark in plan.benchmarks for job in jobs_of(plan, benchmark)]
        return cls(cache, plan, sets, {job: settings_of(plan, job, sets[job.benchmark]) for job in jobs})
