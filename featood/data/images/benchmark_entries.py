"""Entries of sets with covariate shifts, of outliers for training, and of fine-grained and medical benchmarks."""

from __future__ import annotations

__all__ = ["BENCHMARK_ENTRIES"]

from functools import partial
from pathlib import Path
from typing import Any

from featood.data.entry import DatasetEntry
from featood.data.folders import inner_folder
from featood.data.images import class_groups, class_names, corrupted, fine_grained, formats
from featood.data.images.image_set import FOLDERS

_RGB, _GREY = (32, 32, 3), (28, 28, 1)
_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_PIXMIX = "https://github.com/andyzoujm/pixmix"
_SSB = "the splits are those of https://github.com/Visual-AI/Dissect-OOD-OSR"
_MIBOOD = "https://github.com/remic-othr/OpenMIBOOD"
_ZENODO = "https://zenodo.org/record"
_TRAIN_TEST = ("train", "test")


def _entry(name: str, title: str, source: str, num_classes: int = 0, **details: Any) -> DatasetEntry:
    # none of the published files was at hand
    return DatasetEntry(
        name=name, title=title, source=source, num_classes=num_classes, untried=True, **details
    )


def _medical(benchmark: str, name: str, title: str, file: str, **details: Any) -> DatasetEntry:
    # the folder of a benchmark contains the images of all its sets
    return _entry(
        name, title, _MIBOOD, splits=("train", "val", "test"), lists={benchmark: file},
        parts=_only_listed, **details,
    )  # fmt: skip


def _volumes(name: str, title: str, *splits: str, **details: Any) -> DatasetEntry:
    source = f"{_MIBOOD} (volumes: compute their features by featood.extract in Python, or export slices as images)"
    return _entry(name, title, source, splits=(*splits, "test"), **details)


def _only_listed(folder: Path, split: str) -> None:
    """Layout of no folder: the set is defined by its image list alone."""


