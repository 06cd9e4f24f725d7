"""From a name to a backbone."""

from __future__ import annotations

__all__ = ["resolve_backbone"]

from collections.abc import Callable

from featood.errors import UsageError
from featood.extractors.backbones import callables, nets, timm_models, torchvision_models
from featood.extractors.backbones.backbone import Backbone, Built
from featood.extractors.backbones.names import nearest_names
from featood.extractors.weights import weights_sha256
from featood.nets import is_net


def resolve_backbone(name: str, weights: str = "", num_classes: int | None = None, seed: int = 0) -> Backbone:
    """Build a backbone in evaluation mode.

    Parameters
    ----------
    name : str
        One of our nets (``cifar-resnet20``), ``tv:NAME`` or ``tv:NAME@WEIGHTS``, ``timm:NAME``,
        ``python:package.module:callable`` or ``python:path/file.py:callable``, or a bare name, which is looked
        up in this order. The module that the callable returns may have an attribute ``featood_transform``, the
        fields of a :class:`~featood.extractors.transform.Transform`.
    weights : str
        A file or folder (see :func:`featood.extractors.weights.read_checkpoint`; ``FILE#ENTRY`` takes one
        entry of a checkpoint), or ``random``; empty for the published weights. Classes, channels and image
        size are those of the file.
    num_classes : int, optional
        Width of the logits of a net of ours with random weights.
    seed : int
        Seed of random weights.

    Raises
    ------
    UsageError
        When the name is unknown, and the text suggests the nearest; or a net of ours is to have no weights.
    DataError, Mismatch
        When the weights cannot be had or read, or do not fit.
    """
    scheme, _, rest = name.partition(":")
    if scheme in BUILDERS and rest:
        built = BUILDERS[scheme](rest, weights, num_classes, seed)
    else:
        family = next((family for family, known in FINDERS.items() if known(name)), None)
        if family is None:
            raise UsageError(f"there is no backbone '{name}'{nearest_names(name)}; see featood backbones")
        built = BUILDERS[family](name, weights, num_classes, seed)
    digest = weights_sha256(built.module)
    return Backbone(
        name, built.resolved, built.module.eval(), built.weights, built.transform, digest,
        built.classes, built.titles, built.notes,
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
}
FINDERS: dict[str, Callable[[str], bool]] = {"net": is_net, "tv": _is_torchvision, "timm": _is_timm}
