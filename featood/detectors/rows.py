"""Rows of sets of :mod:`featood.data` as data sets of PyTorch: pairs of input and class index."""

from __future__ import annotations

__all__ = ["Function", "NamedSet", "Rows", "joined", "open_rows"]

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from featood.data import ImageSet, InputSet, available_splits, get_entry, joined_set, open_dataset
from featood.data.catalogue.download import download as download_set
from featood.data.naming import StrPath
from featood.reporter import TerminalReporter

Function: TypeAlias = Callable[[Any], Any]


class Rows(Dataset[tuple[Any, Any]]):
    """Rows of a set as pairs of input and class index, or -1 where there is none; images are PIL images.

    Parameters
    ----------
    inputs : InputSet
        The set.
    transform, target_transform : callable, optional
        Functions of input and class index.
    labelled : bool
        Whether class indices are given; otherwise all are -1.
    """

    def __init__(
        self, inputs: InputSet, transform: Function | None = None, target_transform: Function | None = None,
        *, labelled: bool = True,
    ) -> None:  # fmt: skip
        self.inputs, self.transform, self.target_transform = inputs, transform, target_transform
        known = labelled and inputs.labels is not None
        self.labels: list[int] = inputs.labels.tolist() if known else [-1] * len(inputs)  # type: ignore[union-attr]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        x, y = self._read(row), self.labels[row]
        return (
            self.transform(x) if self.transform else x,
            self.target_transform(y) if self.target_transform else y,
        )

    def _read(self, row: int) -> Any:
        x = self.inputs.read(row)
        return Image.fromarray(x) if isinstance(self.inputs, ImageSet) else x


class NamedSet(Rows):
    """Rows of a set of :mod:`featood.data`, by its name."""

    name: ClassVar[str]
    """Name of the set; see :func:`featood.data.list_datasets`."""


def open_rows(name: str, split: str | None, root: StrPath, download: bool = False) -> InputSet:
    """Open a split of a set, and print what was inferred or left out.

    Parameters
    ----------
    name : str
        Name of the set.
    split : str, optional
        The split; ``all`` for the rows of all splits, by default ``test``, otherwise ``val``, otherwise the first.
    root : path
        Folder of the sets, in which this one has a folder of its name.
    download : bool
        Whether to download it if it is missing.

    Raises
    ------
    DataError
        If it is missing; the message says where to get it and where to put it.
    """
    with TerminalReporter() as reporter:
        available = available_splits(name, root)
        if download and (not available if split in (None, "all") else split not in available):
            available = download_set(name, root, _torchvision(name), reporter)
        if split == "all" and available:
            inputs = joined([open_dataset(name, one, root) for one in available])
        else:
            inputs = open_dataset(name, None if split == "all" else split, root)
        for note in inputs.notes:
            reporter.line(f"{inputs.name}/{inputs.split}: {note}")
    return inputs


def joined(sets: Sequence[InputSet]) -> InputSet:
    """Join sets with the same classes: arrays one after the other, files in the order of their paths.

    Raises
    ------
    DataError
        If images in memory differ in size.
    """
    first = sets[0]
    if len(sets) == 1:
        return first
    images = [one for one in sets if isinstance(one, ImageSet) and one.in_memory]
    if len(images) == len(sets):
        return replace(joined_set(images, first.name), split="all")
    root = Path(os.path.commonpath([str(one.root) for one in sets]))
    paths = [os.path.relpath(f"{one.root}/{name}", root) for one in sets for name in one.ids]
    order = sorted(range(len(paths)), key=paths.__getitem__)
    labels = [one.labels for one in sets if one.labels is not None]
    return replace(
        first,
        split="all",
        root=root,
        ids=tuple(paths[row] for row in order),
        labels=np.concatenate(labels)[order] if len(labels) == len(sets) else None,
        notes=tuple(dict.fromkeys(note for one in sets for note in one.notes)),
    )


def _torchvision(name: str) -> Any:
    """Import torchvision, if it downloads the set."""
    if get_entry(name).download is None:
        return None
    from featood.extractors.vision import torchvision

    return torchvision
