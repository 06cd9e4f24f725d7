"""The benchmarks of pytorch-ood, by their names there, on the sets of :mod:`featood.data`.

`BENCHMARKS` and `MEDICAL` are the tables of the classes, which are made when their names are first used.
"""

from __future__ import annotations

__all__ = ["BENCHMARKS", "MEDICAL"]

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch.utils.data import ConcatDataset, Dataset

from featood.data import available_splits, benchmark, get_entry
from featood.data.naming import StrPath
from featood.detectors.benchmarks import Benchmark
from featood.detectors.generated import make_class
from featood.detectors.image_sets import ImageListDataset, train_of_imagenet
from featood.detectors.rows import Function, Rows, open_rows
from featood.detectors.utils import ToRGB, ToUnknown
from featood.errors import DataError


class _OfSets(Benchmark):
    name: ClassVar[str]
    """Name of the benchmark; see :func:`featood.data.benchmark`."""
    sets: ClassVar[Mapping[str, str]]
    """Outlier sets by the names in the results."""
    parameters: ClassVar[dict[str, str]] = {
        "root": "Folder of the sets.",
        "transform": "Function of an image in RGB.",
        "download": "Whether to download sets that are missing.",
    }

    def __init__(self, root: StrPath, transform: Function, download: bool = False) -> None:
        self.root, self.transform, self.download = root, partial(_in_colour, transform), download
        self.ood_names = list(self.sets)
        self.test_in = self._open(benchmark(self.name).dataset, "test")
        self.test_oods = [self._open(name, "test", outliers=True) for name in self.sets.values()]

    @cached_property
    def train_in(self) -> Dataset[Any]:  # type: ignore[override]
        """The training set, which is opened when it is first used."""
        return self._open(benchmark(self.name).dataset, "train")

    def _open(self, name: str, split: str, outliers: bool = False) -> Rows:
        inputs = open_rows(name, split, self.root, self.download)
        return Rows(inputs, self.transform, ToUnknown() if outliers else None)


class _Downloaded(_OfSets):
    def __init__(self, root: StrPath, transform: Function) -> None:
        super().__init__(root, transform, download=True)


class _NotDownloaded(_OfSets):
    def __init__(self, root: StrPath, transform: Function) -> None:
        super().__init__(root, transform)


class _OpenOOD(_OfSets):
    tuned_on: ClassVar[str]
    """Set of the outliers of `validation_set`."""
    parameters = _OfSets.parameters | {
        "root": "Folder of the image lists of OpenOOD, ``benchmark_imglist/``, and of their images.",
        "download": "Has no effect: the error says what is missing, and where to put it.",
    }

    def __init__(self, root: StrPath, transform: Function, download: bool = True) -> None:
        super().__init__(root, transform)

    def validation_set(self) -> Dataset[Any]:
        """Return the rows for the choice of options, such as by :class:`GridSearch`: known ones, and outliers."""
        known = self._open(benchmark(self.name).dataset, "val")
        return ConcatDataset([known, self._open(self.tuned_on, "val", outliers=True)])

    def _open(self, name: str, split: str, outliers: bool = False) -> Rows:
        defined = benchmark(self.name)
        listed, protocol = defined.listed(name), defined.protocol
        if split == "train" and split not in available_splits(listed, self.root):
            return super()._open(name, split, outliers)
        rows = super()._open(listed, split, outliers)
        path = f"{defined.lists}/{split}_{get_entry(name).lists[defined.lists]}"
        if (expected := protocol.rows.get(path, len(rows))) != len(rows):
            raise DataError(
                f"the image list {path}.txt has {len(rows)} rows, and that of {protocol.title} {expected}: it is of "
                "another version; replace it"
            )
        return rows


class _OnCifar(_OpenOOD):
    tuned_on = "tiny-imagenet"


class _OnImageNet(_OpenOOD):
    tuned_on = "openimage-o"
    parameters = _OpenOOD.parameters | {
        "image_net_root": "Folder of ImageNet, whose ``train/`` is the training set; by default, its image list."
    }

    def __init__(
        self, root: StrPath, transform: Function, image_net_root: StrPath | None = None, download: bool = True
    ) -> None:
        super().__init__(root, transform)
        self.image_net_root = image_net_root

    @cached_property
    def train_in(self) -> Dataset[Any]:  # type: ignore[override]
        """The training set, which is opened when it is first used."""
        if self.image_net_root is None:
            return self._open(benchmark(self.name).dataset, "train")
        return Rows(train_of_imagenet(benchmark(self.name).dataset, self.image_net_root), self.transform)


class _Medical(Benchmark):
    name: ClassVar[str]
    cs_id_names: ClassVar[list[str]]
    """Sets of the same classes with a covariate shift, which count as outliers."""
    near_ood_names: ClassVar[list[str]]
    far_ood_names: ClassVar[list[str]]
    _train_imglist: ClassVar[str]
    _test_imglist: ClassVar[str]
    _ood_imglists: ClassVar[list[str]]
    parameters: ClassVar[dict[str, str]] = {
        "root": "Folder of the images, and of the image lists of OpenMIBOOD in ``imglists/NAME/`` or "
        "``benchmark_imglist/NAME/``.",
        "transform": "Function of an image in RGB.",
        "loader": "Function of a path that returns an image, for files that are not read here, such as volumes.",
        "download": "Has no effect: the error says what is missing.",
    }

    def __init__(
        self,
        root: StrPath,
        transform: Function,
        loader: Callable[[str], Any] | None = None,
        download: bool = True,
    ) -> None:
        folders = [Path(root) / place / self.name for place in ("imglists", "benchmark_imglist")]
        folder = next(filter(Path.is_dir, folders), None)
        if folder is None:
            page = benchmark(self.name).protocol.page
            raise DataError(f"there is no folder {folders[0]}: put the image lists of {page} there")
        self.transform = partial(_in_colour, transform)
        one = partial(ImageListDataset, root, transform=self.transform, loader=loader)
        self.ood_names = [*self.cs_id_names, *self.near_ood_names, *self.far_ood_names]
        self.train_in, self.test_in = one(folder / self._train_imglist), one(folder / self._test_imglist)
        self.test_oods = [one(folder / name, target_transform=ToUnknown()) for name in self._ood_imglists]


