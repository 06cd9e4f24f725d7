"""What is known of every head without importing it: names, cards and options, from a file that `make index` writes.

The file lies beside this module; a test tells when it is out of date. A head in a file that it does not know is found
by that file's name, and imported.
"""

from __future__ import annotations

__all__ = ["Entry", "OptionEntry", "describe", "modules_listed", "read_index"]

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featood.heads.base.declaration import Card

INDEX = Path(__file__).with_suffix(".json")


@dataclasses.dataclass(frozen=True)
class OptionEntry:
    """One option of a head."""

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


@dataclasses.dataclass(frozen=True)
class Entry:
    """One head."""

    card: Card
    module: str
    qualname: str
    doc: str
    """Its docstring, without what follows from the card and the options."""
    options: tuple[OptionEntry, ...]
    presets: Mapping[str, Mapping[str, Any]]


def describe(cls: Any) -> Entry:
    """Describe a head by its class."""
    hints = typing.get_type_hints(cls)
    options = []
    for field in dataclasses.fields(cls):
        kind, many = _kind(hints[field.name])
        bounds = {name: field.metadata.get(name) for name in ("low", "high", "choices")}
        options.append(OptionEntry(field.name, kind, many, field.default, field.metadata["help"], **bounds))
    return Entry(
        cls.card, cls.__module__, cls.__qualname__, cls.described, tuple(options),
        {name: dict(values) for name, values in cls.presets.items()},
    )  # fmt: skip


@functools.cache
def read_index() -> Mapping[str, Entry]:
    """Read the file, by name of the head."""
    return _Entries(_bodies())


@functools.cache
def _bodies() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else {}
    return found


class _Entries(Mapping[str, Entry]):
    """Entries that are made of their JSON when they are first asked for."""

    def __init__(self, bodies: Mapping[str, dict[str, Any]]) -> None:
        self._bodies = bodies
        self._made: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._made:
            body = dict(self._bodies[name])
            card = Card(**_tuples(body.pop("card")))
            options = tuple(OptionEntry(**_tuples(option)) for option in body.pop("options"))
            presets = {preset: _tuples(values) for preset, values in body.pop("presets").items()}
            self._made[name] = Entry(card, options=options, presets=presets, **body)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bodies)

    def __len__(self) -> int:
        return len(self._bodies)


def modules_listed() -> set[str]:
    """Modules of the heads in the file."""
    return {body["module"] for body in _bodies().values()}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _kind(hint: Any) -> tuple[str, bool]:
    """Return the plain type of an annotation, and whether it is a tuple of it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if many := typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return (hint.__name__ if hint in (bool, int, float, str) else "str"), many
