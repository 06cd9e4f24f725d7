"""Make the k-th file operation of every command fail, for every k and several errors, and check the cache.

After each failure, the cache must be as before or as after the command, or report what is missing. The command must
have ended with an exit code from 2 to 4 and one line, or have completed, and when run again it must end as without the
failure.
"""

from __future__ import annotations

__all__ = ["KINDS", "Faults", "try_command"]

import errno
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from breaking import again, arguments, over_commands
from commands import Command, Outcome, judge, observe, prepare

KINDS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}
WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.scandir", "os.listdir")
"""Audit events of the interpreter."""


class _File:
    """A file whose writes count as operations; a failing write writes half of its content."""

    def __init__(self, file: Any, step: Callable[[str, str], None]) -> None:
        self._file, self._step = file, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: Any) -> int:
        try:
            self._step("write", self._file.name)
        except OSError:
            self._file.write(memoryview(content).cast("B")[: memoryview(content).nbytes // 2])
            raise
        return self._file.write(content)


class Faults:
    """Counts the file operations below some folders, and makes one of them fail."""

    def __init__(self) -> None:
        self.roots: tuple[str, ...] = ()
        self.count, self.target, self.error = 0, 0, errno.EIO
        self.hit = ""
        sys.addaudithook(self._audit)

    @contextmanager
    def failing(self, roots: tuple[Path, ...], target: int = 0, error: int = errno.EIO) -> Iterator[None]:
        """Context manager in which the `target`-th operation fails (0: none)."""
        import fcntl

        from featood import files

        real = os.fsync, fcntl.flock
        files.open = self._open  # type: ignore[attr-defined]
        os.fsync, fcntl.flock = self._stepping("fsync", os.fsync), self._stepping("flock", fcntl.flock)
        self.count, self.target, self.error, self.hit = 0, target, error, ""
        self.roots = tuple(map(str, roots))
        try:
            yield
        finally:
            self.roots = ()
            os.fsync, fcntl.flock = real
            del files.open  # type: ignore[attr-defined]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.roots and event in WATCHED and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if path.startswith(self.roots):
                self._step(event, path)

    def _step(self, event: str, path: str) -> None:
        if not self.roots:
            return
        self.count += 1
        if self.count == self.target:
            self.hit = f"{event} {path}"
            raise OSError(self.error, os.strerror(self.error), path)

    def _open(self, path: Any, mode: str = "r", **options: Any) -> Any:
        file = open(path, mode, **options)  # noqa: SIM115  (returned)
        return file if "r" in mode and "+" not in mode else _File(file, self._step)

    def _stepping(self, event: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(handle: Any, *arguments: Any) -> Any:
            self._step(event, "")
            return real(handle, *arguments)

        return call


def complaint(outcome: Outcome, usual: Outcome) -> str:
    """Return what is wrong with the result of a command; empty if it is as usual, or a refusal in one line."""
    if outcome.code == usual.code:
        return ""
    errors = [line for line in outcome.text.splitlines() if line.startswith("error: ")]
    if outcome.code not in (2, 3, 4) or len(errors) != 1 or "unexpected" in errors[0]:
        return f"exit code {outcome.code}: {outcome.text[-300:]}"
    return ""


def try_command(
    command: Command, inputs: Path, folder: Path, faults: Faults, share: float = 1.0, seed: int = 0
) -> tuple[int, list[str]]:
    """Make each operation of a command fail with each error; return the number of pairs tried, and the faults.

    Parameters
    ----------
    command : Command
        The command.
    inputs, folder : Path
        Inputs, and an empty folder to work in.
    faults : Faults
        The instance of the process.
    share : float
        Share of the pairs to try, drawn at random.
    seed : int
        Seed of the draw.
    """
    base = prepare(command, inputs, folder / "base")
    before = observe(base)
    whole = base.copy(folder / "whole")
    with faults.failing((whole.root, inputs)):
        usual = command.line(whole)
    operations, after = faults.count, observe(whole)
    pairs = [(number, kind) for number in range(1, operations + 1) for kind in KINDS]
    random.Random(seed).shuffle(pairs)
    pairs = pairs[: max(4, round(share * len(pairs)))]
    wrong = []
    for number, kind in pairs:
        root = folder / f"{number}-{kind}"
        world = base.copy(root)
        with faults.failing((root, inputs), number, KINDS[kind]):
            outcome = command.line(world)
        where = f"{command.name}: {kind} at operation {number} ({faults.hit.replace(str(root), '')})"
        # on some systems, EACCES means that another process holds the lock; gc then skips the set
        held = kind == "EACCES" and faults.hit.startswith("flock")
        done = outcome.code == usual.code and "error:" not in outcome.text and not held
        problem = complaint(outcome, usual) or judge(observe(world), before, after, done)
        if not problem:
            problem = again(command, world, usual, after)
        if problem:
            wrong.append(f"{where}: {problem}")
        shutil.rmtree(root)
    shutil.rmtree(folder)
    return len(pairs), wrong


def main() -> None:
    """Try every command."""
    parser = arguments(__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the pairs to try")
    parser.add_argument("--slow", type=float, default=0.1, help="factor on this share for slow commands")
    options, faults = parser.parse_args(), Faults()

    def attempt(command: Command, inputs: Path, folder: Path) -> tuple[int, list[str]]:
        share = options.share * (options.slow if command.slow else 1)
        return try_command(command, inputs, folder, faults, share)

    over_commands(options, "file operations that failed", "pairs", attempt)


if __name__ == "__main__":
    main()
