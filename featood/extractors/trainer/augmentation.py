"""Random changes of training images, each drawn from a generator of its own image."""

from __future__ import annotations

__all__ = ["AUGMENTATIONS", "Augmentation", "parse_augmentations"]

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from featood.errors import UsageError

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From pixels, uint8 ``[H, W, C]``, and a generator to pixels of the same shape."""


def crop(image: np.ndarray, rng: np.random.Generator, pad: int = 4, mode: str = "reflect") -> np.ndarray:
    """Pad all sides by `pad` pixels, and crop to the original size at random."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode)  # type: ignore[call-overload]
    top, left = rng.integers(2 * pad + 1, size=2)
    return padded[top : top + height, left : left + width]


def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror left and right with probability 1/2; wrong for digits and letters."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def mutate(image: np.ndarray, rng: np.random.Generator, rate: float) -> np.ndarray:
    """Replace each value with probability `rate` by a uniform one (Ren et al., 2019), to train a background."""
    return np.where(rng.random(image.shape) < rate, rng.integers(0, 256, image.shape, np.uint8), image)


def by_torchvision(image: np.ndarray, rng: np.random.Generator, policy: str) -> np.ndarray:
    """Apply AutoAugment (Cubuk et al., 2019) or RandAugment (Cubuk et al., 2020) as torchvision has them."""
    import torch
    from PIL import Image

    from featood.extractors.vision import torchvision

    transforms = torchvision.transforms
    made = {
        "autoaugment": partial(transforms.AutoAugment, transforms.AutoAugmentPolicy.CIFAR10),
        "autoaugment-imagenet": partial(transforms.AutoAugment, transforms.AutoAugmentPolicy.IMAGENET),
        "randaugment": transforms.RandAugment,
        "trivialaugment": transforms.TrivialAugmentWide,
        "augmix": transforms.AugMix,
    }[policy]()
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[:, :, 0] if grey else image).convert("RGB")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        changed = made(picture)
    return np.asarray(changed.convert("L" if grey else "RGB")).reshape(image.shape)


AUGMENTATIONS: dict[str, Augmentation] = {
    "crop": crop,
    "crop-black": partial(crop, mode="constant"),
    "flip": flip,
    **{
        name: partial(by_torchvision, policy=name)
        for name in ("autoaugment", "autoaugment-imagenet", "randaugment", "trivialaugment", "augmix")
    },
}
"""By name; ``crop:2`` pads by two pixels."""
MUTATES = "mutate"
"""The augmentation that replaces values, with the probability after it."""
MIXES = "pixmix"
"""The augmentation that mixes with images of another set."""


def parse_augmentations(names: Sequence[str], mix: Augmentation | None = None) -> list[Augmentation]:
    """Return the augmentations of names such as ``crop:4`` and ``flip``, in their order.

    Parameters
    ----------
    names : sequence of str
        Keys of `AUGMENTATIONS`, ``mutate`` with a probability (``mutate:0.1``), and ``pixmix``.
    mix : callable, optional
        What ``pixmix`` does.

    Raises
    ------
    UsageError
        If there is none of a name, or its number is not one.
    """
    known = {**AUGMENTATIONS, MUTATES: mutate, MIXES: mix}
    found = []
    for text in names:
        name, _, number = text.partition(":")
        if name not in known:
            raise UsageError(f"there is no augmentation '{name}' (there are: {', '.join(known)})")
        made: Any = known[name]
        if name == MUTATES:
            made = partial(made, rate=_rate(text, number))
        elif number:
            if not name.startswith("crop") or not number.isdecimal() or int(number) < 1:
                raise UsageError(
                    f"'{text}' is no augmentation; only crops take a number of pixels, as crop:4"
                )
            made = partial(made, pad=int(number))
        found.append(made)
    return found


def _rate(text: str, number: str) -> float:
    try:
        rate = float(number)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise UsageError(f"'{text}' is no augmentation; {MUTATES} takes a probability, as {MUTATES}:0.1")
    return rate
