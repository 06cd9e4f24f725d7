"""Registered sets of recordings."""

from __future__ import annotations

__all__ = ["AUDIO_ENTRIES", "spoken_digits"]

import re
from functools import partial
from pathlib import Path

import numpy as np

from featood.data.audio.audio_set import AudioSet
from featood.data.entry import DatasetEntry
from featood.data.layouts import Loader

_DIGIT = re.compile(r"(\d)_\w+_(\d+)\.wav")
TEST_TAKES = 5
"""Recordings of a digit by a speaker that are for testing, the first ones."""


def spoken_digits(folder: Path, split: str) -> Loader | None:
    """Layout ``recordings/DIGIT_SPEAKER_NUMBER.wav``; the numbers 0 to 4 are ``test``, all others ``train``."""
    inner = folder / "recordings"
    if split not in ("train", "test") or not inner.is_dir():
        return None
    names = [path.name for path in inner.iterdir()]
    found = {name: match for name in names if (match := _DIGIT.fullmatch(name))}
    ids = sorted(name for name, match in found.items() if (int(match[2]) < TEST_TAKES) == (split == "test"))
    labels = np.array([int(found[name][1]) for name in ids], np.int64)
    other = len(names) - len(found)
    notes = (f"{other} files that are not named DIGIT_SPEAKER_NUMBER.wav are left out",) if other else ()
    return partial(AudioSet, ids=tuple(ids), labels=labels, root=inner, notes=notes) if ids else None


AUDIO_ENTRIES = (
    DatasetEntry(
        name="fsdd", title="Free Spoken Digit Dataset", kind="recordings", num_classes=10, splits=("train", "test"),
        source="https://github.com/Jakobovski/free-spoken-digit-dataset", layouts=(spoken_digits,),
        folders=("free-spoken-digit-dataset", "Jakobovski-free-spoken-digit-dataset-e9e1155"),
        classes=tuple("0123456789"), untried=True,
    ),
)  # fmt: skip
