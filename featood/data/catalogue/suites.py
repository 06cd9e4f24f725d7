"""Named lists of out-of-distribution sets for an in-distribution set."""

from __future__ import annotations

__all__ = ["list_suites", "near_and_far", "suite"]

import difflib
from collections.abc import Iterable, Sequence

from featood.data.catalogue.registry import dataset_key
from featood.data.selection import split_limit
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
    "imagenet200-near": ("ssb-hard", "ninco"),
    "imagenet200-far": ("inaturalist", "textures-hires", "openimage-o"),
    # sets of the same classes with a covariate shift, which full-spectrum detection counts as in-distribution
    "cifar10-shifted": ("cifar10-c",),
    "imagenet-shifted": ("imagenet-v2", "imagenet-c", "imagenet-r", "imagenet-es"),
    "imagenet200-shifted": ("imagenet-v2", "imagenet-c", "imagenet-r"),
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
    # Wang et al. 2024, for networks trained on cub:known etc.
    **{f"{name}-ssb": (f"{name}:easy", f"{name}:hard") for name in ("cub", "stanford-cars", "aircraft")},
    # OpenMIBOOD (Gutbrod et al. 2025)
    "midog-shifted": ("midog-1b", "midog-1c"),
    "midog-near": ("midog-2", "midog-3", "midog-4", "midog-5", "midog-6a", "midog-6b", "midog-7"),
    "midog-far": ("ccagt", "fnac2019"),
    "phakir-shifted": ("phakir-medium-smoke", "phakir-heavy-smoke"),
    "phakir-near": ("cholec", "endovis2015", "endovis2018"),
    "phakir-far": ("kvasir", "cataracts"),
    "oasis3-shifted": ("oasis3-scanner", "oasis3-t2w"),
    "oasis3-near": ("oasis3-atlas", "oasis3-brats", "oasis3-ct"),
    "oasis3-far": ("oasis3-heart", "oasis3-chaos"),
    "debian-sections-near": ("debian-near",),
    "debian-sections-far": ("debian-far",),
    # Hendrycks et al. 2019, who have further sets
    "newsgroups20-exposure": ("multi30k", "wmt16"),
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


def near_and_far(dataset: str, sets: Iterable[str], suites: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return which sets are near and which are far, in the order of the suites.

    Parameters
    ----------
    dataset : str
        Name of the in-distribution set, which selects the suites ``DATASET-near`` and ``DATASET-far``.
    sets : iterable of str
        Names of out-of-distribution sets.
    suites : sequence of str
        Further suites, whose names end in ``-near`` or ``-far``; they have priority.

    Returns
    -------
    dict of str to list of str
        Names by ``near`` and ``far``; a group without sets is left out.

    Examples
    --------
    >>> near_and_far("cifar10", ["svhn", "lsun-crop", "tiny_imagenet", "cifar100:list=cifar10"])
    {'near': ['cifar100:list=cifar10', 'tiny_imagenet'], 'far': ['svhn']}
    """
    whole = _whole(dataset)
    left = {_whole(dataset_key(name)): name for name in sets}
    groups: dict[str, list[str]] = {"near": [], "far": []}
    for listed in (*suites, f"{whole}-near", f"{whole}-far"):
        group = listed.rpartition("-")[2]
        if group in groups:
            groups[group] += [left.pop(name) for name in _SUITES.get(listed, ()) if name in left]
    return {group: names for group, names in groups.items() if names}


def _whole(name: str) -> str:
    """Return a name without what selects rows of all classes: those of an image list, or evenly spaced ones."""
    return str(split_limit(name)[0]).partition(":list=")[0]