BENCHMARK_ENTRIES = (
    _entry(
        "cifar10-c", "CIFAR-10-C", f"{_ZENODO}/2535967", 10, shape=_RGB, folders=("CIFAR-10-C",),
        parts=corrupted.cifar_corrupted, lists={"cifar10": "cifar10c"}, classes=class_names.CIFAR10,
        files=((f"{_ZENODO}/2535967/files/CIFAR-10-C.tar", "CIFAR-10-C.tar", "md5:56bf5dcef84df0e2308c6dcbcbbd8499"),),
    ),
    _entry(
        "cifar100-c", "CIFAR-100-C", f"{_ZENODO}/3555552", 100, shape=_RGB, folders=("CIFAR-100-C",),
        parts=corrupted.cifar_corrupted, classes=class_names.CIFAR100,
        files=(
            (f"{_ZENODO}/3555552/files/CIFAR-100-C.tar", "CIFAR-100-C.tar", "md5:11f0ed0f1191edbf9fa23466ae6021d3"),
        ),
    ),
    _entry(
        "mnist-c", "MNIST-C", f"{_ZENODO}/3239543", 10, shape=_GREY, splits=_TRAIN_TEST, folders=("mnist_c",),
        parts=corrupted.mnist_corrupted, classes=class_names.DIGITS,
        files=((f"{_ZENODO}/3239543/files/mnist_c.zip", "mnist_c.zip", "md5:4b34b33045869ee6d424616cd3a65da3"),),
    ),
    _entry(
        "mnist-noise", "MNIST with noise", "https://github.com/BGU-CS-VIL/vmdls (made from MNIST)", shape=_GREY,
        folders=("mnist", "mnist/MNIST/raw", "MNIST/raw"), parts=corrupted.noisy_digits,
    ),
    _entry(
        "imagenet-c", "ImageNet-C", f"{_ZENODO}/2235448 (unpack blur.tar, noise.tar, ... there)", 1000,
        folders=("ImageNetC", "ImageNet-C"), parts=corrupted.imagenet_corrupted,
        lists={"imagenet": "imagenet_c", "imagenet200": "imagenet200_c"}, **_IMAGENET,
    ),
    _entry(
        "imagenet-v2", "ImageNet-V2", "https://github.com/modestyachts/ImageNetV2", 1000,
        folders=("imagenetv2-matched-frequency-format-val", "imagenet_v2"),
        lists={"imagenet": "imagenet_v2", "imagenet200": "imagenet200_v2"}, **_IMAGENET,
    ),
    _entry(
        "imagenet-es", "ImageNet-ES", "https://github.com/Edw2n/ImageNet-ES", 200,
        lists={"imagenet": "imagenet_es"}, **_IMAGENET,
    ),
    _entry(
        "imagenet200", "ImageNet-200", "https://www.image-net.org (the 200 classes of ImageNet-R)", 200,
        splits=("train", "val", "test"), folders=("imagenet", "ILSVRC2012"),
        lists={"imagenet200": "imagenet200"},
        layouts=(partial(fine_grained.classes_of, keep=class_names.IMAGENET200.__contains__),),
        classes=class_names.IMAGENET200, **_IMAGENET,
    ),
    _entry(
        "imagenet800", "ImageNet-800", "https://www.image-net.org (the classes that are not in ImageNet-200)", 800,
        splits=("train", "val"), folders=("imagenet", "ILSVRC2012"),
        layouts=(partial(fine_grained.classes_of, keep=lambda name: name not in class_names.IMAGENET200),), **_IMAGENET,
    ),
    _entry(
        "lsun", "LSUN (full size)", "https://github.com/fyu/lsun (export the images by its data.py)", 10,
        splits=("train", "val"),
    ),
    _entry(
        "tiny-images-300k", "300K random images", "https://github.com/hendrycks/outlier-exposure", shape=_RGB,
        splits=("train",), folders=(".",), layouts=(partial(fine_grained.one_file, name="300K_random_images.npy"),),
        files=(
            ("https://people.eecs.berkeley.edu/~hendrycks/300K_random_images.npy", "300K_random_images.npy",
             "md5:64ca64357de98351f28454274a112dc3"),
        ),
    ),
    _entry(
        "cifar100-gan", "CIFAR-100-GAN", "https://github.com/kkirchheim/mlsw2022-goe", shape=_RGB, splits=("train",),
        folders=(".",), layouts=(partial(fine_grained.one_file, name="samples-50.0.npz"),),
        files=(
            ("https://files.kondas.de/goe-data/samples-50.0.npz", "samples-50.0.npz",
             "md5:95f1365e4c6e188595bb8476d43a82d9"),
        ),
    ),
    _entry("fractals", "Fractals", _PIXMIX, folders=("fractals_and_fvis/fractals/images",)),
    _entry(
        "feature-vis", "Feature visualisations", _PIXMIX,
        folders=("fractals_and_fvis/first_layers_resized256_onevis/images",),
    ),
    _entry(
        "fooling-images", "Fooling images", "https://anhnguyen.me/project/fooling", folders=("10-runs-x-1000-cppns",),
        layouts=(fine_grained.fooling,),
        files=(
            ("https://s.anhnguyen.me/10_runs_x_1000_cppns.tar.gz", "10-runs-x-1000-cppns.tar.gz",
             "md5:0910d63973b1512770f37bebdbb53e37"),
        ),
    ),
    _entry(
        "sumnist", "SuMNIST", "https://github.com/kkirchheim/sumnist", 2, shape=(56, 56, 1), splits=_TRAIN_TEST,
        parts=formats.sumnist, classes=("sum 20", "another sum"), groups={"known": "0", "unknown": "1"},
        files=tuple(
            (f"https://files.kondas.de/sumnist/{name}.npz", f"sumnist/{name}.npz", f"md5:{digits}")
            for name, digits in (
                ("x-train", "c087f1c74a6f7ffcad9956be6f99cf10"), ("y-train", "c6c94eb5ed7ebbe1c466abb14712e807"),
                ("x-test", "7db6727ec075cca1bb4dd0881087ac57"), ("y-test", "7239555b3d809657c06fbbc8da6f3e5e"),
            )
        ),
    ),
    _entry(
        "chars74k", "Chars74K", "https://info-ee.surrey.ac.uk/CVSSP/demos/chars74k", 62,
        folders=("English",),
        layouts=(partial(inner_folder, kind=FOLDERS, names=("Img/GoodImg/Bmp", "English/Img/GoodImg/Bmp")),),
        files=(
            ("https://info-ee.surrey.ac.uk/CVSSP/demos/chars74k/EnglishImg.tgz", "chars74k.tgz",
             "md5:85d157e0c58f998e1cda8def62bcda0d"),
        ),
    ),
    _entry(
        "cub", "CUB-200-2011", f"https://www.vision.caltech.edu/datasets/cub_200_2011 ({_SSB})", 200,
        splits=_TRAIN_TEST, folders=("CUB_200_2011",), layouts=(fine_grained.cub,), groups=class_groups.CUB,
        files=(("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz", "CUB_200_2011.tgz", ""),),
    ),
    _entry(
        "stanford-cars", "Stanford Cars",
        f"https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset ({_SSB})", 196,
        splits=_TRAIN_TEST, folders=("stanford_cars",), layouts=(fine_grained.stanford_cars,), groups=class_groups.CARS,
    ),
    _entry(
        "aircraft", "FGVC-Aircraft", f"https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft ({_SSB})", 100,
        splits=_TRAIN_TEST, folders=("fgvc-aircraft-2013b",), layouts=(fine_grained.aircraft,),
        groups=class_groups.AIRCRAFT,
        files=(
            ("https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
             "fgvc-aircraft-2013b.tar.gz", ""),
        ),
    ),
    _medical("midog", "midog", "MIDOG, domain 1a", "midog", num_classes=3),
    *(
        _medical("midog", f"midog-{domain}", f"MIDOG, domain {domain}", f"midog_{domain}")
        for domain in ("1b", "1c", "2", "3", "4", "5", "6a", "6b", "7")
    ),
    _medical("midog", "ccagt", "CCAgT (OpenMIBOOD)", "midog_ccagt"),
    _medical("midog", "fnac2019", "FNAC 2019 (OpenMIBOOD)", "midog_fnac2019"),
    _medical("phakir", "phakir", "PhaKIR", "phakir", num_classes=7),
    *(
        _medical("phakir", f"phakir-{smoke}-smoke", f"PhaKIR, {smoke} smoke", f"phakir_{smoke}_smoke_csid")
        for smoke in ("medium", "heavy")
    ),
    _medical("phakir", "cholec", "Cholec (OpenMIBOOD)", "phakir_cholec_near"),
    _medical("phakir", "endovis2015", "EndoVis 2015 (OpenMIBOOD)", "phakir_endovis2015_near"),
    _medical("phakir", "endovis2018", "EndoVis 2018 (OpenMIBOOD)", "phakir_endovis2018_near"),
    _medical("phakir", "kvasir", "Kvasir (OpenMIBOOD)", "phakir_kvasir_far"),
    _medical("phakir", "cataracts", "CATARACTS (OpenMIBOOD)", "phakir_cataracts_far"),
    _volumes("oasis3", "OASIS-3, T1-weighted", "train", "val", num_classes=2),
    _volumes("oasis3-scanner", "OASIS-3, another scanner"),
    _volumes("oasis3-t2w", "OASIS-3, T2-weighted"),
    _volumes("oasis3-atlas", "ATLAS 2.0 (OpenMIBOOD)"),
    _volumes("oasis3-brats", "BraTS 2023 glioma (OpenMIBOOD)"),
    _volumes("oasis3-ct", "OASIS-3, computed tomography"),
    _volumes("oasis3-heart", "MSD heart (OpenMIBOOD)"),
    _volumes("oasis3-chaos", "CHAOS, in phase (OpenMIBOOD)"),
)  # fmt: skip
