"""Another trained network, from whose outputs columns are made: found by its folder, and known by its digest."""

from __future__ import annotations

__all__ = ["check_network", "network_inputs", "open_network"]

import functools
from typing import TYPE_CHECKING

from torch import Tensor

from featood.errors import Mismatch, UsageError
from featood.extractors.inputs import image_transform
from featood.extractors.transform import Transform
from featood.extractors.weights import weights_sha256

if TYPE_CHECKING:
    from featood.extractors.trainer.folder import Extractor


def open_network(folder: str) -> tuple[Extractor, str]:
    """Load the network in a folder of ``featood train``; return it and the digest of its weights.

    Raises
    ------
    UsageError
        If there is none.
    """
    from featood.extractors.trainer.folder import is_extractor, load_extractor

    if not is_extractor(folder):
        raise UsageError(f"{folder} contains no network trained by featood train")
    found = load_extractor(folder)
    return found, weights_sha256(found.net)


@functools.lru_cache(maxsize=4)
def check_network(folder: str, sha256: str) -> Extractor:
    """Load a network whose digest is known; once, as the network of a digest does not change with its folder.

    Raises
    ------
    UsageError
        If there is none.
    Mismatch
        If its weights have changed.
    """
    found, digest = open_network(folder)
    if digest != sha256:
        raise Mismatch(f"the network in {folder} is not the one with which the cache was made; extract again")
    return found


def network_inputs(found: Extractor, folder: str, inputs: Tensor, transform: Transform) -> Tensor:
    """Normalise inputs, which were normalised by a transform, as another network expects them.

    Raises
    ------
    Mismatch, UsageError
        If it was trained on images of another size, or on texts.
    """
    inside = image_transform(found.facts.transform, folder)
    if inside.shape != transform.shape:
        sizes = [" x ".join(map(str, one.shape)) for one in (inside, transform)]
        raise Mismatch(f"the network in {folder} takes images of {sizes[0]}, not {sizes[1]}")
    return inside.normalised(transform.scaled(inputs))
