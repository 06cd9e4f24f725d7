"""Logging of training losses for TensorBoard."""

from __future__ import annotations

__all__ = ["TensorBoardReporter"]

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from featood.errors import UsageError
from featood.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np


class TensorBoardReporter(Reporter):
    """Writes the figures of every task to event files, and forwards everything to another reporter.

    Each fit has its own folder: ``fit-1``, ``fit-2`` and so on. A new fit is one whose steps start again.

    Parameters
    ----------
    folder : path
        Folder of the event files.
    reporter : Reporter
        Receives all lines and progress.

    Raises
    ------
    UsageError
        If TensorBoard is not installed.
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
        """Close the event files and the other reporter."""
        for writer in self._writers:
            writer.close()
        self._reporter.__exit__(*error)

    def line(self, text: str) -> None:
        """Forward a line."""
        self._reporter.line(text)

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        """Write the figures of a step, and forward it."""
        self._reporter.progress(what, done, total, **figures)
        if not figures:
            return
        writer = self._writer(done, done <= self._last)
        for name, value in figures.items():
            writer.add_scalar(name, value, done)

    def picture(self, what: str, step: int, pixels: np.ndarray) -> None:
        """Write a picture, and forward it."""
        self._reporter.picture(what, step, pixels)
        self._writer(step, step < self._last).add_image(what, pixels, step, dataformats="HWC")

    def _writer(self, step: int, new: bool) -> Any:
        """Return the writer of the fit in which a step is, which may be a new one."""
        if not self._writers or new:
            self._writers.append(self._open(str(self._folder / f"fit-{len(self._writers) + 1}")))
        self._last = step
        return self._writers[-1]
