"""Verification of a leaderboard: chosen fits are made and scored again, and compared with their lines."""

from __future__ import annotations

__all__ = ["verify_lines"]

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from featood.errors import UsageError
from featood.pipeline.leaderboard.fits import Job
from featood.pipeline.leaderboard.results import Results
from featood.pipeline.leaderboard.work import Work
from featood.pipeline.leaderboard.workers import make_fits
from featood.pipeline.verification import CONFIRMED, DIFFERENT, Verdict, compare_row, versions_changed
from featood.reporter import SILENT, Reporter

FACTS = ("head", "seed", "fitted_on", "contents")
"""What a line says about its fit, besides the scores."""


def verify_lines(
    work: Work,
    results: Results,
    patterns: Sequence[str],
    *,
    processes: int = 1,
    cap: float = 600.0,
    reporter: Reporter = SILENT,
) -> list[Verdict]:
    """Compute chosen fits again, from the cache alone, and compare them with their lines.

    The training of a network on another processor adds numbers in another order and ends elsewhere: a head that learns
    so is confirmed only on a machine like the one that fitted it.

    Parameters
    ----------
    work : Work
    results : Results
    patterns : sequence of str
        Patterns of names ``BACKBONE/DATASET/LABEL``, such as ``*/knn`` or ``cifar-resnet20/*``.
    processes, cap
        See :func:`featood.pipeline.leaderboard.workers.make_fits`.
    reporter : Reporter
        Receives possible reasons for differences, such as another version of a library, and the progress.

    Returns
    -------
    list of Verdict
        One for each row of the chosen lines.

    Raises
    ------
    UsageError
        If no line matches a pattern.
    """
    chosen = {
        job: line
        for job in work.jobs
        if any(fnmatch.fnmatchcase(job.name, pattern) for pattern in patterns)
        and (line := results.latest(job)) is not None
    }
    if not chosen:
        raise UsageError(
            f"no line of {results.file} matches {' or '.join(patterns)}; write BACKBONE/DATASET/LABEL"
        )
    for text in dict.fromkeys(
        text for line in chosen.values() for text in versions_changed(line["versions"])
    ):
        reporter.line(text)
    verdicts = {}
    unchanged = [job for job, line in chosen.items() if line["settings"] == work.jobs[job]]
    with closing(make_fits(work, unchanged, processes, cap)) as made:
        for number, (job, outcome) in enumerate(made):
            reporter.progress("verifying", number, len(unchanged))
            if outcome.fit:
                verdicts[job] = _compare(job, chosen[job], outcome.fit[0])
            else:
                verdicts[job] = [Verdict(job.name, DIFFERENT, f"the fit failed: {outcome.error}", 5)]
    reporter.progress("verifying", len(unchanged), len(unchanged))
    changed = "the plan, the sets or the defaults of the head have changed since"
    return [
        verdict for job in chosen for verdict in verdicts.get(job, [Verdict(job.name, DIFFERENT, changed, 5)])
    ]


def _compare(job: Job, line: Mapping[str, Any], again: Mapping[str, Any]) -> list[Verdict]:
    """Compare a line with the one computed again, row by row."""
    then, now = (body.get("left_out", "scored") for body in (line, again))
    changed = [key for key in FACTS if line.get(key) != again[key]]
    if then != now or changed:
        why = f"{then}; computed again: {now}" if then != now else f"{', '.join(changed)} differ"
        return [Verdict(job.name, DIFFERENT, why, 5)]
    if "left_out" in line:
        return [Verdict(job.name, CONFIRMED, then)]
    rows, found = ({row["ood"]: row for row in body["rows"]} for body in (line, again))
    scores, scored = (body["evidence"]["heads"][job.label]["scores"] for body in (line, again))
    id_name = next(iter(again["evidence"]["sets"]))
    return [
        compare_row(f"{job.name} on {name}", rows[name], found[name], scores, scored, (id_name, name))
        if name in rows and name in found
        else Verdict(f"{job.name} on {name}", DIFFERENT, "is not a row of both", 5)
        for name in dict.fromkeys((*found, *rows))
    ]
