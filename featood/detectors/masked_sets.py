"""Sets of images with masks, with the names and arguments of pytorch-ood: pairs of PIL image and mask.

Masks are int64 ``[H, W]``: -1 for outliers, `VOID_LABEL` for pixels that do not count, otherwise the class or 0.
"""

from __future__ import annotations

__all__ = ["LostAndFound", "MVTechAD", "RoadAnomaly", "SegmentMeIfYouCan", "StreetHazards"]

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from featood.data.layouts import canonical
from featood.data.masked.layouts import open_masked
from featood.data.naming import StrPath
from featood.detectors.rows import Function
from featood.errors import UsageError
from featood.metrics.dense import IGNORED
from featood.reporter import TerminalReporter

Transform = Callable[[Any, Tensor], tuple[Any, Any]]
"""Function of image and mask."""


class _Masked(Dataset[tuple[Any, Any]]):
    VOID_LABEL: ClassVar[int] = 1
    """Label of pixels that do not count; give it to the metrics as ``void_label``."""

    def __init__(self, name: str, split: str, root: StrPath, transforms: Transform | None) -> None:
        self.inputs, self.transforms = open_masked(name, split, Path(root)), transforms
        with TerminalReporter() as reporter:
            for note in self.inputs.images.notes:
                reporter.line(f"{name}/{split}: {note}")

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        pixels = self.inputs.images.read(row)
        mask = torch.from_numpy(self.inputs.mask(row, pixels.shape[:2])).long()
        mask[mask == IGNORED] = self.VOID_LABEL
        image = Image.fromarray(pixels)
        return self.transforms(image, mask) if self.transforms else (image, mask)


class LostAndFound(_Masked):
    """Lost and Found with the masks of Fishyscapes, which are the outliers, 1 where pixels do not count, and 0.

    Parameters
    ----------
    root : path
        Folder of the sets, in which this one is ``fishyscapes/``.
    download : bool
        Has no effect: the error says where to get it.
    transforms : callable, optional
        Function of image and mask that returns both.

    Raises
    ------
    DataError
        If it is missing.
    """

    def __init__(self, root: StrPath, download: bool = False, transforms: Transform | None = None) -> None:
        super().__init__("fishyscapes", "test", root, transforms)


class RoadAnomaly(_Masked):
    """Road Anomaly, whose masks have -1 and 0.

    Parameters
    ----------
    root : path
        Folder of the sets, in which this one is ``road-anomaly/``.
    transform : callable, optional
        Function of image and mask that returns both.
    download : bool
        Has no effect: the error says where to get it.

    Raises
    ------
    DataError
        If it is missing.
    """

    def __init__(self, root: StrPath, transform: Transform | None = None, download: bool = False) -> None:
        super().__init__("road-anomaly", "test", root, transform)


class SegmentMeIfYouCan(_Masked):
    """Anomalies or obstacles on roads, whose masks have -1, 1 where pixels do not count, and 0.

    Parameters
    ----------
    root : path
        Folder of the sets, in which this one is ``road-anomaly21/`` or ``road-obstacle21/``.
    subset : str
        ``RoadAnomaly21`` or ``RoadObstacle21``.
    transform : callable, optional
        Function of image and mask that returns both.
    download : bool
        Has no effect: the error says where to get it.

    Raises
    ------
    UsageError
        If there is no such subset.
    DataError
        If it is missing.
    """

    subsets: ClassVar[dict[str, str]] = {
        "RoadAnomaly21": "road-anomaly21",
        "RoadObstacle21": "road-obstacle21",
    }

    def __init__(
        self, root: StrPath, subset: str, transform: Transform | None = None, download: bool = False
    ) -> None:
        if subset not in self.subsets:
            raise UsageError(f"a subset is {' or '.join(self.subsets)}, not {subset!r}")
        super().__init__(self.subsets[subset], "test", root, transform)


class StreetHazards(_Masked):
    """StreetHazards, whose masks have -1, the classes 0 to 12, and 255 where pixels do not count.

    Parameters
    ----------
    root : path
        Folder of the sets, in which this one is ``street-hazards/``.
    subset : str
        ``train``, ``validation`` or ``test``.
    transform : callable, optional
        Function of image and mask that returns both.
    download : bool
        Has no effect: the error says where to get it.

    Raises
    ------
    DataError
        If it, or the subset, is missing.
    """

    VOID_LABEL = 255

    def __init__(
        self, root: StrPath, subset: str, transform: Transform | None = None, download: bool = False
    ) -> None:
        super().__init__("street-hazards", canonical(subset), root, transform)


class MVTechAD(_Masked):
    """A category of MVTec AD, whose masks have -1 and 0.

    Parameters
    ----------
    root : path
        Folder of the sets, in which this one is ``mvtec-ad/``.
    split : str
        ``train`` or ``test``.
    subset : str
        The category, such as ``bottle``; there is no set of all of them.
    transform, target_transform : callable, optional
        Functions of image and of mask.
    download : bool
        Has no effect: the error says where to get it.

    Raises
    ------
    UsageError
        If there is no `subset`.
    DataError
        If it is missing.
    """

    def __init__(
        self, root: StrPath, split: str, subset: str | None = None, transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(f"mvtec-ad:{subset or ''}", split, root, None)
        self.transform, self.target_transform = transform, target_transform

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        image, mask = super().__getitem__(row)
        return (
            self.transform(image) if self.transform else image,
            self.target_transform(mask) if self.target_transform else mask,
        )
