"""The interface of engines, and engines by name."""

from __future__ import annotations

__all__ = ["ENGINES", "Engine", "Work", "open_engine"]

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

from featood.errors import UsageError

ENGINES = ("local", "ray", "torchrun")
Work = Callable[[Iterable[Any]], Iterator[Any]]
"""A function from items to their results, in order, which can be sent to other processes.

It gets several items at once, so that it can read ahead. A process calls the same copy again for further items, so what
is expensive to load can be kept in it.
"""


class Engine(Protocol):
    """A context manager with processes that compute the results of items, such as the numbers of row blocks."""

    def map(self, work: Work, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the result of each item, in order; warnings and errors of the function are repeated here."""

    def __enter__(self) -> Self:
        """Connect to the processes, or start them."""

    def __exit__(self, *_: object) -> None:
        """Release them."""


def open_engine(name: str, **options: Any) -> Engine:
    """Create an engine.

    Parameters
    ----------
    name : str
        ``local``: this process. ``ray``: a Ray cluster, see :class:`featood.engines.ray.Ray`. ``torchrun``: the
        processes that torchrun or Slurm started, see :class:`featood.engines.torchrun.Torchrun`.
    **options
        Options of the engine.

    Raises
    ------
    UsageError
        If there is no such engine.
    """
    if name == "ray":
        from featood.engines.ray import Ray

        return Ray(**options)
    if name == "torchrun":
        from featood.engines.torchrun import Torchrun

        return Torchrun(**options)
    if name != "local":
        raise UsageError(f"there is no engine '{name}'; choose one of {', '.join(ENGINES)}")
    from featood.engines.local import LOCAL

    return LOCAL
