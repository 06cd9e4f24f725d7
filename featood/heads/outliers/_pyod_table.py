"""The table of PyOD's detectors, `pyod.toml`, for which neither PyOD nor torch need be imported."""

from __future__ import annotations

__all__ = ["Detectors", "pyod_cards", "read_detectors"]

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from featood.heads.index import Card
from featood.heads.registry import PYOD

TABLE = Path(__file__).with_name("pyod.toml")
PAGE = "https://pyod.readthedocs.io/en/latest/pyod.models.html#module-pyod.models."


class Detectors(NamedTuple):
    """The detectors of PyOD."""

    heads: Mapping[str, Mapping[str, Any]]
    """Those that are heads: module, and fields of the card, by name."""
    refused: Mapping[str, str]
    """Why the others are not, by name."""


@functools.cache
def read_detectors() -> Detectors:
    """Read the table."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    refused = {name: part["reason"] for part in table["refused"] for name in part["names"]}
    return Detectors(table["heads"], refused)


def pyod_cards() -> list[Card]:
    """Return the cards of the detectors that are heads."""
    return [
        Card(
            f"{PYOD}{name}", learns=True, needs=("features",), url=PAGE + entry["module"],
            summary=f"Score by PyOD's detector {name}.",
            **{key: value for key, value in entry.items() if key != "module"},
        )
        for name, entry in read_detectors().heads.items()
    ]  # fmt: skip
