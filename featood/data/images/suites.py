"""Named lists of out-of-distribution sets for an in-distribution set."""

from __future__ import annotations

__all__ = ["list_suites", "suite"]

import difflib

from featood.errors import UsageError

_CIFAR_FAR = ("mnist", "svhn", "textures", "places365")
_ODIN = (
    "tiny-imagenet-crop",
    "tiny-imagenet-resize",
    "lsun-crop",
    "lsun-resize",
    "isun",
    "noise:uniform",
    "noise:gaussian",
)
_ENERGY = ("textures", "svhn", "places365", "lsun-crop", "lsun-resize", "isun")
# HEAT resizes validation images of all LSUN categories to 32 x 32; lsun-resize is the most similar public set.
_HEAT = ("tiny-imagenet", "lsun-resize", "places365", "textures", "svhn")

_SUITES: dict[str, tuple[str, ...]] = {
    # near and far: OpenOOD v1.5 (Zhang et al. 2023); for MNIST, OpenOOD v1 (Yang et al. 2022)
    "cifar10-near": ("cifar100", "tiny-imagenet"),
    "cifar10-far": _CIFAR_FAR,
    "cifar100-near": ("cifar10", "tiny-imagenet"),
    "cifar100-far": _CIFAR_FAR,
    "imagenet-near": ("ssb-hard", "ninco"),
    "imagenet-far": ("inaturalist", "textures-hires", "openimage-o"),
    "mnist-near": ("notmnist", "fashion-mnist"),
    "mnist-far": ("textures", "cifar10", "tiny-imagenet", "places365"),
    # Liang et al. 2018
    "cifar10-odin": _ODIN,
    "cifar100-odin": _ODIN,
    # Liu et al. 2020
    "cifar10-energy": _ENERGY,
    "cifar100-energy": _ENERGY,
    # Lafon et al. 2023; for ImageNet the four sets of Huang and Li 2021
    "cifar10-heat": ("cifar100", *_HEAT),
    "cifar100-heat": ("cifar10", *_HEAT),
    "imagenet-heat": ("inaturalist", "sun", "places365", "textures-hires"),
}


def list_suites() -> list[str]:
    """List the names of all suites."""
    return sorted(_SUITES)


def suite(name: str) -> list[str]:
    """Return the names of the sets in a suite, such as ``cifar10-near``.

    Raises
    ------
    UsageError
        If there is no such suite.
    """
    if name not in _SUITES:
        near = difflib.get_close_matches(name, _SUITES, n=3)
        raise UsageError(f"no suite is named {name!r}; there are {', '.join(near or list_suites())}")
    return list(_SUITES[name])
