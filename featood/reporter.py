"""Reporting messages and progress of a job to the user."""

from __future__ import annotations

__all__ = ["SILENT", "Reporter", "TerminalReporter", "print_line"]

import contextlib
import functools
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress, TaskID


class Reporter:
    """Receives the messages and the progress of a job. This base class is silent.

    Examples
    --------
    >>> class Printing(Reporter):
    ...     def line(self, text):
    ...         print(text)
    ...
    ...     def progress(self, what, done, total, **figures):
    ...         print(f"{what}: {done} of {total}", figures)
    >>> report = Printing().task("training knn")
    >>> report(1, 10, loss=0.5)
    training knn: 1 of 10 {'loss': 0.5}
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the display of the reporter."""

    def line(self, text: str) -> None:
        """Receive one line about a choice that the job made."""

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        """Receive the progress of a task: the amount done, and figures such as its loss; total 0 means unknown."""

    def picture(self, what: str, step: int, pixels: np.ndarray) -> None:
        """Receive a picture of a task, uint8 ``[height, width, 3]``."""

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Report a task whose progress is unknown: its begin, and its end if it succeeds."""
        self.progress(what, 0, 0)
        yield
        self.progress(what, 1, 1)

    def task(self, what: str) -> Callable[..., None]:
        """Return ``report(done, total, **figures)``, which reports the progress of one task."""
        return functools.partial(self.progress, what)


SILENT = Reporter()
"""The default of every job."""


class TerminalReporter(Reporter):
    """Prints lines to standard error, and shows progress as bars on a terminal or in a notebook.

    Bars disappear when the reporter is left as a context manager.

    Parameters
    ----------
    after : float
        Seconds without bars, so that short jobs show none.
    """

    def __init__(self, after: float = 0.0) -> None:
        self._shown_at = time.monotonic() + after
        self._bars: Progress | None = None
        self._shown: bool | None = None
        self._tasks: dict[str, tuple[TaskID, int]] = {}

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        if self._bars is not None:
            self._bars.stop()

    def line(self, text: str) -> None:
        """Print one line to standard error."""
        print_line(text)

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        """Move the bar of a task; its first call adds the bar."""
        if self._shown is None and time.monotonic() >= self._shown_at:
            self._open()
        if self._bars is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total or None, figures=""), done
        task, begun = self._tasks[what]
        elapsed = self._bars.tasks[self._bars.task_ids.index(task)].elapsed or 0
        shown = speed(done - begun, elapsed) + " ".join(
            f"{name} {value:.4g}" for name, value in figures.items()
        )
        self._bars.update(task, completed=done, total=total or None, figures=shown)

    def _open(self) -> None:
        """Start the bars, unless standard error is neither a terminal nor a notebook."""
        from rich.console import Console

        console = Console(stderr=True)
        self._shown = sys.stderr.isatty() or console.is_jupyter
        if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
            self._shown = False
            self.line("progress bars in a notebook need ipywidgets: pip install 'featood[notebook]'")
        if not self._shown:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True)
        self._bars.start()


def speed(steps: int, seconds: float) -> str:
    """Return the speed of a task, followed by a space; per step if it is slower than one step a second.

    Examples
    --------
    >>> speed(3000, 2.0), speed(2, 9.0), speed(0, 9.0)
    ('1,500/s ', '4.5 s/step ', '')
    """
    if seconds <= 0.5 or steps <= 0:
        return ""
    return f"{steps / seconds:,.0f}/s " if steps >= seconds else f"{seconds / steps:.1f} s/step "


def print_line(text: str) -> None:
    """Print one line to standard error, since standard output is for results.

    A closed standard error is ignored.
    """
    import click

    with contextlib.suppress(OSError):
        click.echo(text, err=True)