def _in_colour(transform: Function, image: Any) -> Any:
    return transform(ToRGB()(image))


_ODIN = {
    "TinyImageNetCrop": "tiny-imagenet-crop",
    "TinyImageNetResize": "tiny-imagenet-resize",
    "LSUNResize": "lsun-resize",
    "LSUNCrop": "lsun-crop",
    "UniformNoise": "noise:uniform,n=1000,seed=123",
    "GaussianNoise": "noise:gaussian,n=1000,seed=123",
}
_FAR = {"MNIST": "mnist", "SVHN": "svhn", "Textures": "textures", "Places365": "places365"}
_LARGE = {
    "SSBHard": "ssb-hard",
    "NINCO": "ninco",
    "iNaturalist": "inaturalist",
    "Textures": "textures-hires",
    "OpenImagesO": "openimage-o",
}
BENCHMARKS: Mapping[str, tuple[type[_OfSets], str, Mapping[str, str]]] = {
    "CIFAR10_ODIN": (_Downloaded, "cifar10-odin", _ODIN),
    "CIFAR100_ODIN": (_Downloaded, "cifar100-odin", _ODIN),
    "CIFAR10_OpenOOD": (
        _OnCifar,
        "cifar10-openood",
        {"CIFAR100": "cifar100", "TinyImageNet": "tiny-imagenet"} | _FAR,
    ),
    "CIFAR100_OpenOOD": (
        _OnCifar,
        "cifar100-openood",
        {"CIFAR10": "cifar10", "TinyImageNet": "tiny-imagenet"} | _FAR,
    ),
    "ImageNet200_OpenOOD": (_OnImageNet, "imagenet200-openood", _LARGE),
    "ImageNet_OpenOOD": (_OnImageNet, "imagenet-openood", _LARGE),
    "CUB_SSB": (_OfSets, "cub-ssb", {"Easy": "cub:easy", "Hard": "cub:hard"}),
    "StanfordCars_SSB": (
        _NotDownloaded,
        "stanford-cars-ssb",
        {"Easy": "stanford-cars:easy", "Hard": "stanford-cars:hard"},
    ),
    "Aircraft_SSB": (_OfSets, "aircraft-ssb", {"Easy": "aircraft:easy", "Hard": "aircraft:hard"}),
}
"""Of each class: its arguments, the benchmark, and its outlier sets by the names in the results."""


class _Lists(NamedTuple):
    name: str
    shifted: Mapping[str, str]
    """Sets by the names in the results, and the endings of their lists after ``test_NAME_``."""
    near: Mapping[str, str]
    far: Mapping[str, str]


def _endings(name: str, sets: str, ending: str = "") -> dict[str, str]:
    return {f"{name}_{one}": f"{one}{ending}" for one in sets.split()}


MEDICAL: Mapping[str, _Lists] = {
    "MIDOG_OpenMIBOOD": _Lists(
        "midog",
        {"midog_csid_1b": "1b", "midog_csid_1c": "1c"},
        _endings("midog", "2 3 4 5 6a 6b 7"),
        _endings("midog", "ccagt fnac2019"),
    ),
    "PhaKIR_OpenMIBOOD": _Lists(
        "phakir",
        _endings("phakir", "medium_smoke heavy_smoke", "_csid"),
        _endings("phakir", "cholec endovis2015 endovis2018", "_near"),
        _endings("phakir", "kvasir cataracts", "_far"),
    ),
    "OASIS3_OpenMIBOOD": _Lists(
        "oasis3",
        _endings("oasis3", "scanner t2w", "_csid"),
        _endings("oasis3", "atlas brats ct", "_near"),
        _endings("oasis3", "heart chaos_inPhase", "_far"),
    ),
}
"""Of each class: the benchmark, and its sets."""
ALIASES = {"ImageNet1K_OpenOOD": "ImageNet_OpenOOD"}


def __getattr__(name: str) -> Any:
    if name in ALIASES:
        return globals().get(ALIASES[name]) or __getattr__(ALIASES[name])
    if name in BENCHMARKS:
        form, of, sets = BENCHMARKS[name]
        defined = benchmark(of)
        title = f"{defined.protocol.title} for {get_entry(defined.dataset).title}"
        summary = f"{title}, with the outlier sets {', '.join(sets)}."
        made = make_class(name, form, __name__, summary, name=of, sets=sets)
    elif name in MEDICAL:
        made = _medical(name, MEDICAL[name])
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made


def _medical(name: str, lists: _Lists) -> Any:
    defined = benchmark(lists.name)
    summary = f"{defined.protocol.title} for {get_entry(defined.dataset).title}, with shifted sets as outliers, too."
    endings = [*lists.shifted.values(), *lists.near.values(), *lists.far.values()]
    return make_class(
        name, _Medical, __name__, summary,
        name=lists.name,
        cs_id_names=list(lists.shifted),
        near_ood_names=list(lists.near),
        far_ood_names=list(lists.far),
        _train_imglist=f"train_{lists.name}.txt",
        _test_imglist=f"test_{lists.name}.txt",
        _ood_imglists=[f"test_{lists.name}_{ending}.txt" for ending in endings],
    )  # fmt: skip
