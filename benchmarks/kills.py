"""Kill every command that writes (kill -9) at random moments, and check that nothing is lost.

After each kill, the cache must be as before or as after the command, or report what is missing. After several kills,
the command runs to its end, and must end exactly like one that was never killed. Commands run in forks of a process
that has imported everything, which saves the start of an interpreter.
"""

from __future__ import annotations

__all__ = ["kill_command"]

import os
import random
import shutil
import signal
import time
from pathlib import Path

from breaking import again, arguments, over_commands
from commands import Command, World, judge, observe, prepare

IN_A_ROW = 4
"""Number of kills before a command runs to its end."""


def _fork(command: Command, world: World) -> int:
    """Run a command in a fork, and return the process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = command.line(world).code
        finally:
            os._exit(code)
    return child


def kill_command(
    command: Command, inputs: Path, folder: Path, kills: int, seed: int = 0
) -> tuple[int, list[str]]:
    """Kill a command at random moments; return the number of kills of a running command, and the faults.

    Parameters
    ----------
    command : Command
        The command.
    inputs, folder : Path
        Inputs, and an empty folder to work in.
    kills : int
        Number of kills.
    seed : int
        Seed of the random moments.
    """
    base = prepare(command, inputs, folder / "base")
    before = observe(base)
    whole = base.copy(folder / "whole")
    usual = command.line(whole)
    after = observe(whole)
    length = 0.0
    for run in range(2):
        start = time.perf_counter()
        os.waitpid(_fork(command, base.copy(folder / f"timed-{run}")), 0)
        length = time.perf_counter() - start
    rng, done, wrong = random.Random(seed), 0, []
    world, misses = base.copy(folder / "world"), 0
    while done < kills and misses < 10 * kills:
        child = _fork(command, world)
        time.sleep(rng.uniform(0, length))
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        done, misses = done + killed, misses + (not killed)
        length *= 1.1 if killed else 0.9  # adapts to the load of the machine
        problem = judge(observe(world), before, after)
        if problem:
            wrong.append(f"{command.name}: kill {done}: {problem}")
        if killed and done % IN_A_ROW and done < kills:
            continue
        if problem := again(command, world, usual, after):
            wrong.append(f"{command.name}: after kill {done}: {problem}")
        shutil.rmtree(world.root)
        world = base.copy(folder / "world")
    shutil.rmtree(folder)
    return done, wrong


def main() -> None:
    """Kill every command."""
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=60, help="kills of each command (a third for slow ones)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def attempt(command: Command, inputs: Path, folder: Path) -> tuple[int, list[str]]:
        kills = max(options.kills // 3, 1) if command.slow else options.kills
        return kill_command(command, inputs, folder, kills, options.seed)

    over_commands(options, "kills", "kills", attempt)


if __name__ == "__main__":
    main()
