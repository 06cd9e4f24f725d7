"""Registered sets of images; those of benchmarks are in :mod:`featood.data.images.benchmark_entries`."""

from __future__ import annotations

__all__ = ["IMAGE_ENTRIES"]

from functools import partial
from typing import Any

from featood.data.entry import DatasetEntry
from featood.data.folders import inner_folder
from featood.data.images import ambiguous, class_names, formats, generated
from featood.data.images.cifar import cifar10, cifar100
from featood.data.images.image_set import FOLDERS
from featood.data.images.lists import image_list

_GREY, _RGB = (28, 28, 1), (32, 32, 3)
_TRAIN_TEST, _TRAIN_VAL_TEST = ("train", "test"), ("train", "val", "test")
_CLASSIC, _LARGE = ("cifar10", "cifar100", "mnist"), ("imagenet", "imagenet200")
"""Folders of OpenOOD's image lists."""
_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_ODIN = "the ODIN archives, https://github.com/facebookresearch/odin"
_LARGE_SCALE = "https://github.com/deeplearning-wisc/large_scale_ood"
_DTD = "Describable Textures, https://www.robots.ox.ac.uk/~vgg/data/dtd"
_DIRTY_MNIST = "https://github.com/BlackHC/ddu_dirty_mnist"
_HENDRYCKS = "https://github.com/hendrycks/natural-adv-examples"


def _entry(name: str, title: str, source: str, num_classes: int = 0, **details: Any) -> DatasetEntry:
    return DatasetEntry(name=name, title=title, source=source, num_classes=num_classes, **details)


def _odin(name: str, title: str, folder: str, key: str, checksum: str) -> DatasetEntry:
    address = f"https://www.dropbox.com/s/raw/{key}/{folder}.tar.gz"
    return _entry(
        name, title, _ODIN, shape=_RGB, folders=(folder,), files=((address, f"{folder}.tar.gz", checksum),)
    )


def _berkeley(name: str, checksum: str) -> tuple[tuple[str, str, str], ...]:
    return ((f"https://people.eecs.berkeley.edu/~hendrycks/{name}.tar", f"{name}.tar", checksum),)


def _wisconsin(name: str) -> tuple[tuple[str, str, str], ...]:
    address = f"http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/{name}.tar.gz"
    return ((address, f"{name}.tar.gz", ""),)


def _mnist_like(name: str, title: str, source: str, names: tuple[str, ...], **details: Any) -> DatasetEntry:
    defaults: dict[str, Any] = {
        "shape": _GREY,
        "splits": _TRAIN_TEST,
        "folders": (f"{title}/raw", f"{name}/raw"),
        "layouts": (formats.idx_files,),
        "download": (title, ({},)),
        "classes": names,
    }
    return _entry(name, title, source, len(names), **(defaults | details))


