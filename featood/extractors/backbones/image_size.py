"""Vision transformers for images of another size than that of their weights."""

from __future__ import annotations

__all__ = ["at_image_size"]

import dataclasses
from typing import Any

from featood.errors import UsageError
from featood.extractors.backbones.backbone import Backbone
from featood.extractors.weights import weights_sha256


def at_image_size(backbone: Backbone, height: int, width: int) -> Backbone:
    """Adapt a vision transformer of timm to an image size, in place; other networks are returned unchanged.

    The grid of the position embeddings is resampled by timm (bicubic, with anti-aliasing). The digest stays that of the
    weights as they were loaded, so with the image size and `resampled` it determines the network.

    Raises
    ------
    UsageError
        If the size is not a multiple of the side of a patch, so that pixels would be left out.
    """
    module: Any = backbone.module
    embed = getattr(module, "patch_embed", None)
    if not (hasattr(module, "num_prefix_tokens") and hasattr(module, "set_input_size") and embed is not None):
        return backbone
    patch, size, before = embed.patch_size, embed.img_size, embed.grid_size
    left_out = height % patch[0], width % patch[1]
    if size == (height, width):
        note = (
            f"the last {left_out[0]} rows and {left_out[1]} columns of pixels are in no patch, as published"
        )
        return dataclasses.replace(backbone, notes=(*backbone.notes, note)) if any(left_out) else backbone
    if any(left_out) and not embed.dynamic_img_pad:
        below = min(height, width) // patch[0] * patch[0]
        nearest = " or ".join(str(side) for side in (below, below + patch[0]) if side)
        raise UsageError(
            f"{backbone.name} divides images into patches of {patch[0]} x {patch[1]} pixels, and {height} x {width} is "
            f"not a multiple: use --image-size {nearest}"
        )
    module.set_input_size(img_size=(height, width))
    embedded = getattr(module, "pos_embed", None) is not None
    how = "embeddings are resampled" if embedded else "encoding is adapted"
    note = (
        f"its position {how} from {before[0]} x {before[1]} to {embed.grid_size[0]} x {embed.grid_size[1]} patches, "
        f"for {height} x {width} pixels"
    )
    return dataclasses.replace(
        backbone,
        notes=(*backbone.notes, note),
        resampled=tuple(before) if embedded else None,
        resampled_sha256=weights_sha256(module),
    )
