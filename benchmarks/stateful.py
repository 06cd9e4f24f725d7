"""Run the state machine of the cache for a given time, and report all faults with their steps.

python benchmarks/stateful.py --minutes 10
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections import Counter
from typing import Any, ClassVar

import hypothesis
from common import save, show
from hypothesis.stateful import invariant, run_state_machine_as_test

from featood.speed.environment import environment
from featood.testing.stateful import CacheMachine

MACHINES, STEPS = 10, 50
"""Machines per seed, and steps per machine."""


class Counting(CacheMachine):
    """Counts machines and steps, and compares every set after every step."""

    thorough: ClassVar[bool] = True
    machines: ClassVar[int] = 0
    counted: ClassVar[int] = 0

    @invariant()
    def agree(self) -> None:
        """Compare the sets, and count the step."""
        type(self).counted += 1
        super().agree()

    def teardown(self) -> None:
        """End the machine, and count it."""
        type(self).machines += 1
        super().teardown()


def run(minutes: float, first: int, stores: tuple[str, ...]) -> tuple[int, list[str]]:
    """Run one seed after another until the time is up; return their number, and the faults found."""
    settings = hypothesis.settings(
        max_examples=MACHINES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    end, seed, faults = time.monotonic() + 60 * minutes, first, []
    while time.monotonic() < end:
        fresh = {"stores": stores, "machines": 0, "counted": 0}
        kind = hypothesis.seed(seed)(type("Machine", (Counting,), fresh))
        try:
            run_state_machine_as_test(kind, settings=settings)
        except Exception:  # faults may be of any type
            faults.append(f"seed {seed}\n{traceback.format_exc()}")
            print(faults[-1], flush=True)
        Counting.machines += kind.machines
        Counting.counted += kind.counted
        seed += 1
    return seed - first, faults


def main() -> None:
    """Run, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--stores", default="zarr,hdf5")
    parser.add_argument("--json", help="write the counts as JSON")
    options = parser.parse_args()
    seeds, faults = run(options.minutes, options.seed, tuple(options.stores.split(",")))
    tally: Counter[str] = CacheMachine.tally
    rows: list[dict[str, Any]] = [{"what": what, "times": times} for what, times in tally.most_common()]
    show("Rules", rows)
    counts = {"seeds": seeds, "machines": Counting.machines, "steps": Counting.counted, "faults": len(faults)}
    show("Counts", [counts])
    save(options.json, environment("zarr", "h5py", "hypothesis"), stateful=[counts], rules=rows)
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
