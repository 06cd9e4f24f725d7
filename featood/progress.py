"""Progress of long work, on standard error."""

from __future__ import annotations

__all__ = ["progress_bar"]

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[..., None]]:
    """Yield ``report(what, done, total, **figures)``, a bar on a terminal or in a notebook, else nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (sys.stderr.isatty() or console.is_jupyter):
        yield lambda what, done, total, **figures: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}
        begun: dict[str, int] = {}

        def report(what: str, done: int, total: int, **figures: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, figures="")
                begun[what] = done
            elapsed = bars.tasks[bars.task_ids.index(tasks[what])].elapsed or 0
            speed = f"{(done - begun[what]) / elapsed:,.0f}/s " if elapsed > 0.5 else ""
            shown = speed + " ".join(f"{name} {value:.4g}" for name, value in figures.items())
            bars.update(tasks[what], completed=done, total=total, figures=shown)

        yield report
