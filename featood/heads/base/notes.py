"""Warnings of a fit, kept for the artefact."""

from __future__ import annotations

__all__ = ["noted"]

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Collect the warnings of a fit, for the artefact's notes, and pass them on."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    notes += dict.fromkeys(str(note.message) for note in caught if note.category is UserWarning)
    for note in caught:
        warnings.warn_explicit(note.message, note.category, note.filename, note.lineno)
