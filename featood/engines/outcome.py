"""What a function did in another process: its result or error, and its warnings."""

from __future__ import annotations

__all__ = ["Outcome", "attempt"]

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """The result of one item, as it is sent between processes."""

    value: Any = None
    error: Exception | None = None
    warnings: tuple[tuple[str, type[Warning]], ...] = ()

    def unwrap(self) -> Any:
        """Return the result, after repeating the warnings; or raise the error."""
        for text, category in self.warnings:
            warnings.warn(text, category, stacklevel=3)
        if self.error is not None:
            raise self.error
        return self.value


def attempt(results: Iterator[Any]) -> Outcome:
    """Compute the next result; the outcome is empty if there is none."""
    value, failure = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = next(results, None)
        except Exception as error:
            failure = error
    return Outcome(value, failure, tuple((str(one.message), one.category) for one in caught))
