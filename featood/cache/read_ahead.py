"""Reading of the next block in a thread, while the caller computes with the current one."""

from __future__ import annotations

__all__ = ["read_ahead"]

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")


def read_ahead(reads: Iterable[Callable[[], Block]]) -> Iterator[Block]:
    """Yield the results of functions in their order, computing one ahead; an error is raised in its turn.

    At most two results are kept: the one that was yielded, and the next.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Block] | None = None
        for read in reads:
            following = pool.submit(read)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
