"""Options of networks."""

from __future__ import annotations

__all__ = ["NetOptions", "parse_options"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from featood.errors import UsageError
from featood.options import OptionEntry, check_options, mistyped, option, options_of

KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetOptions:
    """Options of all networks; a network with more options has a subclass of its own."""

    name: ClassVar[str] = "network"
    """Name in messages of errors."""

    sn: bool = option(False, "spectral normalisation of convolutions and of all linear layers but the last")
    coeff: float = option(3.0, "largest norm of a layer with sn or soft_norm", low=1e-6)
    power_iterations: int = option(1, "power iterations per training step, with sn", low=1)
    linear: bool = option(False, "whether sn includes the last linear layer")
    soft_norm: bool = option(False, "bound the scale of batch normalisation by coeff, with momentum 0.01")

    def __post_init__(self) -> None:
        check_options(self)
        if self.linear and not self.sn:
            raise UsageError(f"{self.name}: linear=true extends spectral normalisation, so it needs sn=true")


Options = TypeVar("Options", bound=NetOptions)


def parse_options(cls: type[Options], given: Mapping[str, Any], name: str) -> Options:
    """Return options of a class; lists, and texts such as ``1,2,2``, become tuples where the class has a tuple.

    Parameters
    ----------
    cls : type
        :class:`NetOptions` or a subclass.
    given : mapping of str to value
        Options by name.
    name : str
        Name of the network, for messages.

    Raises
    ------
    UsageError
        If there is no such option, or its value has another type or is out of bounds.
    """
    entries = {entry.name: entry for entry in options_of(cls)}
    if unknown := [key for key in given if key not in entries]:
        raise UsageError(f"{name} has no option '{unknown[0]}' (it has: {', '.join(entries)})")
    values = {key: _as_tuple(value, entries[key]) for key, value in given.items()}
    if wrong := mistyped(cls, values):
        kind = KINDS[entries[wrong].kind]
        many = "values such as 1,2,2" if entries[wrong].many else kind
        raise UsageError(f"{name}: {wrong} takes {many}, not {given[wrong]!r}")
    return cls(**values)


def _as_tuple(value: Any, entry: OptionEntry) -> Any:
    if not entry.many:
        return value
    if isinstance(value, str):
        try:
            return tuple(entry.type(part) for part in value.split(","))
        except ValueError:
            return value
    return tuple(value) if isinstance(value, list) else value
