"""Score maps: scores of all pixels of images, by heads that were fitted on some pixels."""

from __future__ import annotations

__all__ = ["MapScores", "score_pixels"]

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from featood.cache import FeatureSet
from featood.data.masked.layouts import open_masked
from featood.data.masked.masked_set import MaskedSet
from featood.errors import Mismatch, UsageError
from featood.extractors.dense import LOGITS, DenseForward, image_maps, plan_dense
from featood.extractors.forward import ready
from featood.extractors.inputs import image_transform
from featood.extractors.recipe import DENSE, rebuild
from featood.heads.base.head import Head
from featood.metrics import auroc, component_metrics, image_scores, pixel_metrics, region_overlap
from featood.numerics.devices import pick_device
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass
class MapScores:
    """Score maps of images by several heads."""

    masked: MaskedSet
    masks: list[np.ndarray]
    """Mask ``[H, W]`` of each image."""
    maps: dict[str, list[np.ndarray]]
    """Scores ``[H, W]`` of each image by head, float32, at the resolution of the mask."""

    def rows(self, limit: float = 0.3, min_size: int = 0) -> list[dict[str, Any]]:
        """Return the metrics of each head.

        `ppv` is None if it predicts no component, and `image_auroc`, of the highest score of each image, if all images
        have out-of-distribution pixels.

        Parameters
        ----------
        limit, min_size
            See :func:`featood.metrics.region_overlap` and :func:`featood.metrics.component_metrics`.

        Raises
        ------
        DataError
            If the images have no out-of-distribution pixels.
        """
        rows = []
        for label, maps in self.maps.items():
            parts = component_metrics(maps, self.masks, min_size=min_size)
            found = {"siou": parts.siou, "ppv": None if np.isnan(parts.ppv) else parts.ppv, "f1": parts.f1}
            found["pro"] = region_overlap(maps, self.masks, limit)
            clean, out = image_scores(maps, self.masks)
            found["image_auroc"] = auroc(clean, out) if len(clean) else None
            rows.append({"head": label, **pixel_metrics(maps, self.masks), **found})
        return rows


def score_pixels(
    selection: Selection,
    heads: Mapping[str, Head],
    dataset: str = "",
    split: str = "test",
    *,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> MapScores:
    """Score every pixel of images by heads that were fitted on sampled pixels.

    The network and its input are those of the selection. Scores are computed for each position of the grid of
    features, and resized to the mask by bilinear interpolation.

    Parameters
    ----------
    selection : Selection
        Pixels in the cache, see :func:`featood.pipeline.dense_extraction.extract_pixels`.
    heads : mapping of str to Head
        Fitted heads by label.
    dataset : str
        The images; by default those of the selection.
    split : str
        Their split.
    device : str
        Device of the network.
    reporter : Reporter
        Receives notes, and the progress.

    Raises
    ------
    UsageError
        If the rows of the selection are no pixels.
    Mismatch
        If the network has changed since.
    """
    reference = selection.open(next(iter(selection.entries)))
    origin = reference.origin
    if origin is None or DENSE not in origin.recipe:
        raise UsageError(f"the rows of {reference.name} are no pixels; extract them by featood dense extract")
    where = selection.data_dir or origin.run.get("data_dir")
    masked = open_masked(dataset or origin.run["dataset"], split, where)
    for note in masked.images.notes:
        reporter.line(f"{masked.images.name}/{split}: {note}")
    backbone, made, options = rebuild(origin, selection.cache.code, dense=True)
    transform = image_transform(made, backbone.name)
    found = MapScores(masked, [], {label: [] for label in heads})
    with ready(backbone.module, pick_device(device)) as module:
        example = torch.zeros(2, *transform.shape, device=pick_device(device))
        plan = plan_dense(module, example, options.taps, origin.recipe[DENSE]["window"])
        if plan.as_json() != origin.recipe[DENSE]:
            raise Mismatch(
                f"{backbone.name} no longer returns the maps of {reference.name}; extract them again"
            )
        forward = DenseForward(module, plan)
        for number, maps, shape in image_maps(forward, masked.images, transform, [[n] for n in range(len(masked))], options.dtype):
            rows = {name: values.reshape(-1, values.shape[-1]) for name, values in maps.items()}
            logits = rows.pop(LOGITS, None)
            pixels = FeatureSet(
                rows,
                logits=logits,
                classifier=reference.classifier,
                main=plan.main,
                fingerprint=reference.fingerprint,
                name=masked.images.ids[number],
            )
            found.masks.append(masked.mask(number, shape))
            for label, head in heads.items():
                scores = torch.from_numpy(np.asarray(head.score(pixels), np.float32)).view(1, 1, *plan.grid)
                resized = functional.interpolate(scores, shape, mode="bilinear", align_corners=False)
                found.maps[label].append(resized[0, 0].numpy())
            reporter.progress("scoring", number + 1, len(masked))
    return found
