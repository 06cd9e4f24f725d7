"""Sets of inputs of a network: rows that are read one by one, with labels and names."""

from __future__ import annotations

__all__ = ["InputSet"]

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from featood.data.contents import file_stamps
from featood.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class InputSet:
    """N inputs of one kind, either in memory or as files below one folder.

    Instances consist of arrays, strings and paths, so they can be sent to the workers of a ``DataLoader``.

    Attributes
    ----------
    name, split : str
        Name and split of the set, such as ``"cifar10"`` and ``"test"``.
    ids : sequence of str
        One name per row: the path relative to ``root`` for files, the row number for sets in memory.
    labels : ndarray, int64 [N], optional
        Class index of each row, negative if unknown; None without labels.
    classes : tuple of str
        Name of each class index; empty if unknown.
    root : Path, optional
        The folder the ids are relative to, for a set of files.
    sources : tuple of Path
        The files from which a set in memory was read, if known.
    notes : tuple of str
        What was inferred, converted or left out when the set was opened, one line each.

    Raises
    ------
    DataError
        If the attributes are inconsistent.
    """

    kind: ClassVar[str]
    """What the inputs are: ``images``, ``texts`` or ``recordings``."""
    name: str = ""
    split: str = "test"
    ids: Sequence[str] = field(repr=False)
    labels: np.ndarray | None = field(default=None, repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)
    root: Path | None = None
    sources: tuple[Path, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels.shape != (len(self.ids),):
            raise DataError(
                f"{self.name}: {len(self.ids)} {self.kind} but labels of shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def in_memory(self) -> bool:
        """Whether reading a row needs no file."""
        return self.root is None

    def read(self, i: int) -> Any:
        """Return row ``i``."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of the inputs: ids, labels and content."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return what a manifest records about how the rows are read."""
        return {}

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """Keep the rows ``indices`` (integers or a Boolean mask), in that order, with their ids."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows.tolist()),
            labels=None if self.labels is None else self.labels[rows],
            **self._taken(rows),
        )

    def _taken(self, rows: np.ndarray) -> Mapping[str, Any]:
        """Return the fields that hold the content of some rows."""
        return {}

    def with_notes(self, *notes: str) -> Self:
        """Add notes for the user, without duplicates."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def with_classes(self, indices: np.ndarray, names: tuple[str, ...]) -> Self:
        """Renumber the classes.

        Parameters
        ----------
        indices : ndarray of integers [K]
            The new index of each old one; negative for unknown.
        names : tuple of str
            The new names, in the order of the new indices.

        Raises
        ------
        DataError
            If a label has no new index, or a new index no name.
        """
        new = np.asarray(indices, np.int64)
        if new.max(initial=-1) >= len(names):
            raise DataError(f"{self.name}: class index {new.max()} is beyond the {len(names)} names")
        if self.labels is None:
            return replace(self, classes=names)
        if (top := int(self.labels.max(initial=-1))) >= len(new):
            raise DataError(f"{self.name}: label {top} is beyond the {len(new)} classes that are renumbered")
        labels = np.where(self.labels >= 0, np.append(new, -1)[self.labels], -1)
        return replace(self, labels=labels, classes=names)

    def stamp(self) -> str:
        """SHA-256 of ids, labels, and the sizes and modification times of the files, to detect changes quickly.

        It is the digest if the files of a set in memory are unknown. It does not depend on the location of the files;
        copies with other times have another stamp but the same digest.
        """
        if self.root is None and not self.sources:
            return self.digest()
        sha = self._listing(b"featood stamp 1\0")
        names = self.ids if self.root is not None else list(map(str, self.sources))
        for part in file_stamps(self.root or Path(), names):
            sha.update(part)
        return sha.hexdigest()

    def _listing(self, tag: bytes) -> hashlib._Hash:
        sha = hashlib.sha256(tag)
        sha.update("\0".join(self.ids).encode("utf-8", "surrogateescape"))
        sha.update(b"\0none" if self.labels is None else b"\0" + self.labels.astype("<i8").tobytes())
        return sha
