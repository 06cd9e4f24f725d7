"""What has become slower since a commit: runs ``featood bench`` of both in turn, and compares medians of the ratios.

    python benchmarks/compare_commits.py main knn vim --io --slower 1.2 --rounds 3

All other words are those of ``featood bench``. The other commit is checked out into a temporary folder, and runs with
the packages of this environment, so it must have the same dependencies. Work on the machine slows both alike, as they
run in turn; the ratios are to floors that each run measures itself. The exit code is 1 if a ratio has grown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import show

from featood.speed.comparison import compare, grown, ratios

HERE = Path(__file__).parents[1]


def run(tree: Path, words: Sequence[str], file: Path) -> dict[str, Any]:
    """Run the command of a tree, and return its figures."""
    command = [sys.executable, "-m", "featood", "bench", *words, "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return figures


def in_turn(
    trees: Sequence[Path], words: Sequence[str], rounds: int, folder: Path
) -> list[list[dict[str, Any]]]:
    """Return the runs of each tree."""
    found: list[list[dict[str, Any]]] = [[] for _ in trees]
    for number in range(rounds):
        for runs, tree in zip(found, trees, strict=True):
            print(f"round {number + 1} of {rounds}: {tree}", file=sys.stderr, flush=True)
            runs.append(run(tree, words, folder / "figures.json"))
    return found


def main() -> int:
    """Compare two commits; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the earlier commit; the later one is the working tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slower", type=float, default=1.3, help="factor that a ratio may grow by")
    given, words = parser.parse_known_args()
    git = ["git", "-C", str(HERE), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "commit"
        subprocess.run([*git, "add", "--detach", str(other), given.commit], check=True, capture_output=True)
        try:
            before, after = in_turn([other, HERE], words, given.rounds, Path(folder))
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    changes = compare(ratios(*before), ratios(*after))
    show(f"ratios to floors, medians of {given.rounds} runs each", changes)
    slow = grown(changes, given.slower)
    print("\n".join(slow or ["nothing has become slower"]))
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
