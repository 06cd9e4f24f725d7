"""Index of all heads, available without importing them: names, cards and options, written by `make index`.

The index is stored next to this module; a test checks that it is up to date. A head in a module that the index does
not list is found by the name of the module, and imported.
"""

from __future__ import annotations

__all__ = ["NEEDS", "Card", "Entry", "as_text", "describe", "read_index"]

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featood.options import OptionEntry, options_of

INDEX = Path(__file__).with_suffix(".json")
NEEDS = ("features", "logits", "labels", "classifier", "outliers")
"""Inputs that heads may require."""


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


@dataclasses.dataclass(frozen=True)
class Entry:
    """One head."""

    card: Card
    module: str
    qualname: str
    doc: str
    """Its docstring, without the sections generated from the card and the options."""
    options: tuple[OptionEntry, ...]
    presets: Mapping[str, Mapping[str, Any]]


def describe(cls: Any) -> Entry:
    """Return the entry of a head class."""
    return Entry(
        cls.card, cls.__module__, cls.__qualname__, cls.described, options_of(cls),
        {name: dict(values) for name, values in cls.presets.items()},
    )  # fmt: skip


@functools.cache
def read_index() -> Mapping[str, Entry]:
    """Read the index, by name of the head."""
    lines = INDEX.read_text(encoding="utf-8").splitlines()[1:-1] if INDEX.exists() else []
    pairs = (line.partition(": ") for line in lines)
    return _Entries({name.strip('"'): body.removesuffix(",") for name, _, body in pairs})


def as_text(entries: Iterable[Entry]) -> str:
    """Return the content of the index: one line of JSON per head, so that entries can be parsed one at a time."""
    bodies = {
        entry.card.name: {
            **dataclasses.asdict(entry),
            "options": [option._asdict() for option in entry.options],
        }
        for entry in entries
    }
    lines = (f"{json.dumps(name)}: {json.dumps(body, ensure_ascii=False)}" for name, body in bodies.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


class _Entries(Mapping[str, Entry]):
    """Entries that are parsed from JSON when they are first used."""

    def __init__(self, bodies: Mapping[str, str]) -> None:
        self._bodies = bodies
        self._made: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._made:
            body = json.loads(self._bodies[name])
            card = Card(**_tuples(body.pop("card")))
            options = tuple(OptionEntry(**_tuples(option)) for option in body.pop("options"))
            presets = {preset: _tuples(values) for preset, values in body.pop("presets").items()}
            self._made[name] = Entry(card, options=options, presets=presets, **body)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bodies)

    def __len__(self) -> int:
        return len(self._bodies)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
