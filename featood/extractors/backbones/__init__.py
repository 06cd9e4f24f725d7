"""Backbones by name: our small nets, torchvision, timm, or any Python callable; one file a family."""

from __future__ import annotations

__all__ = [
    "CODE",
    "RANDOM",
    "Backbone",
    "align_classes",
    "code_name",
    "list_backbones",
    "resolve_backbone",
]

from featood.extractors.backbones.backbone import CODE, RANDOM, Backbone, code_name
from featood.extractors.backbones.class_names import align_classes
from featood.extractors.backbones.names import list_backbones
from featood.extractors.backbones.resolve import resolve_backbone
