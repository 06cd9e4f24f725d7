"""Choosing the published settings of a head that suit the kind of network."""

from __future__ import annotations

__all__ = ["choose_preset"]

from featood.cache import FeatureSet
from featood.heads import head_class

NARROW = 256
"""Fewest features that settings are used for; the networks that they are published for have 342 or more."""
SMALL_IMAGES = 64
"""Side in pixels up to which a network counts as one for small images, as those for CIFAR are."""
FEW, MANY = 20, 200
"""Numbers of classes up to which settings for CIFAR-10, and for CIFAR-100, are taken."""


def choose_preset(name: str, source: FeatureSet) -> tuple[str | None, str]:
    """Choose published settings of a head for a set, if it has any.

    Heads that are published with other settings for small images (CIFAR) than for large ones (ImageNet) take those
    of the size that the extraction's transform makes. Where that is not known, as of imported features, they take
    those for ImageNet when there are more than 200 classes; else the defaults. The defaults are also taken for
    networks with few features: 5 % of the 64 of a ResNet-20 are three, and ASH-S, SCALE fall from 86 to 29 and
    from 87 to 33 (AUROC, CIFAR-10 against CIFAR-100). Heads that train a network take the settings by the number of
    classes.

    Parameters
    ----------
    name : str
        Name of the head.
    source : FeatureSet
        The in-distribution set.

    Returns
    -------
    preset : str or None
        ``cifar10``, ``cifar100`` or ``imagenet``; None for the defaults.
    line : str
        What to tell the user; empty where there is nothing to choose.
    """
    cls, classes = head_class(name), source.num_classes
    offered = [preset for preset in ("cifar10", "cifar100", "imagenet") if preset in cls.presets]
    if not offered:
        return None, ""
    side, width = _side(source), source.feature().shape[1] if source.features else 0
    doubt = ""
    if cls.trains:
        why = f"{classes} classes"
        choice = None if classes is None else _by_classes(classes)
    elif 0 < width < NARROW:
        doubt = f"are for networks of {NARROW} features and more, and this one has {width}"
    elif side is not None:
        why = f"a network for images of {side} pixels"
        choice = "imagenet" if side > SMALL_IMAGES else _by_classes(min(classes or 0, MANY))
    elif classes is not None and classes > MANY:
        why, choice = f"{classes} classes", "imagenet"
    else:
        doubt = "differ by the kind of network, which cannot be told here"
    if doubt:
        return None, (
            f"settings of {name}: the defaults; those published {doubt}: choose by featood tune {name}, or with "
            f"--preset {' or '.join(offered)}"
        )
    if choice not in offered:
        return None, ""
    return choice, (
        f"settings of {name}: the {choice} preset, for {why} (choose another with --preset, or by featood tune {name})"
    )


def _by_classes(count: int) -> str:
    return "cifar10" if count <= FEW else "cifar100" if count <= MANY else "imagenet"


def _side(source: FeatureSet) -> int | None:
    """Return the longer side of the network's input in pixels, where the set's recipe tells."""
    transform = source.recipe.get("transform", {})
    sides = [transform.get(side) for side in ("height", "width")]
    return max(sides) if all(isinstance(side, int) for side in sides) else None