IMAGE_ENTRIES = (
    _entry(
        "cifar10", "CIFAR-10", "https://www.cs.toronto.edu/~kriz/cifar.html", 10,
        shape=_RGB, splits=_TRAIN_TEST, folders=("cifar-10-batches-py", "cifar-10-batches-bin"), layouts=(cifar10,),
        lists=dict.fromkeys(_CLASSIC, "cifar10"), download=("CIFAR10", ({},)),
        mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), classes=class_names.CIFAR10,
    ),
    _entry(
        "cifar100", "CIFAR-100", "https://www.cs.toronto.edu/~kriz/cifar.html", 100,
        shape=_RGB, splits=_TRAIN_TEST, folders=("cifar-100-python", "cifar-100-binary"), layouts=(cifar100,),
        lists=dict.fromkeys(("cifar100", "cifar10"), "cifar100"), download=("CIFAR100", ({},)),
        mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761), classes=class_names.CIFAR100,
    ),
    _entry(
        "svhn", "SVHN", "http://ufldl.stanford.edu/housenumbers", 10,
        shape=_RGB, splits=("train", "test", "extra"), folders=(".",), layouts=(formats.svhn,),
        lists=dict.fromkeys(_CLASSIC[:2], "svhn"), download=("SVHN", ({"split": "train"}, {"split": "test"})),
        mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970), classes=class_names.DIGITS,
    ),
    _mnist_like(
        "mnist", "MNIST", "http://yann.lecun.com/exdb/mnist", class_names.DIGITS,
        lists=dict.fromkeys(_CLASSIC, "mnist"), mean=(0.1307,), std=(0.3081,),
    ),
    _mnist_like(
        "fashion-mnist", "FashionMNIST", "https://github.com/zalandoresearch/fashion-mnist",
        class_names.FASHION_MNIST, mean=(0.2860,), std=(0.3530,), lists={"mnist": "fashionmnist"},
    ),
    _mnist_like(
        "kmnist", "KMNIST", "https://github.com/rois-codh/kmnist", class_names.KMNIST, mean=(0.1918,), std=(0.3483,)
    ),
    _mnist_like(
        "emnist-letters", "EMNIST", "https://www.nist.gov/itl/products-and-services/emnist-dataset",
        class_names.LETTERS, mean=(0.1722,), std=(0.3309,), download=("EMNIST", ({"split": "letters"},)),
        layouts=(
            partial(
                formats.idx_files,
                prefixes=("emnist-letters-train", "emnist-letters-test"), transpose=True, first_label=1,
            ),
        ),
    ),
    _mnist_like(
        "ambiguous-mnist", "AmbiguousMNIST", _DIRTY_MNIST, class_names.DIGITS, mean=(0.1307,), std=(0.3081,),
        folders=("AmbiguousMNIST",), layouts=(ambiguous.published,), download=None,
    ),
    _mnist_like(
        "dirty-mnist", "DirtyMNIST", "MNIST and Ambiguous-MNIST", class_names.DIGITS, mean=(0.1307,), std=(0.3081,),
        generate=ambiguous.dirty, made_of=("mnist", "ambiguous-mnist"), download=None,
    ),
    _mnist_like(
        "interpolated-mnist", "Interpolated MNIST", "interpolated here from MNIST", class_names.DIGITS,
        mean=(0.1307,), std=(0.3081,), generate=ambiguous.interpolated, made_of=("mnist",), download=None,
    ),
    _entry(
        "notmnist", "notMNIST", "http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html", 10,
        shape=_GREY, folders=("notMNIST_small",), classes=tuple("ABCDEFGHIJ"), lists={"mnist": "notmnist"},
    ),
    _entry(
        "omniglot", "Omniglot", "https://github.com/brendenlake/omniglot",
        splits=_TRAIN_TEST, folders=("omniglot-py", "omniglot/python"), layouts=(formats.omniglot,),
        download=("Omniglot", ({"background": True}, {"background": False})),
    ),
    _entry(
        "celeba", "CelebA", "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        shape=(218, 178, 3), splits=_TRAIN_VAL_TEST, layouts=(formats.celeba,), folders=("celeba",),
        download=("CelebA", ({"split": "all"},)),
    ),
    _odin("lsun-crop", "LSUN (crop)", "LSUN", "fhtsw1m3qxlwj6h", "md5:458a0a0ab8e5f1cb4516d7400568e460"),
    _odin("lsun-resize", "LSUN (resize)", "LSUN_resize", "moqh2wh8696c3yl", "md5:278b7b31c8cb7e804a1465a8ce03a2dc"),
    _odin("isun", "iSUN", "iSUN", "ssz7qxfqae0cca5", ""),
    _odin(
        "tiny-imagenet-crop", "TinyImageNet (crop)", "Imagenet", "avgm2u562itwpkl",
        "md5:7c0827e4246c3718a5ee076e999e52e5",
    ),
    _odin(
        "tiny-imagenet-resize", "TinyImageNet (resize)", "Imagenet_resize", "kp3my3412u5k9rl",
        "md5:0f9ff11d45babf2eff5fe12281d1ac31",
    ),
    _entry(
        "tiny-imagenet", "TinyImageNet", "http://cs231n.stanford.edu/tiny-imagenet-200.zip", 200,
        shape=(64, 64, 3), splits=_TRAIN_VAL_TEST, folders=("tiny-imagenet-200",), layouts=(formats.tiny_imagenet,),
        lists=dict.fromkeys(_CLASSIC, "tin"),
        files=(
            ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "tiny-imagenet-200.zip",
             "md5:90528d7ca1a48142e341f4ef8d21d0de"),
        ),
        mean=(0.4802, 0.4481, 0.3975), std=(0.2770, 0.2691, 0.2821),
    ),
    _entry(
        "textures", "Textures", _DTD, 47, splits=_TRAIN_VAL_TEST, folders=("dtd/dtd", "dtd"),
        layouts=(formats.dtd,), lists=dict.fromkeys(_CLASSIC, "texture"), download=("DTD", ({},)),
    ),
    _entry(
        "textures-hires", "Textures (full size)", _DTD, 47, splits=_TRAIN_VAL_TEST, folders=("dtd/dtd", "dtd"),
        layouts=(formats.dtd,), lists=dict.fromkeys(_LARGE, "textures"), download=("DTD", ({},)),
    ),
    _entry(
        "places365", "Places365", "http://places2.csail.mit.edu", 365,
        splits=("val",), folders=("Places", "."), lists=dict.fromkeys(_CLASSIC, "places365"),
        layouts=(partial(image_list, pattern="places365_{split}.txt", roots=("val_256", "val_large")),),
        download=("Places365", ({"split": "val", "small": True},)),
    ),
    _entry(
        "imagenet", "ImageNet-1k", "https://www.image-net.org (ILSVRC 2012)", 1000,
        splits=("train", "val"), folders=("ILSVRC2012",), lists={"imagenet": "imagenet"}, **_IMAGENET,
    ),
    _entry(
        "inaturalist", "iNaturalist", _LARGE_SCALE, folders=("iNaturalist",),
        lists=dict.fromkeys(_LARGE, "inaturalist"), files=_wisconsin("iNaturalist"),
    ),
    _entry("sun", "SUN", _LARGE_SCALE, folders=("SUN",), files=_wisconsin("SUN")),
    _entry(
        "openimage-o", "OpenImage-O", "https://github.com/haoqiwang/vim", folders=("openimage_o",),
        lists=dict.fromkeys(_LARGE, "openimage_o"),
    ),
    _entry(
        "imagenet-o", "ImageNet-O", _HENDRYCKS, 200,
        files=_berkeley("imagenet-o", "md5:86bd7a50c1c4074fb18fc5f219d6d50b"), **_IMAGENET,
    ),
    _entry(
        "imagenet-a", "ImageNet-A", _HENDRYCKS, 200,
        files=_berkeley("imagenet-a", "md5:c3e55429088dc681f30d81f4726b6595"), **_IMAGENET,
    ),
    _entry(
        "imagenet-r", "ImageNet-R", "https://github.com/hendrycks/imagenet-r", 200,
        lists={"imagenet": "imagenet_r", "imagenet200": "imagenet200_r"},
        files=_berkeley("imagenet-r", "md5:a61312130a589d0ca1a8fca1f2bd3337"), **_IMAGENET,
    ),
    _entry(
        "ssb-hard", "SSB-hard", "https://github.com/sgvaze/SSB", folders=("ssb_hard",),
        lists=dict.fromkeys(_LARGE, "ssb_hard"),
    ),
    _entry(
        "ninco", "NINCO", "https://github.com/j-cb/NINCO", folders=("NINCO/NINCO_OOD_classes", "NINCO_OOD_classes"),
        layouts=(partial(inner_folder, kind=FOLDERS, names=("NINCO_OOD_classes", "NINCO/NINCO_OOD_classes")),),
        lists=dict.fromkeys(_LARGE, "ninco"),
        files=(
            ("https://zenodo.org/record/8013288/files/NINCO_all.tar.gz", "ninco.tar.gz",
             "md5:b9ffae324363cd900a81ce3c367cd834"),
        ),
    ),
    _entry(
        "gtsrb", "GTSRB", "https://benchmark.ini.rub.de/gtsrb_news.html", 43,
        splits=_TRAIN_TEST, folders=("gtsrb",), layouts=(formats.gtsrb,),
        download=("GTSRB", ({"split": "train"}, {"split": "test"})),
        mean=(0.3403, 0.3121, 0.3214), std=(0.2724, 0.2608, 0.2669),
    ),
    _entry(
        "digits", "Digits 8 x 8", "comes with scikit-learn", 10, shape=(8, 8, 1), splits=_TRAIN_TEST,
        generate=generated.digits, mean=(0.3053,), std=(0.3759,), classes=class_names.DIGITS,
    ),
    _entry(
        "photo-patches", "Photo patches", "cut from the photographs that come with scikit-learn",
        shape=_RGB, generate=generated.photo_patches,
    ),
    _entry("noise", "Noise", "generated", shape=_RGB, splits=_TRAIN_TEST, generate=generated.noise),
)  # fmt: skip
