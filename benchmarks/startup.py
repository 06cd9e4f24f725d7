"""Run time of commands that only print information, relative to importing rich_click.

    python benchmarks/startup.py [--rounds 9]

Each command runs in its own process, in turn with ``python -c "import rich_click"``; medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from common import save, show

from featood.speed.environment import environment

FLOOR = ("-c", "import rich_click")
COMMANDS = {
    "featood --help": ("-m", "featood", "--help"),
    "featood heads": ("-m", "featood", "heads"),
    "featood fit --help": ("-m", "featood", "fit", "--help"),
    "featood fit knn --help": ("-m", "featood", "fit", "knn", "--help"),
}


def seconds(words: tuple[str, ...]) -> float:
    """Time one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="write the figures here as well")
    given = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in ("import rich_click", *COMMANDS)}
    for _ in range(given.rounds):
        for name, words in {"import rich_click": FLOOR, **COMMANDS}.items():
            found[name].append(seconds(words))
    medians = {name: statistics.median(times) for name, times in found.items()}
    rows = [
        {
            "command": name,
            "median ms": round(1000 * median),
            "ratio": round(median / medians["import rich_click"], 2),
        }
        for name, median in medians.items()
    ]
    show(f"Median of {given.rounds} runs", rows)
    save(given.json, environment(), startup=rows)


if __name__ == "__main__":
    main()
