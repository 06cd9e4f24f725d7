"""Sets of texts."""

from __future__ import annotations

__all__ = ["TextSet", "text_set"]

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featood.data.input_set import InputSet
from featood.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class TextSet(InputSet):
    """N texts in memory; see :class:`~featood.data.InputSet` for the other attributes.

    Attributes
    ----------
    texts : sequence of str
        The texts.

    Raises
    ------
    DataError
        If the attributes are inconsistent.
    """

    kind: ClassVar[str] = "texts"
    texts: Sequence[str] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.ids):
            raise DataError(f"{self.name}: {len(self.texts)} texts but {len(self.ids)} ids")
        super().__post_init__()

    def read(self, i: int) -> str:
        """Return row ``i``."""
        return self.texts[i]

    def _taken(self, rows: np.ndarray) -> Mapping[str, Any]:
        return {"texts": tuple(self.texts[row] for row in rows.tolist())}

    def digest(self) -> str:
        """SHA-256 of the inputs: ids, labels and texts."""
        sha = self._listing(b"featood texts 1\0")
        for text in self.texts:
            # of each text, so that the border between two texts is part of the digest
            sha.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        return sha.hexdigest()


def text_set(
    texts: Sequence[str],
    labels: np.ndarray | None = None,
    *,
    classes: tuple[str, ...] = (),
    sources: tuple[Path, ...] = (),
    notes: Sequence[str] = (),
) -> TextSet:
    """Make a set of texts without their empty rows; ids are the zero-padded row numbers, counted with these.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    labels : ndarray of integers [N], optional
        Class indices, negative if unknown.
    classes, sources, notes
        See :class:`~featood.data.InputSet`.
    """
    kept = [row for row, text in enumerate(texts) if text.strip()]
    width = len(str(max(len(texts) - 1, 0)))
    if empty := len(texts) - len(kept):
        notes = (*notes, f"{empty} of {len(texts)} rows are empty and left out")
    return TextSet(
        ids=tuple(f"{row:0{width}d}" for row in kept),
        texts=tuple(texts[row] for row in kept),
        labels=None if labels is None else labels[kept],
        classes=classes,
        sources=sources,
        notes=tuple(notes),
    )
