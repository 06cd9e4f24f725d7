"""Pictures of what the network of a set generates, which its training left in its folder."""

from __future__ import annotations

__all__ = ["network_pictures"]

from pathlib import Path

from featood.cache.feature_set import FeatureSet
from featood.errors import FeatoodError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.trainer import is_extractor


def network_pictures(features: FeatureSet) -> dict[str, bytes]:
    """Return PNG files by what they show, such as ``samples``; none if the folder does not have these weights any more.

    Parameters
    ----------
    features : FeatureSet
        A set that may have been extracted with a network trained by ``featood train``.
    """
    origin = features.origin
    name = "" if origin is None else str(origin.run.get("name", ""))
    folder = Path(name.removesuffix("#last"))
    if origin is None or not is_extractor(folder):
        return {}
    try:
        found = resolve_backbone(name)
    except FeatoodError:
        return {}
    if found.sha256 != origin.recipe.get("weights_sha256"):
        return {}
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}
