"""Building a backbone by name."""

from __future__ import annotations

__all__ = ["resolve_backbone"]

import os
from collections.abc import Callable

from featood.errors import UsageError
from featood.extractors.backbones import callables, nets, timm_models, torchvision_models, trained
from featood.extractors.backbones.backbone import Backbone, Built
from featood.extractors.backbones.names import nearest_names
from featood.extractors.weights import weights_sha256
from featood.nets import is_net


def resolve_backbone(name: str, weights: str = "", num_classes: int | None = None, seed: int = 0) -> Backbone:
    """Build a backbone in evaluation mode.

    Parameters
    ----------
    name : str
        A network of featood (``cifar-resnet20``), ``tv:NAME`` or ``tv:NAME@WEIGHTS``, ``timm:NAME``,
        ``python:package.module:callable`` or ``python:path/file.py:callable``, or a name without prefix, which is
        searched in this order; or a folder written by ``featood train``. The module returned by a callable may have an
        attribute ``featood_transform`` with the fields of a :class:`~featood.extractors.transform.Transform`.
    weights : str
        A file or folder (see :func:`featood.extractors.weights.read_checkpoint`; ``FILE#ENTRY`` selects one entry of a
        checkpoint), or ``random``; empty for the published weights. A file determines the number of classes and
        channels and the image size.
    num_classes : int, optional
        Number of classes of a network of featood with random weights.
    seed : int
        Seed of random weights.

    Raises
    ------
    UsageError
        If the name is unknown (the message suggests similar ones), or no weights are given for a network of featood.
    DataError, Mismatch
        If the weights cannot be downloaded or read, or do not match.
    """
    scheme, _, rest = name.partition(":")
    if scheme in BUILDERS and rest:
        built = BUILDERS[scheme](rest, weights, num_classes, seed)
    else:
        family = next((family for family, known in FINDERS.items() if known(name)), None)
        if family is None:
            raise UsageError(f"there is no backbone '{name}'{nearest_names(name)}; see featood backbones")
        if family == "trained":  # a cache may be used from elsewhere
            name = os.path.abspath(name)
        built = BUILDERS[family](name, weights, num_classes, seed)
    digest = weights_sha256(built.module)
    return Backbone(
        name, built.resolved, built.module.eval(), built.weights, built.transform, digest,
        built.classes, built.titles, built.notes, built.folder, built.taps,
    )  # fmt: skip


def _is_torchvision(name: str) -> bool:
    from featood.extractors.vision import torchvision

    return name.partition("@")[0] in torchvision.models.list_models(module=torchvision.models)


def _is_timm(name: str) -> bool:
    from featood.extractors.vision import timm

    return timm.is_model(name.split(".")[0])


BUILDERS: dict[str, Callable[[str, str, int | None, int], Built]] = {
    "net": nets.build,
    "tv": torchvision_models.build,
    "timm": timm_models.build,
    "python": callables.build,
    "trained": trained.build,
}
FINDERS: dict[str, Callable[[str], bool]] = {
    "net": is_net,
    "tv": _is_torchvision,
    "timm": _is_timm,
    "trained": trained.is_trained,
}
