"""Sets of images: rows that are read one by one, with labels and names."""

from __future__ import annotations

__all__ = ["ImageSet", "joined_set", "packed_set"]

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from featood.data.images.contents import content_digests, file_stamps
from featood.data.images.reading import Decoding, read_image
from featood.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSet:
    """N images, either packed in memory or as files below one folder.

    Exactly one of ``array`` and ``root`` is given. Instances consist of arrays, strings and paths, so they can be sent
    to the workers of a ``DataLoader``.

    Attributes
    ----------
    name, split : str
        Name and split of the set, such as ``"cifar10"`` and ``"test"``.
    ids : sequence of str
        One name per row: the path relative to ``root`` for files, the row number for packed sets.
    labels : ndarray, int64 [N], optional
        Class index of each row, negative if unknown; None without labels.
    classes : tuple of str
        Name of each class index; empty if unknown.
    array : ndarray, uint8 [N, H, W] or [N, H, W, 3], optional
        All pixels, for a packed set.
    root : Path, optional
        The folder the ids are relative to, for a set of files.
    decoding : Decoding
        How files are decoded.
    sources : tuple of Path
        The files from which a packed set was read, if known.
    notes : tuple of str
        What was inferred, converted or left out when the set was opened, one line each.

    Raises
    ------
    DataError
        If the attributes are inconsistent.
    """

    name: str = ""
    split: str = "test"
    ids: Sequence[str] = field(repr=False)
    labels: np.ndarray | None = field(default=None, repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)
    array: np.ndarray | None = field(default=None, repr=False)
    root: Path | None = None
    decoding: Decoding = field(default=Decoding(), repr=False)
    sources: tuple[Path, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if (self.array is None) == (self.root is None):
            raise DataError(f"{self.name}: a set is either packed (array) or consists of files (root)")
        if self.array is not None and len(self.array) != len(self.ids):
            raise DataError(f"{self.name}: {len(self.array)} images but {len(self.ids)} ids")
        if self.labels is not None and self.labels.shape != (len(self.ids),):
            raise DataError(f"{self.name}: {len(self.ids)} images but labels of shape {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> np.ndarray:
        """Decode row ``i``.

        Returns
        -------
        ndarray, uint8 [H, W] or [H, W, 3]
            Grey or RGB pixels, 0 to 255.

        Raises
        ------
        DataError
            If the file is missing, corrupt or too large; the message names it.
        """
        if self.array is not None:
            return self.array[i]
        assert self.root is not None
        path = self.root / self.ids[i]
        if not path.is_file():  # reading a pipe would block
            raise DataError(f"{path} is missing, or not a file")
        return read_image(path, self.decoding)

    def subset(self, indices: Sequence[int] | np.ndarray) -> ImageSet:
        """Keep the rows ``indices`` (integers or a Boolean mask), in that order, with their ids."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows.tolist()),
            labels=None if self.labels is None else self.labels[rows],
            array=None if self.array is None else self.array[rows],
        )

    def with_notes(self, *notes: str) -> ImageSet:
        """Add notes for the user, without duplicates."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def with_classes(self, indices: np.ndarray, names: tuple[str, ...]) -> ImageSet:
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

    def digest(self) -> str:
        """SHA-256 of the inputs: ids, labels, and all pixels (packed) or the size and content of each file.

        Long files are sampled, see :func:`featood.data.images.contents.content_digests`; missing files are included as
        missing.
        """
        if self.array is None:
            sha = self._listing(b"featood images 2\0")
            assert self.root is not None
            for part in content_digests(self.root, self.ids):
                sha.update(part)
            return sha.hexdigest()
        sha = self._listing(b"featood images 1\0")
        sha.update(repr(self.array.shape).encode())
        sha.update(np.ascontiguousarray(self.array).data)
        return sha.hexdigest()

    def stamp(self) -> str:
        """SHA-256 of ids, labels, and the sizes and modification times of the files, to detect changes quickly.

        It is the digest if the files of a packed set are unknown. It does not depend on the location of the files;
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
        if self.root is not None and self.decoding != Decoding():
            sha.update(repr(self.decoding).encode())
        return sha


def packed_set(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    name: str = "",
    split: str = "test",
    classes: tuple[str, ...] = (),
    sources: tuple[Path, ...] = (),
) -> ImageSet:
    """Make an ImageSet from an array; ids are the zero-padded row numbers.

    Parameters
    ----------
    images : ndarray, uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3]
        The pixels; an axis of one channel is dropped.
    labels : ndarray of integers [N], optional
        Class indices, negative if unknown.
    name, split, classes, sources
        See :class:`ImageSet`.

    Raises
    ------
    DataError
        If dtype or shape are different.
    """
    if images.dtype != np.uint8:
        raise DataError(f"{name or 'images'}: pixels must be uint8 from 0 to 255, not {images.dtype}")
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)) or 0 in images.shape[1:]:
        raise DataError(f"{name or 'images'}: shape must be [N, H, W] or [N, H, W, 3], not {images.shape}")
    if labels is not None:
        if labels.dtype.kind not in "iu":
            raise DataError(f"{name or 'labels'}: labels must be integers, not {labels.dtype}")
        labels = labels.astype(np.int64)
    width = len(str(max(len(images) - 1, 0)))
    return ImageSet(
        name=name,
        split=split,
        ids=tuple(f"{row:0{width}d}" for row in range(len(images))),
        labels=labels,
        classes=classes,
        array=np.require(images, requirements=["C", "W"]),
        sources=sources,
    )


def joined_set(sets: Sequence[ImageSet], name: str = "") -> ImageSet:
    """Join packed sets of the same classes, one after the other; an id is preceded by the name of its set.

    Raises
    ------
    DataError
        If a set is not packed, or images or classes differ.
    """
    arrays = [images.array for images in sets if images.array is not None]
    if len(arrays) < len(sets):
        raise DataError(
            f"only packed sets can be joined, and {sets[0].name} consists of files; pack it into an npz"
        )
    first = sets[0]
    for other, array in zip(sets, arrays, strict=True):
        what = f"{first.name} and {other.name} cannot be joined"
        if array.shape[1:] != arrays[0].shape[1:]:
            raise DataError(f"{what}: their images differ in size")
        if first.classes != other.classes or (first.labels is None) != (other.labels is None):
            raise DataError(f"{what}: their classes differ")
    labels = [images.labels for images in sets if images.labels is not None]
    return ImageSet(
        name=name,
        split=first.split,
        ids=tuple(f"{images.name}/{id_}" for images in sets for id_ in images.ids),
        labels=np.concatenate(labels) if labels else None,
        classes=first.classes,
        array=np.concatenate(arrays),
        sources=tuple(path for images in sets for path in images.sources),
        notes=tuple(dict.fromkeys(note for images in sets for note in images.notes)),
    )
