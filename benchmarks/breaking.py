"""Shared code of the scripts that interrupt commands: arguments, the loop over commands, and the second run."""

from __future__ import annotations

__all__ = ["again", "arguments", "over_commands"]

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from commands import COMMANDS, Command, Outcome, World, judge, make_inputs, observe
from common import save, show

from featood.speed.environment import environment


def again(command: Command, world: World, usual: Outcome, after: Mapping[str, str]) -> str:
    """Run an interrupted command again, and return what is wrong; it must end as without the interruption."""
    outcome = command.line(world)
    found = observe(world)
    if outcome.code != usual.code and found != after:  # a completed command may be refused
        return f"again: exit code {outcome.code}: {outcome.text[-300:]}"
    problem = judge(found, after, after, done=True)
    return problem and f"again: {problem}"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of the shared arguments."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", default="", help="commands whose name contains this")
    parser.add_argument("--json", help="where to write the results")
    return parser


def over_commands(
    options: argparse.Namespace,
    what: str,
    unit: str,
    attempt: Callable[[Command, Path, Path], tuple[int, list[str]]],
) -> None:
    """Interrupt every selected command, the fast ones first, and print the results.

    Parameters
    ----------
    options : Namespace
        Arguments of a parser made by :func:`arguments`.
    what, unit : str
        Title of the table, and name of the column of counts.
    attempt : callable
        Function of a command, the inputs and a working folder; returns the number of trials and the faults.
    """
    import torch

    torch.set_num_threads(1)
    rows, wrong = [], []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        inputs = make_inputs(Path(folder, "inputs"))
        for number, command in enumerate(sorted(COMMANDS, key=lambda command: command.slow)):
            if options.only not in command.name:
                continue
            tried, found = attempt(command, inputs, Path(folder, str(number)))
            wrong += found
            rows.append({"command": command.name, unit: tried, "wrong": len(found)})
            for line in [f"{command.name}: {tried} {unit}, {len(found)} wrong", *found]:
                print(line, flush=True)
    show(what, rows)
    print(f"{sum(row[unit] for row in rows)} {unit}, {len(wrong)} wrong")
    save(options.json, environment(), rows=rows, wrong=[{"what": line} for line in wrong])
