"""Options of heads and models: fields of their classes with a help text and bounds."""

from __future__ import annotations

__all__ = ["OptionEntry", "check_options", "create", "inherit_options", "mistyped", "option", "options_of"]

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from featood.errors import UsageError

T = typing.TypeVar("T")


class OptionEntry(NamedTuple):
    """An option as plain values, from which commands and documentation are made."""

    name: str
    kind: str
    """``bool``, ``int``, ``float`` or ``str``."""
    many: bool
    """Whether it takes several values."""
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None

    @property
    def type(self) -> type:
        """The Python type of a value."""
        return {"bool": bool, "int": int, "float": float, "str": str}[self.kind]


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare an option: a dataclass field with a help text and inclusive bounds."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def inherit_options(cls: type) -> type:
    """Declare again the inherited options that a dataclass would take from another base class than Python does.

    A dataclass takes all fields of its first base class, also those that this class has inherited itself, so an option
    that the second base class declares with another default would have the default of their common base class.

    Parameters
    ----------
    cls : type
        A class that is to become a dataclass; it is changed.
    """
    bases = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
    known = [{field.name: field for field in dataclasses.fields(base)} for base in bases]
    own = dict(inspect.get_annotations(cls))
    for name in {name: None for fields in known for name in fields}:
        taken = next(fields[name] for fields in known if name in fields)
        first = next(
            fields[name] for base, fields in zip(bases, known, strict=True)
            if name in fields and name in inspect.get_annotations(base)
        )  # fmt: skip
        if name not in own and first is not taken:
            own[name] = first.type
            setattr(cls, name, dataclasses.field(default=first.default, metadata=first.metadata))
    cls.__annotations__ = own
    return cls


def check_options(owner: Any) -> None:
    """Check the options of an object, which has a name, against their choices and bounds.

    Raises
    ------
    UsageError
        If a value is not one of the choices, or not a finite number within the bounds.
    """
    for field in dataclasses.fields(owner):
        value = getattr(owner, field.name)
        low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
        if choices is not None and value not in choices:
            raise UsageError(f"{owner.name}: {field.name} must be one of {', '.join(choices)}, not {value!r}")
        if low is None and high is None:
            continue
        try:  # "not <=" also rejects NaN
            inside = (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)
        except TypeError:
            raise UsageError(f"{owner.name}: {field.name} must be a number, not {value!r}") from None
        if not inside or math.isinf(value):
            bounds = [
                f"{text} {bound}"
                for text, bound in (("at least", low), ("at most", high))
                if bound is not None
            ]
            text = " and ".join(bounds) if not inside else "finite"
            raise UsageError(f"{owner.name}: {field.name} must be {text}, not {value}")


def create(cls: type[T], name: str, options: Mapping[str, Any]) -> T:
    """Create an object of a class whose fields are its options.

    Raises
    ------
    UsageError
        If there is no such option, or a value has the wrong type or is out of bounds.
    """
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    if unknown := [key for key in options if key not in known]:
        raise UsageError(f"{name} has no option '{unknown[0]}' (it has: {', '.join(known) or 'none'})")
    if wrong := mistyped(cls, options):
        raise UsageError(f"{name}: {wrong} cannot be {options[wrong]!r}")
    return cls(**options)


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


def options_of(cls: Any) -> tuple[OptionEntry, ...]:
    """Return the options that a class declares."""
    hints = typing.get_type_hints(cls)
    options = []
    for field in dataclasses.fields(cls):
        if "help" not in field.metadata:  # an ordinary field
            continue
        kind, many = _kind(hints[field.name])
        bounds = {name: field.metadata.get(name) for name in ("low", "high", "choices")}
        options.append(OptionEntry(field.name, kind, many, field.default, field.metadata["help"], **bounds))
    return tuple(options)


def _kind(hint: Any) -> tuple[str, bool]:
    """Return the element type of an annotation, and whether it is a tuple."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if many := typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return (hint.__name__ if hint in (bool, int, float, str) else "str"), many
