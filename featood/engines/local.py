"""The engine that computes everything in this process."""

from __future__ import annotations

__all__ = ["LOCAL", "Local"]

from collections.abc import Iterator, Sequence
from typing import Any, Self

from featood.engines.engine import Work


class Local:
    """Compute all items in this process, one after the other.

    Examples
    --------
    >>> def squares(numbers):
    ...     for number in numbers:
    ...         yield number**2
    >>> with Local() as engine:
    ...     list(engine.map(squares, range(4)))
    [0, 1, 4, 9]
    """

    def map(self, work: Work, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the result of each item."""
        return work(items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing has to be released."""


LOCAL = Local()
"""The default of every job."""
