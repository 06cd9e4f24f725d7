"""One fit of a leaderboard: a head on a backbone with a seed, and its results as one line of JSON."""

from __future__ import annotations

__all__ = [
    "Job",
    "Sets",
    "fit_and_score",
    "jobs_of",
    "left_out",
    "open_sets",
    "ranks_of",
    "settings_of",
    "trains",
]

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from featood.cache import FeatureCache, FeatureSet, library_versions
from featood.errors import CacheCorrupt, FeatoodError, Mismatch
from featood.heads import create_head, head_class, list_heads
from featood.heads.artefacts.artefact import options_as_json
from featood.heads.base.head import Head
from featood.heads.compositions._composition import Composition
from featood.heads.compositions._members import join_member, split_member
from featood.pipeline.comparison import Uncertainty
from featood.pipeline.derived_sets import hold_out
from featood.pipeline.fitting import fit
from featood.pipeline.leaderboard.plan import Benchmark, Plan
from featood.pipeline.presets import choose_preset, options_for_tables
from featood.pipeline.scoring import score
from featood.pipeline.selection import select
from featood.pipeline.variant_labels import variant_label
from featood.sealed import digest


class Sets(NamedTuple):
    """The sets of a benchmark."""

    train: FeatureSet
    test: FeatureSet
    outliers: dict[str, FeatureSet]
    """Out-of-distribution sets by name."""
    contents: dict[str, str]
    """Digest of the values of each set in the cache, by key."""


def open_sets(cache: FeatureCache, benchmark: Benchmark) -> Sets:
    """Open the sets of a benchmark; nothing is extracted.

    Raises
    ------
    DataError
        If a set is not in the cache.
    Mismatch
        If a set was extracted with another backbone or other settings.
    """
    known = select(cache, benchmark.backbone, benchmark.dataset)
    test = whole = known.open(known.test_split())
    if benchmark.test_share:
        kept, test = hold_out(whole, benchmark.test_share, seed=0)
        # heads record the name of what they were fitted on, which is not what they are scored on
        train = dataclasses.replace(kept, name=f"{whole.name}, {len(kept)} rows to fit")
    else:
        train = whole = known.open(known.train_split())
    outliers = {}
    for name in (name for group in benchmark.groups.values() for name in group):
        odd = select(cache, known.backbone, name)
        outliers[name] = odd.open(odd.test_split())
        if outliers[name].fingerprint != test.fingerprint:
            raise Mismatch(
                f"{outliers[name].name} was extracted with other settings than {test.name}; extract it again"
            )
    sets = (whole, test, *outliers.values())
    contents = {part.name: part.content for part in sets if part.content}
    return Sets(train, test, outliers, contents)


class Job(NamedTuple):
    """One fit."""

    benchmark: Benchmark
    head: str
    seed: int | None
    """None if the head has no seed."""

    @property
    def label(self) -> str:
        """Name of the fit in the results."""
        return self.head if self.seed is None else variant_label(self.head, {"seed": self.seed})

    @property
    def name(self) -> str:
        """Benchmark and label."""
        return f"{self.benchmark.name}/{self.label}"


def jobs_of(plan: Plan, benchmark: Benchmark) -> Iterator[Job]:
    """List the fits of all heads on a benchmark."""
    for head in list_heads():
        seeded = "seed" in create_head(head).options
        seeds: Sequence[int | None] = range(plan.seeds) if seeded else [None]
        yield from (Job(benchmark, head, seed) for seed in seeds)


def make_head(plan: Plan, job: Job, train: FeatureSet) -> tuple[Head, str]:
    """Return the unfitted head of a job, with the published settings for the kind of network, and a line about them.

    Seed and epochs of the plan are also those of the members of a composition that name none.
    """
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in plan.options.get(job.head, {}).items()
    }
    preset, note = own.pop("preset", None), ""
    if preset is None and head_class(job.head).presets:
        preset, note = choose_preset(job.head, train)
    tabular, of_table = options_for_tables(job.head, train, preset, own)
    note, own = "; ".join(filter(None, (note, of_table))), {**tabular, **own}
    head = create_head(job.head, preset, **own)
    given = _common(plan, job, head)
    if isinstance(head, Composition):
        members = own.pop("members", type(head).members)
        given["members"] = tuple(_member(plan, job, text) for text in members)
    return dataclasses.replace(head, **{**given, **own}), note


