"""Losses of trainings as TensorBoard reads them."""

from __future__ import annotations

__all__ = ["TensorBoardReporter"]

from pathlib import Path
from typing import Any, Self

from featood.errors import UsageError
from featood.reporter import Reporter


class TensorBoardReporter(Reporter):
    """Writes the figures of every task to event files, and passes all on to another reporter.

    Steps that begin again (another fit) go into a folder of their own: ``fit-1``, ``fit-2`` and so on.

    Parameters
    ----------
    folder : path
        Where the files go.
    reporter : Reporter
        What lines and progress are passed on to.

    Raises
    ------
    UsageError
        When TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path, reporter: Reporter) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "--tensorboard needs the package tensorboard: pip install 'featood[tensorboard]'"
            ) from None
        self._open, self._folder, self._reporter = SummaryWriter, Path(folder), reporter
        self._writers: list[Any] = []
        self._last = 0

    def __enter__(self) -> Self:
        self._reporter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left, and leave the other reporter."""
        for writer in self._writers:
            writer.close()
        self._reporter.__exit__(*error)

    def line(self, text: str) -> None:
        """Pass a line on."""
        self._reporter.line(text)

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        """Write the figures of a step, and pass it on."""
        self._reporter.progress(what, done, total, **figures)
        if not figures:
            return
        if not self._writers or done <= self._last:
            self._writers.append(self._open(str(self._folder / f"fit-{len(self._writers) + 1}")))
        self._last = done
        for name, value in figures.items():
            self._writers[-1].add_scalar(name, value, done)
