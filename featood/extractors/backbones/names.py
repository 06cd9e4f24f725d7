"""Names of all known networks."""

from __future__ import annotations

__all__ = ["list_backbones", "nearest_names"]

import difflib

from featood.nets import list_nets


def list_backbones() -> dict[str, list[str]]:
    """Return the known names of networks by family; imports torchvision and timm."""
    from featood.extractors.vision import timm, torchvision

    return {
        "net": list_nets(),
        "tv": torchvision.models.list_models(module=torchvision.models),
        "timm": timm.list_models(),
    }


def nearest_names(name: str) -> str:
    """Return a suggestion of known backbones with similar names; empty if there are none."""
    from featood.extractors.backbones.published import list_published

    names = [*list_published(), *(known for family in list_backbones().values() for known in family)]
    near = difflib.get_close_matches(name.split(":")[-1], names, 3, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
