"""A leaderboard: heads on several backbones, each fit one line of a file that can be computed again."""

from featood.pipeline.leaderboard.fits import (
    Job,
    Sets,
    fit_and_score,
    jobs_of,
    left_out,
    open_sets,
    settings_of,
    trains,
)
from featood.pipeline.leaderboard.plan import Benchmark, Plan, read_plan
from featood.pipeline.leaderboard.results import Results
from featood.pipeline.leaderboard.standings import mean_ranks, standings
from featood.pipeline.leaderboard.tables import tables
from featood.pipeline.leaderboard.verification import verify_lines
from featood.pipeline.leaderboard.workers import Outcome, make_fits

__all__ = [
    "Benchmark",
    "Job",
    "Outcome",
    "Plan",
    "Results",
    "Sets",
    "fit_and_score",
    "jobs_of",
    "left_out",
    "make_fits",
    "mean_ranks",
    "open_sets",
    "read_plan",
    "settings_of",
    "standings",
    "tables",
    "trains",
    "verify_lines",
]
