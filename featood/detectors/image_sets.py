"""Sets of images of :mod:`featood.data` with the names and arguments of pytorch-ood: pairs of PIL image and label.

`SETS` is the table of the classes, which are made when their names are first used.
"""

from __future__ import annotations

__all__ = ["LACKING", "SETS", "ImageListDataset", "train_of_imagenet"]

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from featood.data import InputSet, get_entry
from featood.data.folders import split_folder
from featood.data.images.corrupted import CORRUPTIONS, DIGIT_CORRUPTIONS
from featood.data.images.image_set import FOLDERS
from featood.data.images.lists import read_list
from featood.data.naming import StrPath
from featood.detectors.generated import make_class
from featood.detectors.rows import Function, NamedSet, Rows, joined, open_rows
from featood.errors import DataError, UsageError

OUTLIERS, CLASSES = False, True
"""Whether labels are -1, or class indices."""


class _Images(NamedSet):
    labelled: ClassVar[bool] = OUTLIERS
    parameters: ClassVar[dict[str, str]] = {
        "root": "Folder of the sets, in which this one has a folder of its name.",
        "transform": "Function of the image.",
        "target_transform": "Function of the label.",
        "download": "Whether to download it if it is missing.",
    }
    """Descriptions of the arguments."""

    def __init__(
        self, root: StrPath, transform: Function | None = None, target_transform: Function | None = None,
        download: bool = False,
    ) -> None:  # fmt: skip
        self._use(open_rows(self.name, None, root, download), transform, target_transform)

    def _use(self, inputs: InputSet, *transforms: Function | None) -> None:
        Rows.__init__(self, inputs, *transforms, labelled=self.labelled)


class _AllSplits(_Images):
    def __init__(
        self, root: StrPath, transform: Function | None = None, target_transform: Function | None = None,
        download: bool = False,
    ) -> None:  # fmt: skip
        self._use(open_rows(self.name, "all", root, download), transform, target_transform)


