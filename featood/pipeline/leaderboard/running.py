"""Making the fits of a plan that are missing, and keeping their results."""

from __future__ import annotations

__all__ = ["run_fits"]

from collections.abc import Collection
from contextlib import closing

from featood.pipeline.leaderboard.fits import Job, trains
from featood.pipeline.leaderboard.results import Results
from featood.pipeline.leaderboard.work import Work
from featood.pipeline.leaderboard.workers import make_fits
from featood.reporter import SILENT, Reporter


def run_fits(
    work: Work, results: Results, heads: Collection[str] = (), *, training: bool = False, processes: int = 1,
    cap: float = 600.0, reporter: Reporter = SILENT,
) -> None:  # fmt: skip
    """Make the fits that are missing, and add each to the results when it is finished.

    Parameters
    ----------
    work : Work
    results : Results
    heads : collection of str
        Names of the heads to fit; by default all.
    training : bool
        Whether to also fit heads that train a network.
    processes : int
        Number of fits at a time; see :func:`featood.pipeline.leaderboard.workers.make_fits`.
    cap : float
        Maximum seconds of a fit. A head that takes longer is left out until the cap is raised.
    reporter : Reporter
        Receives the progress, and a line about each fit that failed for another reason, which the next run repeats.
    """

    def missing(job: Job) -> bool:
        fit = results.finished(job, work.jobs[job])
        if fit is not None and fit.line.get("over_s", cap) >= cap:
            return False
        return (not heads or job.head in heads) and (
            training or not trains(work.plan, job, work.sets[job.benchmark])
        )

    wanted = list(filter(missing, work.jobs))
    reporter.line(f"{len(wanted)} of {len(work.jobs)} fits to make")
    with closing(make_fits(work, wanted, processes, cap)) as made:
        for done, (job, outcome) in enumerate(made):
            reporter.progress("fitting heads", done, len(wanted))
            if outcome.fit:
                results.add(job, *outcome.fit)
            else:
                reporter.line(f"{job.name} failed: {outcome.error}")
    reporter.progress("fitting heads", len(wanted), len(wanted))
