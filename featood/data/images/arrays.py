"""Reading arrays from npy files and npz archives without pickle, and finding images and labels among them."""

from __future__ import annotations

__all__ = ["Array", "Fields", "find_fields", "npz_arrays"]

import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from featood.data.layouts import SPLITS, canonical
from featood.errors import DataError, reading

_IMAGES = ("images", "image", "imgs", "img", "x", "data", "pixels", "arr_0")
_LABELS = ("labels", "label", "targets", "target", "y", "arr_1")
_KINDS = {**dict.fromkeys(_IMAGES, "images"), **dict.fromkeys(_LABELS, "labels")}
_KEY = re.compile(r"([a-z]+?)[_.-]?(images?|imgs?|x|data|pixels|labels?|targets?|y)")
_REVERSED = re.compile(r"(images?|imgs?|x|data|pixels|labels?|targets?|y)[_.-]?([a-z]+)")
Fields = dict[str, dict[str, str]]
"""For each split (empty if not named), the keys of ``images`` and ``labels``."""


@dataclass(frozen=True)
class Array:
    """An npy file, or a member of an npz archive."""

    path: Path
    member: str = ""

    def head(self) -> tuple[tuple[int, ...], np.dtype]:
        """Read shape and type.

        Raises
        ------
        DataError
            If it is damaged, or contains objects.
        """
        with self._open() as (file, size):
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise DataError(f"{self} is not a plain array of numbers or text")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
            if dtype.hasobject:
                raise DataError(
                    f"{self} contains Python objects, which could run code; save an array of numbers or text"
                )
            if math.prod(shape) * dtype.itemsize != size - file.tell():
                raise DataError(
                    f"{self} is damaged: its header declares {list(shape)} of {dtype}; download it again"
                )
            return shape, dtype

    def read(self) -> np.ndarray:
        """Read the array; memory is bounded by the size of the file, whatever the header declares.

        Raises
        ------
        DataError
            If it is damaged, or contains objects.
        """
        self.head()
        with self._open() as (file, _):
            return np.lib.format.read_array(file, allow_pickle=False)

    @contextmanager
    def _open(self) -> Iterator[tuple[IO[bytes], int]]:
        with reading(self.path):
            if not self.member:
                with open(self.path, "rb") as file:
                    yield file, os.fstat(file.fileno()).st_size
                return
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as member:
                yield member, archive.getinfo(self.member).file_size

    def __str__(self) -> str:
        return f"{self.path}: {self.member.removesuffix('.npy')}" if self.member else str(self.path)


def npz_arrays(path: Path) -> dict[str, Array]:
    """List the arrays of an archive by key.

    Raises
    ------
    DataError
        If it is not an npz archive.
    """
    with reading(path):
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is not an npz archive")
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): Array(path, name) for name in members}


def find_fields(keys: Iterable[str]) -> Fields:
    """Find the keys of images and labels, and their splits.

    Recognised are ``images, labels``, ``x, y``, ``data, targets`` and similar pairs in any case, also with a split as
    prefix or suffix (``train_images``, ``x_train``); the name of a split alone means its images.
    """
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for key in keys:
        split, word = _parse(key.lower())
        if word:
            found.setdefault((split, _KINDS[word]), []).append((list(_KINDS).index(word), key))
    fields: Fields = {}
    for (split, kind), ranked in found.items():
        fields.setdefault(split, {})[kind] = min(ranked)[1]
    return {split: both for split, both in fields.items() if split == "" or "images" in both}


def _parse(key: str) -> tuple[str, str]:
    """Return split and word of a key, or two empty strings if it is not recognised."""
    if key in _KINDS:
        return "", key
    if canonical(key) in SPLITS:
        return canonical(key), "images"
    matches = ((_KEY.fullmatch(key), 1, 2), (_REVERSED.fullmatch(key), 2, 1))
    for match, split, word in matches:
        if match and canonical(match[split]) in SPLITS:
            return canonical(match[split]), match[word]
    return "", ""