def _member(plan: Plan, job: Job, text: str) -> str:
    name, options = split_member(text)
    return join_member(name, {**_common(plan, job, create_head(name)), **options})


def _common(plan: Plan, job: Job, head: Head) -> dict[str, Any]:
    """Return the options that the plan sets for every head that has them."""
    given: dict[str, Any] = {"seed": job.seed} if "seed" in head.options else {}
    if plan.epochs is not None and head.trains and "epochs" in head.options:
        given["epochs"] = plan.epochs
        given |= {"updates": 0} if "updates" in head.options else {}  # a preset's number would count instead
    return given


def trains(plan: Plan, job: Job, sets: Sets) -> bool:
    """Return whether a job trains a network, which takes minutes."""
    head, _ = make_head(plan, job, sets.train)
    return any(part.trains for part in head.create_members() or [head])


def settings_of(plan: Plan, job: Job, sets: Sets) -> str:
    """Return a digest of everything that determines the results of a job, besides the versions of libraries."""
    return digest(
        {
            "head": options_as_json(make_head(plan, job, sets.train)[0]),
            "contents": sets.contents,
            "groups": {name: list(group) for name, group in job.benchmark.groups.items()},
            "test_share": job.benchmark.test_share,
            "resamples": plan.resamples,
        }
    )


def fit_and_score(plan: Plan, job: Job, sets: Sets) -> tuple[dict[str, Any], np.ndarray]:
    """Fit and score a head.

    Returns
    -------
    line : dict
        The line of the results: what was fitted and scored, with digests, and the result rows with intervals; or the
        reason why the head cannot be used, under ``left_out``.
    ranks : ndarray of shape [N]
        Rank of the score of each row, of all sets in their order; see `ranks_of`. Empty if the head was left out.

    Raises
    ------
    CacheCorrupt
        If a set is damaged.
    """
    try:
        head, note = make_head(plan, job, sets.train)
        if head.learns:
            fit(head, sets.train, notes=[note] if note else [])
        how = Uncertainty("bootstrap", resamples=plan.resamples)
        scoring = score({job.label: head}, sets.test, sets.outliers, intervals=how)
    except CacheCorrupt:
        raise
    except FeatoodError as error:
        return left_out(plan, job, sets, str(error)), np.empty(0, np.uint8)
    results = scoring.results
    line = {
        **_about(plan, job, sets),
        "rows": results["rows"],
        "evidence": results["evidence"],
        "notes": list(head.record.notes) if head.learns else [note] * bool(note),
    }
    try:
        line = json.loads(json.dumps(line, allow_nan=False))  # the values that are read back
    except ValueError:
        return left_out(plan, job, sets, "gives results that are not finite"), np.empty(0, np.uint8)
    return line, ranks_of([scoring.scores[job.label, name] for name in scoring.sets])


def left_out(plan: Plan, job: Job, sets: Sets, reason: str, **facts: Any) -> dict[str, Any]:
    """Return the line of a head that cannot be used, with the reason."""
    return {**_about(plan, job, sets), "left_out": reason, **facts}


def _about(plan: Plan, job: Job, sets: Sets) -> dict[str, Any]:
    return {
        "benchmark": job.benchmark.name,
        "label": job.label,
        "head": job.head,
        "seed": job.seed,
        "settings": settings_of(plan, job, sets),
        "fitted_on": {"set": sets.train.name, "rows": len(sets.train), "fingerprint": sets.train.fingerprint},
        "contents": sets.contents,
        "versions": library_versions(),
    }


def ranks_of(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rank of each score among those of all sets, equal ones sharing a rank, in the smallest type.

    AUROC and the tests of its differences depend on scores only by their ranks.
    """
    ranks = np.unique(np.concatenate(scores), return_inverse=True)[1]
    return ranks.astype(np.min_scalar_type(int(ranks.max())))
