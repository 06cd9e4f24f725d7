"""Choice of settings for the kind of rows: published ones of a kind of network, and the space for tables."""

from __future__ import annotations

__all__ = ["choose_preset", "options_for_tables"]

import dataclasses
from collections.abc import Collection
from typing import Any

from featood.cache import FeatureSet
from featood.heads import head_class

NARROW = 256
"""Minimum number of features for published settings; the networks in the publications have at least 342."""
SMALL_IMAGES = 64
"""Maximum image size in pixels for which the settings for CIFAR are used."""
FEW, MANY = 20, 200
"""Maximum numbers of classes for which the settings for CIFAR-10 and for CIFAR-100 are used."""


def choose_preset(name: str, source: FeatureSet) -> tuple[str | None, str]:
    """Choose published settings of a head for a set, if it has any.

    For heads with different published settings for small images (CIFAR) and large ones (ImageNet), the settings are
    chosen by the image size of the extraction's transform. If that is unknown, as for imported features, those for
    ImageNet are used if there are more than 200 classes, otherwise the defaults. The defaults are also used for
    networks with few features: 5 % of the 64 features of a ResNet-20 are three, and the AUROC of ASH-S and SCALE falls
    from 86 to 29 and from 87 to 33 (CIFAR-10 against CIFAR-100). Heads that train a network have defaults of their own,
    which detect better than the published settings; see the guide on choosing a head.

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
        Message for the user; empty if the head has no presets.
    """
    cls, classes = head_class(name), source.num_classes
    offered = [preset for preset in ("cifar10", "cifar100", "imagenet") if preset in cls.presets]
    if not offered:
        return None, ""
    side, width = _side(source), source.feature().shape[1] if source.features else 0
    if cls.trains:
        return (
            None,
            f"settings of {name}: the defaults; for the published ones, use --preset {' or '.join(offered)}",
        )
    doubt = ""
    if 0 < width < NARROW:
        doubt = f"are for networks of {NARROW} features and more, and this one has {width}"
    elif side is not None:
        why = f"a network for images of {side} pixels"
        choice = "imagenet" if side > SMALL_IMAGES else _by_classes(min(classes or 0, MANY))
    elif classes is not None and classes > MANY:
        why, choice = f"{classes} classes", "imagenet"
    else:
        doubt = "depend on the kind of network, which is unknown here"
    if doubt:
        return None, (
            f"settings of {name}: the defaults; the published settings {doubt}: use featood tune {name}, or "
            f"--preset {' or '.join(offered)}"
        )
    if choice not in offered:
        return None, ""
    return choice, (
        f"settings of {name}: the {choice} preset, for {why} (to change them, use --preset or featood tune {name})"
    )


def options_for_tables(
    name: str, source: FeatureSet, preset: str | None = None, given: Collection[str] = ()
) -> tuple[dict[str, Any], str]:
    """Return options that replace defaults for the rows of a table, and a line that says so.

    By default, most heads that train a network look at rows of unit length, which suit features of networks; columns
    of a table have units of their own. A head may have further options for tables (`table_options`).

    Parameters
    ----------
    name : str
        Name of the head.
    source : FeatureSet
        The in-distribution set.
    preset : str, optional
        Settings of the head, which count instead if they include an option.
    given : collection of str
        Names of the options that the user gave, which count, too.

    Returns
    -------
    options : dict
        Empty if the rows are not from a table, or the head's defaults suit it.
    line : str
        Message for the user; empty without options.
    """
    cls, manifest = head_class(name), source.origin
    if manifest is None or manifest.table is None or not cls.trains:
        return {}, ""
    fields = {field.name: field.default for field in dataclasses.fields(cls)}
    options = {"space": "standardize"} if str(fields.get("space")).startswith("l2") else {}
    options |= getattr(cls, "table_options", {})
    chosen = {*given, *({} if preset is None else cls.presets.get(preset, {}))}
    options = {option: value for option, value in options.items() if option not in chosen}
    if not options:
        return {}, ""
    named = ", ".join(f"{option} {value}" for option, value in options.items())
    return options, f"settings of {name}: {named}, for the columns of a table"


def _by_classes(count: int) -> str:
    return "cifar10" if count <= FEW else "cifar100" if count <= MANY else "imagenet"


def _side(source: FeatureSet) -> int | None:
    """Return the longer side of the network's input in pixels, or None if the set's recipe does not contain it."""
    transform = source.recipe.get("transform", {})
    sides = [transform.get(side) for side in ("height", "width")]
    return max(sides) if all(isinstance(side, int) for side in sides) else None
