"""Score maps on disk, a file for each image and head.

So a job needs the memory of one image, and continues after an interruption.
"""

from __future__ import annotations

__all__ = ["MaskFiles", "StoredMaps", "open_maps"]

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featood.data.masked.masked_set import MaskedSet
from featood.errors import CacheCorrupt
from featood.files import remove, replacing, size_of
from featood.heads.artefacts.artefact import options_as_json
from featood.heads.base.head import Head
from featood.reporter import SILENT, Reporter
from featood.sealed import digest, read_json, write_json

RECORD = "maps.json"
AGAIN = "remove the file, and score again"


class StoredMaps(Sequence[np.ndarray]):
    """Score maps ``[H, W]`` of images by one head, float32, which are read when they are used.

    Parameters
    ----------
    folder : Path
        Folder with the files ``000000.npy``, ``000001.npy``, ...
    count : int
        Number of images.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self._numbers = folder, range(count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        """Read the map of an image.

        Raises
        ------
        CacheCorrupt
            If the file is missing or damaged.
        """
        path = self._path(self._numbers[number])
        try:
            scores = np.load(path, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError) as error:
            raise CacheCorrupt(f"{path} cannot be read ({error}); {AGAIN}") from None
        if scores.dtype != np.float32 or scores.ndim != 2:
            raise CacheCorrupt(f"{path} has {scores.dtype} {list(scores.shape)}, no score map; {AGAIN}")
        return scores

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"

    def missing(self) -> list[int]:
        """Return the numbers of the images without a map."""
        return [number for number in self._numbers if size_of(self._path(number)) is None]

    def write(self, number: int, scores: np.ndarray) -> None:
        """Write the map of an image; the file appears when it is complete."""
        with replacing(self._path(number)) as file:
            np.save(file, scores.astype(np.float32), allow_pickle=False)


class MaskFiles(Sequence[np.ndarray]):
    """Masks ``[H, W]`` of images that have score maps, which are read when they are used."""

    def __init__(self, masked: MaskedSet, maps: StoredMaps) -> None:
        self._masked, self._maps = masked, maps

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, number: Any) -> Any:
        """Read the mask of an image."""
        return self._masked.mask(number, self._maps[number].shape)


def open_maps(
    folder: Path, head: Head, masked: MaskedSet, features: Mapping[str, Any], reporter: Reporter = SILENT
) -> StoredMaps:
    """Open the maps of a head, after removing those of other images, features or another fit.

    Parameters
    ----------
    folder : Path
        Folder of the head's maps; created if it does not exist.
    head : Head
        The fitted head.
    masked : MaskedSet
        The images.
    features : mapping
        What determines the features of an image.
    reporter : Reporter
        Receives a line if maps are removed, or continued.
    """
    made_from = {
        "head": head.name,
        "options": digest(options_as_json(head)),
        "tensors_sha256": head.saved.tensors_sha256 if head.saved else _state_digest(head),
        "inputs_sha256": masked.digest(),
        "features": digest(features),
    }
    maps = StoredMaps(folder, len(masked))
    try:
        before = read_json(folder / RECORD) if size_of(folder / RECORD) is not None else None
    except CacheCorrupt:
        before = {}
    if before is not None and before != made_from:
        changed = ", ".join(name for name, value in made_from.items() if before.get(name) != value)
        reporter.line(f"{folder} has maps made with other {changed}: they are removed and computed again")
        remove(folder)
    if before != made_from:
        write_json(folder / RECORD, made_from)
    elif found := len(maps) - len(maps.missing()):
        reporter.line(f"{folder} has {found} of {len(maps)} maps already")
    return maps


def _state_digest(head: Head) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(head.state.items()) if head.learns else ():
        sha.update(name.encode() + np.ascontiguousarray(tensor.cpu()).tobytes())
    return sha.hexdigest()
