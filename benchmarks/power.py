"""Simulate a power cut after every file operation of every command, losing what was not synced to disk.

The operations of a command are recorded in a model of the file system, which knows what is on disk: the content of a
file after it was synced, a name after its folder was synced. For each moment, and each selection of later writes and
names that survive, the folder is reconstructed. The cache must be as before or as after the command, or be refused.
"""

from __future__ import annotations

__all__ = ["Disk", "Recorder", "states", "try_command"]

import dataclasses
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from breaking import again, arguments, over_commands
from commands import Command, World, judge, observe, prepare

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclasses.dataclass(eq=False)
class Node:
    """A file or a folder: its state on disk, and later changes."""

    content: bytes | None = None
    """Synced content of a file; None for folders."""
    fresh: bytes | None = None
    """Content of a file written since."""
    names: dict[str, Node] = dataclasses.field(default_factory=dict)
    """Synced names of a folder."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A change of names in one folder, or for a rename in two, which may be lost until all are synced."""

    changes: tuple[tuple[Node, str, Node | None], ...]


class Disk:
    """The state on disk, and later steps that a power cut may lose."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = self._read(root)
        self.pending: list[Step] = []

    def _read(self, path: Path) -> Node:
        if path.is_dir():
            return Node(names={child.name: self._read(child) for child in path.iterdir()})
        return Node(content=path.read_bytes())

    def names(self, node: Node, steps: Sequence[Step]) -> dict[str, Node]:
        """Return the names in a folder after some steps."""
        names = dict(node.names)
        for step in steps:
            for folder, name, child in step.changes:
                if folder is node and child is None:
                    names.pop(name, None)
                elif folder is node and child is not None:
                    names[name] = child
        return names

    def find(self, path: str) -> Node | None:
        """Find a path, including pending steps."""
        node: Node | None = self.top
        for part in Path(path).relative_to(self.root).parts:
            node = None if node is None else self.names(node, self.pending).get(part)
        return node

    def link(self, *changes: tuple[str, Node | None]) -> None:
        """Add or remove names."""
        parents = [(self.find(os.path.dirname(path)), os.path.basename(path), node) for path, node in changes]
        self.pending.append(
            Step(tuple((folder, name, node) for folder, name, node in parents if folder is not None))
        )

    def sync(self, path: str) -> None:
        """Sync the content of a file, or the names of a folder."""
        node = self.find(path)
        if node is None:
            return
        if node.content is not None or node.fresh is not None:
            node.content, node.fresh = (node.content if node.fresh is None else node.fresh), None
            return
        rest = []
        for step in self.pending:  # in order
            mine = tuple(change for change in step.changes if change[0] is node)
            for _, name, child in mine:
                node.names.pop(name, None)
                if child is not None:
                    node.names[name] = child
            others = tuple(change for change in step.changes if change[0] is not node)
            rest += [Step(others)] if others else []
        self.pending = rest

    def restore(self, root: Path, steps: Sequence[Step], loss: str, rng: random.Random) -> None:
        """Reconstruct the folder after a power cut; `steps` survive, and `loss` says what unsynced files contain."""

        def make(node: Node, path: Path) -> None:
            if node.content is None and node.fresh is None:
                path.mkdir()
                for name, child in self.names(node, steps).items():
                    make(child, path / name)
                return
            content = node.content or b""
            if node.fresh is not None:
                lost = {"all": b"", "half": node.fresh[: len(node.fresh) // 2], "zeros": bytes(len(node.fresh)),
                        "none": node.fresh}  # fmt: skip
                content = lost[rng.choice(sorted(lost)) if loss == "any" else loss]
            path.write_bytes(content)

        make(self.top, root)


class Recorder:
    """Records the file operations of this process below a folder, with a callback after each."""

    def __init__(self) -> None:
        self.disk: Disk | None = None
        self.after: Any = None
        self._busy = False
        sys.addaudithook(self._audit)

    @contextmanager
    def recording(self, root: Path, after: Any) -> Iterator[Disk]:
        """Context manager that records operations in a model of the disk, and calls `after(disk)` after each."""
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            self._flush()
            path = os.readlink(f"/proc/self/fd/{handle}")
            if self._inside(path) or (self.disk is not None and path == str(self.disk.root)):
                assert self.disk is not None
                self.disk.sync(path)
                self._notify()

        self.disk, self.after, os.fsync = (disk := Disk(root)), after, fsync
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []
        self._written: dict[str, Node] = {}
        try:
            yield disk
            self._flush()
        finally:
            self.disk, os.fsync = None, real

    def _inside(self, path: str) -> bool:
        return (
            self.disk is not None
            and path.startswith(f"{self.disk.root}{os.sep}")
            and not path.endswith(".lock")
        )

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Remember an operation that is about to happen; it is added to the model before the next one."""
        if (
            self.disk is None
            or self._busy
            or event not in EVENTS
            or not isinstance(arguments[0], str | os.PathLike)
        ):
            return
        handle = arguments[-1] if event in ("os.remove", "os.rmdir") else -1
        paths = [os.fspath(path) for path in arguments[:2] if isinstance(path, str | os.PathLike)]
        if handle != -1:  # shutil uses handles of folders
            paths[0] = os.path.join(os.readlink(f"/proc/self/fd/{handle}"), paths[0])
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return
        if self._inside(paths[0]):
            self._flush()
            self._waiting.append((event, tuple(paths)))

    def _flush(self) -> None:
        """Add to the model what was done since: at most one operation, and writes to open files."""
        disk = self.disk
        assert disk is not None
        self._busy = True
        for event, paths in self._waiting:
            if event == "open" and os.path.exists(paths[0]):
                if disk.find(paths[0]) is None:
                    disk.link((paths[0], Node(fresh=b"")))
                node = disk.find(paths[0])
                assert node is not None
                self._written[paths[0]] = node
            elif event == "os.mkdir" and disk.find(paths[0]) is None:
                disk.link((paths[0], Node()))
            elif event in ("os.remove", "os.rmdir") and not os.path.lexists(paths[0]):
                disk.link((paths[0], None))
                self._written.pop(paths[0], None)
            elif event == "os.rename" and not os.path.lexists(paths[0]):
                node = disk.find(paths[0])
                disk.link((paths[0], None), (paths[1], node))
                self._written.pop(paths[0], None)
        done, self._waiting = bool(self._waiting), []
        for path, node in self._written.items():
            if not os.path.exists(path):  # a parent folder was renamed
                continue
            content = Path(path).read_bytes()
            if content != (node.content if node.fresh is None else node.fresh):
                node.fresh = content
        self._busy = False
        if done:
            self._notify()

    def _notify(self) -> None:
        self._busy = True
        try:
            self.after(self.disk)
        finally:
            self._busy = False


