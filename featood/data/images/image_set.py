"""Sets of images."""

from __future__ import annotations

__all__ = ["FOLDERS", "ImageSet", "joined_set", "packed_set"]

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featood.data.contents import content_digests
from featood.data.folders import FolderKind
from featood.data.images.reading import Decoding, read_image
from featood.data.input_set import InputSet
from featood.data.suffixes import IMAGE_SUFFIXES
from featood.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSet(InputSet):
    """N images, either packed in memory or as files below one folder.

    Exactly one of ``array`` and ``root`` is given; see :class:`~featood.data.InputSet` for the other attributes.

    Attributes
    ----------
    array : ndarray, uint8 [N, H, W] or [N, H, W, 3], optional
        All pixels, for a packed set.
    decoding : Decoding
        How files are decoded.

    Raises
    ------
    DataError
        If the attributes are inconsistent.
    """

    kind: ClassVar[str] = "images"
    array: np.ndarray | None = field(default=None, repr=False)
    decoding: Decoding = field(default=Decoding(), repr=False)

    def __post_init__(self) -> None:
        if (self.array is None) == (self.root is None):
            raise DataError(f"{self.name}: a set is either packed (array) or consists of files (root)")
        if self.array is not None and len(self.array) != len(self.ids):
            raise DataError(f"{self.name}: {len(self.array)} images but {len(self.ids)} ids")
        super().__post_init__()

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

    def facts(self) -> dict[str, Any]:
        """Return the options of decoding."""
        return {"decoding": asdict(self.decoding)}

    def _taken(self, rows: np.ndarray) -> Mapping[str, Any]:
        return {} if self.array is None else {"array": self.array[rows]}

    def digest(self) -> str:
        """SHA-256 of the inputs: ids, labels, and all pixels (packed) or the size and content of each file.

        Long files are sampled, see :func:`featood.data.contents.content_digests`; missing files are included as
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

    def _listing(self, tag: bytes) -> hashlib._Hash:
        sha = super()._listing(tag)
        if self.root is not None and self.decoding != Decoding():
            sha.update(repr(self.decoding).encode())
        return sha


FOLDERS = FolderKind("images", IMAGE_SUFFIXES, ImageSet)
"""Folders of images, with or without class folders."""


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
