"""Options of a head: fields of its class with a help text and bounds."""

from __future__ import annotations

__all__ = ["check_options", "option"]

import dataclasses
import math
from typing import Any

from featood.errors import UsageError


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare an option of a head: a dataclass field with its help and its bounds (inclusive)."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def check_options(head: Any) -> None:
    """Check the options of a head against their choices and bounds.

    Raises
    ------
    UsageError
        When a value is not one of the choices, or not a finite number within the bounds.
    """
    for field in dataclasses.fields(head):
        value = getattr(head, field.name)
        low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
        if choices is not None and value not in choices:
            raise UsageError(f"{head.name}: {field.name} is one of {', '.join(choices)}, not {value!r}")
        if low is None and high is None:
            continue
        try:  # "not <=" refuses NaN too
            inside = (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)
        except TypeError:
            raise UsageError(f"{head.name}: {field.name} must be a number, not {value!r}") from None
        if not inside or math.isinf(value):
            bounds = [
                f"{text} {bound}"
                for text, bound in (("at least", low), ("at most", high))
                if bound is not None
            ]
            text = " and ".join(bounds) if not inside else "finite"
            raise UsageError(f"{head.name}: {field.name} must be {text}, not {value}")