def states(disk: Disk, rng: random.Random, draws: int) -> list[tuple[Sequence[Step], str]]:
    """List possible outcomes of a power cut: all steps survive, none, all but one, only one, or a random selection."""
    steps = disk.pending
    kept: list[Sequence[Step]] = [steps, []]
    kept += [[other for other in steps if other is not step] for step in steps]
    kept += [[step] for step in steps]
    kept += [[step for step in steps if rng.random() < 0.5] for _ in range(draws)]
    distinct = {tuple(map(id, choice)): choice for choice in kept}
    return [(choice, loss) for choice in distinct.values() for loss in ("none", "any")]


def try_command(
    command: Command, inputs: Path, folder: Path, recorder: Recorder, share: float = 1.0, draws: int = 3
) -> tuple[int, list[str]]:
    """Simulate a power cut at every moment of a command; return the number of states read, and the faults.

    After the command has ended, nothing may be lost.

    Parameters
    ----------
    command : Command
        The command.
    inputs, folder : Path
        Inputs, and an empty folder to work in.
    recorder : Recorder
        The instance of the process.
    share : float
        Share of the states to read, drawn at random.
    draws : int
        Number of random selections of surviving steps at each moment.
    """
    base = prepare(command, inputs, folder / "base")
    before = observe(base)
    whole, rng = base.copy(folder / "whole"), random.Random(0)
    left: list[Path] = []

    def cut(disk: Disk) -> None:
        for steps, loss in states(disk, rng, draws):
            if rng.random() < share:
                left.append(folder / f"state-{len(left)}")
                disk.restore(left[-1], steps, loss, rng)

    with recorder.recording(whole.root, cut) as disk:
        usual = command.line(whole)
    after, ended, share = observe(whole), len(left), 1.0
    cut(disk)
    wrong = []
    for number, root in enumerate(left):
        world = World(inputs, root)
        problem = _unreadable(world, before, after, number >= ended)
        if not problem and number % 10 == 0:  # from any state, the command must end as usual
            problem = again(command, world, usual, after)
        if problem:
            when = "after it ended" if number >= ended else "in between"
            wrong.append(f"{command.name}: state {number} of {len(left)}, {when}: {problem}")
        shutil.rmtree(root)
    shutil.rmtree(folder)
    return len(left), wrong


def _unreadable(world: World, before: dict[str, str], after: dict[str, str], done: bool) -> str:
    try:
        return judge(observe(world), before, after, done)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Try every command."""
    parser = arguments(__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the states to try")
    parser.add_argument("--slow", type=float, default=0.1, help="factor on this share for slow commands")
    parser.add_argument(
        "--draws", type=int, default=3, help="random selections of surviving steps at each moment"
    )
    options, recorder = parser.parse_args(), Recorder()

    def attempt(command: Command, inputs: Path, folder: Path) -> tuple[int, list[str]]:
        share = options.share * (options.slow if command.slow else 1)
        return try_command(command, inputs, folder, recorder, share, options.draws)

    over_commands(options, "power cuts", "states", attempt)


if __name__ == "__main__":
    main()
