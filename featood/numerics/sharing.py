"""Results that several heads need: within `sharing`, each is computed once and kept in limited memory."""

from __future__ import annotations

__all__ = ["digest", "shared", "shares", "sharing"]

import contextlib
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import Tensor

Result = TypeVar("Result")
LIMIT = 1 << 29
"""Bytes of results to keep; the ones used last are kept."""


class _Results:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def find(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key][0]
        result = compute()
        self.kept[key] = result, _size(result)
        while sum(size for _, size in self.kept.values()) > self.limit:
            self.kept.popitem(last=False)
        return result


_current: ContextVar[_Results | None] = ContextVar("shared results", default=None)


@contextlib.contextmanager
def sharing(limit: int = LIMIT) -> Iterator[None]:
    """Context in which :func:`shared` keeps results, up to `limit` bytes in all.

    Examples
    --------
    >>> from featood.numerics.sharing import shared, sharing
    >>> with sharing():
    ...     first, again = (shared("a list", list) for _ in range(2))
    >>> first is again
    True
    """
    token = _current.set(_Results(limit))
    try:
        yield
    finally:
        _current.reset(token)


def shared(key: Hashable | Callable[[], Hashable], compute: Callable[[], Result]) -> Result:
    """Return the result of `compute`, or, within :func:`sharing`, the one that was computed for an equal key.

    Parameters
    ----------
    key : hashable or callable
        What determines the result, or a function that returns it, which is called only within `sharing`. None if that
        is unknown: the result is not shared.
    compute : callable
        Computes the result: a tensor, or a dataclass or tuple of tensors. Nobody may change it afterwards.
    """
    results = _current.get()
    if results is None:
        return compute()
    key = key() if callable(key) else key
    return compute() if key is None else results.find(key, compute)


def shares(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a function of tensors: within :func:`sharing`, its results for equal tensors are computed once."""

    @functools.wraps(function)
    def find(*tensors: Tensor) -> Result:
        return shared(lambda: (function.__qualname__, digest(*tensors)), lambda: function(*tensors))

    return find


def digest(*tensors: Tensor) -> str:
    """Return a digest of types, shapes and values."""
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def _size(result: Any) -> int:
    if isinstance(result, Tensor):
        return result.numel() * result.element_size()
    parts = (
        result if isinstance(result, tuple) else vars(result).values() if hasattr(result, "__dict__") else ()
    )
    return sum(map(_size, parts))
