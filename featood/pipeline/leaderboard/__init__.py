"""A leaderboard: heads on several backbones, each fit one line of a file that can be computed again."""

from featood.pipeline.leaderboard.plan import Benchmark, Plan, read_plan
from featood.pipeline.leaderboard.results import Results
from featood.pipeline.leaderboard.running import run_fits
from featood.pipeline.leaderboard.tables import tables
from featood.pipeline.leaderboard.verification import verify_lines
from featood.pipeline.leaderboard.work import Work

__all__ = ["Benchmark", "Plan", "Results", "Work", "read_plan", "run_fits", "tables", "verify_lines"]
