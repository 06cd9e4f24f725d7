"""Building a backbone by name."""

from __future__ import annotations

__all__ = ["resolve_backbone"]

import os
from collections.abc import Callable, Mapping
from typing import Any

from featood.errors import UsageError
from featood.extractors.backbones import (
    audio_models,
    callables,
    declared,
    nets,
    published,
    text_models,
    timm_models,
    torchvision_models,
    trained,
)
from featood.extractors.backbones.backbone import MODELS, Backbone, Built, Request
from featood.extractors.backbones.names import nearest_names
from featood.extractors.weights import weights_sha256
from featood.nets import is_net
from featood.reporter import SILENT, Reporter


def resolve_backbone(
    name: str,
    weights: str = "",
    num_classes: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
) -> Backbone:
    """Build a backbone in evaluation mode.

    Parameters
    ----------
    name : str
        A network of featood (``cifar-resnet20``), published weights (``cifar-resnet20.akamaster-cifar10``, see
        :func:`list_published`), ``tv:NAME`` or ``tv:NAME@WEIGHTS``, ``timm:NAME``,
        ``python:package.module:callable`` or ``python:path/file.py:callable``, or a name without prefix, which is
        searched in this order; a folder written by ``featood train``; ``st:NAME`` or ``hf:NAME``, a folder or the name
        on the hub of a text model of sentence-transformers or transformers; and for recordings ``torchaudio:NAME``, a
        pipeline of torchaudio, or ``log-mel``. The module returned by a callable may declare its inputs, see
        :func:`~featood.extractors.backbones.declared.declared_parts`.
    weights : str
        A file or folder (see :func:`featood.extractors.weights.read_checkpoint`; ``FILE#ENTRY`` selects one entry of a
        checkpoint), or ``random``; empty for the published weights. A file determines the number of classes and
        channels and the image size.
    num_classes : int, optional
        Number of classes of a network of featood with random weights.
    seed : int
        Seed of random weights.
    options : mapping, optional
        Options of a network of featood, such as ``sn``, see :func:`featood.nets.net_options`; or ``global_pool`` of one
        of timm.
    reporter : Reporter
        Receives the progress of downloads.

    Raises
    ------
    UsageError
        If the name is unknown (the message suggests similar ones), no weights are given for a network of featood, or it
        has no such options.
    DataError, Mismatch
        If the weights cannot be downloaded or read, or do not match.
    """
    request = Request(weights, num_classes, seed, options or {}, reporter=reporter)
    family, _, rest = name.partition(":")
    if family not in BUILDERS or not rest:
        rest = name
        family = next((family for family, known in FINDERS.items() if known(name)), "")
        if family == "trained":  # a cache may be used from elsewhere
            name = rest = os.path.abspath(name)
    if f"{family}:" in MODELS and os.path.isdir(rest):
        rest = os.path.abspath(rest)
        name = f"{family}:{rest}"
    if not family:
        raise UsageError(f"there is no backbone '{name}'{nearest_names(name)}; see featood backbones")
    if request.options and family not in ("net", "timm"):
        raise UsageError(f"{name} takes no options: only featood's own networks do, such as wrn-28-10")
    built = BUILDERS[family](rest, request)
    digest = weights_sha256(built.module)
    return Backbone(
        name, built.resolved, built.module.eval(), built.weights, built.transform, digest,
        built.classes, built.titles, built.notes, built.folder, built.taps, built.options,
    )  # fmt: skip


def _is_torchvision(name: str) -> bool:
    if "/" in name:  # a path; the import takes seconds
        return False
    from featood.extractors.vision import torchvision

    return name.partition("@")[0] in torchvision.models.list_models(module=torchvision.models)


def _is_timm(name: str) -> bool:
    if "/" in name:
        return False
    from featood.extractors.vision import timm

    return timm.is_model(name.split(".")[0])


BUILDERS: dict[str, Callable[[str, Request], Built]] = {
    "net": nets.build,
    "tv": torchvision_models.build,
    "timm": timm_models.build,
    "python": callables.build,
    "published": published.build,
    "trained": trained.build,
    "st": text_models.build_encoder,
    "hf": text_models.build_transformer,
    "torchaudio": audio_models.build_pipeline,
    "audio": declared.build_log_mel,
}
FINDERS: dict[str, Callable[[str], bool]] = {
    "published": published.is_published,
    "net": is_net,
    "tv": _is_torchvision,
    "timm": _is_timm,
    "trained": trained.is_trained,
    "audio": declared.LOG_MEL.__eq__,
}
