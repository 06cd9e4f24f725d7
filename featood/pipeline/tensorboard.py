"""Losses of trainings as TensorBoard reads them."""

from __future__ import annotations

__all__ = ["logged"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from featood.errors import UsageError


@contextmanager
def logged(folder: str | Path | None) -> Iterator[Callable[..., None]]:
    """Yield ``log(step, **figures)``, which writes event files into a folder, or does nothing where there is none.

    Steps that begin anew (another fit) go into a folder of their own, ``fit-1``, ``fit-2`` and so on.

    Raises
    ------
    UsageError
        When TensorBoard is not installed.
    """
    if folder is None:
        yield lambda step, **figures: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs the package tensorboard: pip install 'featood[tensorboard]'"
        ) from None

    writers: list[SummaryWriter] = []
    last = 0

    def log(step: int, **figures: float) -> None:
        nonlocal last
        if not writers or step <= last:
            writers.append(SummaryWriter(str(Path(folder) / f"fit-{len(writers) + 1}")))
        last = step
        for name, value in figures.items():
            writers[-1].add_scalar(name, value, step)

    try:
        yield log
    finally:
        for writer in writers:
            writer.close()