class _Corrupted(_Images):
    parameters = _Images.parameters | {
        "subset": "A corruption, such as ``fog``, at all severities; ``fog,severity=3``; or ``all`` corruptions.",
    }

    def __init__(
        self, root: StrPath, subset: str, transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        kinds = CORRUPTIONS if subset == "all" else (subset,)
        sets = [open_rows(f"{self.name}:{kind}", "test", root, download) for kind in kinds]
        self._use(joined(sets), transform, target_transform)


class _CorruptedFiles(_Corrupted):
    parameters = _Images.parameters | {
        "subset": "A corruption, such as ``fog``, at severity 3; or ``fog,severity=5``."
    }


class _CorruptedDigits(_Images):
    parameters = _Images.parameters | {
        "subset": "A corruption, such as ``fog``; or ``all`` of them and ``identity``.",
        "split": "``train`` or ``test``.",
    }

    def __init__(
        self, root: StrPath, subset: str, split: str, transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        kinds = sorted((*DIGIT_CORRUPTIONS, "identity")) if subset == "all" else (subset,)
        sets = [open_rows(f"{self.name}:{kind}", split, root, download) for kind in kinds]
        self._use(joined(sets), transform, target_transform)


class _Generated(_Images):
    parameters = _Images.parameters | {"sigma": "Only the images of sigma 50 can be read."}

    def __init__(
        self, root: StrPath, transform: Function | None = None, target_transform: Function | None = None,
        download: bool = False, sigma: float = 50.0,
    ) -> None:  # fmt: skip
        if sigma != 50:
            raise UsageError(f"the images of {self.name} are those of sigma 50, not {sigma}")
        super().__init__(root, transform, target_transform, download)


class _Listed(_Images):
    parameters = _Images.parameters | {
        "root": "Folder of the sets, and of the image lists of OpenOOD, whose rows these are: ``benchmark_imglist/``.",
        "subset": "``test`` or ``val``.",
    }

    def __init__(
        self, root: StrPath, subset: str = "test", transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        inputs = open_rows(f"{self.name}:list=imagenet", subset, root, download)
        self._use(inputs, transform, target_transform)


class _Subset(_Images):
    parameters = _Images.parameters | {
        "subset": "``train``, ``val``, or ``test``, which has no classes.",
    }

    def __init__(
        self, root: StrPath, subset: str = "train", download: bool = False, transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:  # fmt: skip
        self._use(open_rows(self.name, subset, root, download), transform, target_transform)


class _OfImageNet(_Images):
    parameters = _Images.parameters | {"root": "Folder of ImageNet, with ``train/``."}

    def __init__(
        self, root: StrPath, transform: Function | None = None, target_transform: Function | None = None
    ) -> None:
        self._use(train_of_imagenet(self.name, root), transform, target_transform)


class _SplitOfImageNet(_Images):
    parameters = _Images.parameters | {
        "root": "Folder of ImageNet, with ``train/``; of other splits, that of the image lists of OpenOOD, "
        "``benchmark_imglist/``, and of their images.",
        "split": "``train``, ``val`` or ``test``.",
    }

    def __init__(
        self, root: StrPath, split: str = "test", transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:  # fmt: skip
        splits = get_entry(self.name).splits
        if split not in splits:
            raise UsageError(f"{self.name} has no split {split!r}, only {', '.join(splits)}")
        if split == "train":
            inputs = train_of_imagenet(self.name, root)
        else:
            inputs = open_rows(f"{self.name}:list={self.name}", split, root)
        self._use(inputs, transform, target_transform)


def train_of_imagenet(name: str, root: StrPath) -> InputSet:
    """Open the training images of ``imagenet``, or of a set of some of its classes, in the folder of ImageNet.

    Raises
    ------
    DataError
        If they are missing.
    """
    layouts, folder = get_entry(name).layouts, Path(root)
    loader = layouts[0](folder, "train") if layouts else split_folder(folder, "train", kind=FOLDERS)
    if loader is None:
        raise DataError(f"{root} has no folder train/ with the images of ImageNet in class folders")
    images: InputSet = loader()
    return images


SETS: Mapping[str, tuple[type[_Images], str, bool]] = {
    "CIFAR10C": (_Corrupted, "cifar10-c", CLASSES),
    "CIFAR100C": (_Corrupted, "cifar100-c", CLASSES),
    "CIFAR100GAN": (_Generated, "cifar100-gan", OUTLIERS),
    "Chars74k": (_Images, "chars74k", CLASSES),
    "FeatureVisDataset": (_Images, "feature-vis", OUTLIERS),
    "FoolingImages": (_Images, "fooling-images", OUTLIERS),
    "FractalDataset": (_Images, "fractals", OUTLIERS),
    "ImageNet200": (_SplitOfImageNet, "imagenet200", CLASSES),
    "ImageNet800": (_OfImageNet, "imagenet800", OUTLIERS),
    "ImageNetA": (_Images, "imagenet-a", CLASSES),
    "ImageNetC": (_CorruptedFiles, "imagenet-c", CLASSES),
    "ImageNetES": (_Images, "imagenet-es:list=imagenet", CLASSES),
    "ImageNetO": (_Images, "imagenet-o", CLASSES),
    "ImageNetR": (_Images, "imagenet-r", CLASSES),
    "ImageNetV2": (_Images, "imagenet-v2", CLASSES),
    "LSUNCrop": (_Images, "lsun-crop", OUTLIERS),
    "LSUNResize": (_Images, "lsun-resize", OUTLIERS),
    "MNISTC": (_CorruptedDigits, "mnist-c", CLASSES),
    "NINCO": (_Images, "ninco", OUTLIERS),
    "OpenImagesO": (_Listed, "openimage-o", OUTLIERS),
    "Places365": (_Images, "places365", OUTLIERS),
    "SSBHard": (_Images, "ssb-hard", OUTLIERS),
    "Textures": (_AllSplits, "textures", OUTLIERS),
    "TinyImageNet": (_Subset, "tiny-imagenet", CLASSES),
    "TinyImageNetCrop": (_Images, "tiny-imagenet-crop", OUTLIERS),
    "TinyImageNetResize": (_Images, "tiny-imagenet-resize", OUTLIERS),
    "TinyImages300k": (_Images, "tiny-images-300k", OUTLIERS),
    "iNaturalist": (_Images, "inaturalist", OUTLIERS),
}
"""Of each class: its arguments, the set, and its labels."""
LACKING = {
    "FishyScapes": "its images are not published, only differences to those of Cityscapes: write the sums, and read "
    "them by featood.data.masked.layouts.open_masked as a folder with masks",
    "SuMNIST": "its boxes of digits are not read: featood.data.open_dataset('sumnist') has the images, and whether the "
    "sum is 20",
    "TinyImages": "its authors withdrew the 80 million images: TinyImages300k has the selection that is in use",
}
"""Names of pytorch-ood that cannot be used, and why."""


class _Lacking(Rows):
    parameters: ClassVar[dict[str, str]] = {"args": "Not used.", "options": "Not used."}

    def __init__(self, *args: Any, **options: Any) -> None:
        raise UsageError(f"there is no {type(self).__name__}: {LACKING[type(self).__name__]}")


def __getattr__(name: str) -> Any:
    if name in LACKING:
        made = make_class(name, _Lacking, __name__, f"It cannot be used: {LACKING[name]}.")
    elif name in SETS:
        form, entry, labelled = SETS[name]
        label = "class index" if labelled else "label -1"
        summary = f"{get_entry(entry).title}, the set ``{entry}``: pairs of PIL image and {label}."
        made = make_class(name, form, __name__, summary, name=entry, labelled=labelled)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made


class ImageListDataset(Rows):
    """Images of a list with lines ``path label``, as of OpenOOD; lines that begin with ``#`` are comments.

    Parameters
    ----------
    root : path
        Folder to which paths are relative.
    imglist_path : path
        The list; the dialects of :func:`featood.data.open_dataset` are read, too.
    transform, target_transform : callable, optional
        Functions of image and label, which is -1 for all negative or missing ones.
    loader : callable, optional
        Function of a path that returns an image, for files that are not read here.

    Raises
    ------
    DataError
        If folder or list do not exist, or a path is outside of the folder.
    """

    def __init__(
        self, root: StrPath, imglist_path: StrPath, transform: Function | None = None,
        target_transform: Function | None = None, loader: Callable[[str], Any] | None = None,
    ) -> None:  # fmt: skip
        if not Path(root).is_dir() or not Path(imglist_path).is_file():
            raise DataError(f"there is no folder {root}, or no list {imglist_path}")
        self.loader = loader
        super().__init__(read_list(Path(imglist_path), Path(root)), transform, target_transform)

    def _read(self, row: int) -> Any:
        return (
            self.loader(f"{self.inputs.root}/{self.inputs.ids[row]}") if self.loader else super()._read(row)
        )
