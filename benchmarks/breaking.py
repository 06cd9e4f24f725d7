"""What the scripts that break commands share: their arguments, the loop over commands, and the second try."""

from __future__ import annotations

__all__ = ["again", "arguments", "over_commands"]

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from commands import COMMANDS, Command, Outcome, World, judge, make_inputs, observe
from common import environment, save, show


def again(command: Command, world: World, usual: Outcome, after: Mapping[str, str]) -> str:
    """Give a command again where it was broken, and say what is wrong; it must end as if nothing had happened."""
    outcome = command.line(world)
    found = observe(world)
    if (
        outcome.code != usual.code and found != after
    ):  # what was done already may be refused, or nothing to do
        return f"again: exit code {outcome.code}: {outcome.text[-300:]}"
    problem = judge(found, after, after, done=True)
    return problem and f"again: {problem}"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of what all of them take."""
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
    """Break every command that was chosen, the quick ones first, and print what came of it.

    Parameters
    ----------
    options : Namespace
        Of a parser that :func:`arguments` made.
    what, unit : str
        What breaks, and what is counted.
    attempt : callable
        From a command, the inputs and a folder to work in to the number of tries and what was wrong.
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
