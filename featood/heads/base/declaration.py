"""Declaration of a head: its card, and its options, which are fields of its class with a help text and bounds."""

from __future__ import annotations

__all__ = ["NEEDS", "Card", "check_options", "mistyped", "option"]

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from featood.errors import UsageError

NEEDS = ("features", "logits", "labels", "classifier", "outliers")


@dataclasses.dataclass(frozen=True)
class Card:
    """Information about a head for choosing among heads."""

    name: str
    title: str
    paper: str
    """Authors, title and venue."""
    year: int
    url: str
    needs: tuple[str, ...]
    """Required inputs, out of ``features, logits, labels, classifier, outliers``; labels only for fitting."""
    learns: bool
    """Whether it must be fitted before scoring."""
    summary: str
    """First line of the docstring."""
    uses: tuple[str, ...] = ()
    """Optional inputs."""
    scores: tuple[str, ...] = ()
    """Names of its scores if it has several, the default first."""
    caution: str = ""
    """Known limitation, in a few words."""

    @property
    def takes_outliers(self) -> bool:
        """Whether it learns from outliers among the training rows, which other heads ignore."""
        return "outliers" in (*self.needs, *self.uses)


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare an option of a head: a dataclass field with a help text and inclusive bounds."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def check_options(head: Any) -> None:
    """Check the options of a head against their choices and bounds.

    Raises
    ------
    UsageError
        If a value is not one of the choices, or not a finite number within the bounds.
    """
    for field in dataclasses.fields(head):
        value = getattr(head, field.name)
        low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
        if choices is not None and value not in choices:
            raise UsageError(f"{head.name}: {field.name} must be one of {', '.join(choices)}, not {value!r}")
        if low is None and high is None:
            continue
        try:  # "not <=" also rejects NaN
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


def mistyped(cls: type, options: Mapping[str, Any]) -> str:
    """Return the name of an option whose value does not have the declared type, or an empty string."""
    hints = typing.get_type_hints(cls)
    return next(
        (name for name, value in options.items() if name in hints and not _is(value, hints[name])), ""
    )


def _is(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_is(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is(part, typing.get_args(hint)[0]) for part in value)
    if hint is None or hint is type(None):
        return value is None
    if not isinstance(hint, type):
        return True
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
