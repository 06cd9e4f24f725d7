"""Batches of the images that wait while the network is busy."""

from __future__ import annotations

__all__ = ["Batcher", "Busy"]

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Busy(Exception):
    """Too many items wait."""


class Batcher(Generic[Item, Result]):
    """Calls a function with the items that wait, in a thread of its own.

    An item never waits for others: it is computed alone if none waits, and together with those that arrived during
    the previous call otherwise.

    Parameters
    ----------
    function : callable
        From items to as many results.
    largest : int
        Most items in a call.
    waiting : int
        Most items that wait.
    """

    def __init__(
        self, function: Callable[[list[Item]], Sequence[Result]], largest: int, waiting: int
    ) -> None:
        self.function, self.largest = function, largest
        self.queue: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue(waiting)

    async def __call__(self, item: Item) -> Result:
        """Return the result of an item.

        Raises
        ------
        Busy
            If too many wait.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((item, answer))
        except asyncio.QueueFull:
            raise Busy from None
        return await answer

    async def run(self) -> None:
        """Compute batches until cancelled; the batch that is being computed is finished."""
        with ThreadPoolExecutor(1, "batches") as thread:
            while True:
                batch = [await self.queue.get()]
                while len(batch) < self.largest and not self.queue.empty():
                    batch.append(self.queue.get_nowait())
                batch = [(item, answer) for item, answer in batch if not answer.cancelled()]
                if batch:
                    await self._compute(thread, batch)

    async def _compute(
        self, thread: ThreadPoolExecutor, batch: list[tuple[Item, asyncio.Future[Result]]]
    ) -> None:
        call = asyncio.get_running_loop().run_in_executor
        try:
            results = await call(thread, self.function, [item for item, _ in batch])
        except Exception as error:  # of one item: the others must not fail with it
            if len(batch) > 1:
                for one in batch:
                    await self._compute(thread, [one])
            else:
                with contextlib.suppress(asyncio.InvalidStateError):
                    batch[0][1].set_exception(error)
            return
        for (_, answer), result in zip(batch, results, strict=True):
            with contextlib.suppress(asyncio.InvalidStateError):  # cancelled in the meantime
                answer.set_result(result)
