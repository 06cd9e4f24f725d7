"""Score maps: scores of all pixels of images, by heads that were fitted on some pixels."""

from __future__ import annotations

__all__ = ["MapScores", "score_pixels"]

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from featood.cache import FeatureSet, library_versions
from featood.cache.feature_cache import slug
from featood.data.masked.layouts import open_masked
from featood.data.masked.masked_set import MaskedSet
from featood.errors import Mismatch, UsageError
from featood.extractors.dense import LOGITS, DenseForward, image_maps, plan_dense
from featood.extractors.forward import ready
from featood.extractors.inputs import image_transform
from featood.extractors.recipe import DENSE, rebuild
from featood.heads.base.head import Head
from featood.metrics import auroc, component_metrics, image_scores
from featood.metrics.dense import best_f1_threshold, count_pixels, overlap_below
from featood.names import folder_name
from featood.numerics.devices import pick_device
from featood.pipeline.map_files import MaskFiles, StoredMaps, open_maps
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass
class MapScores:
    """Score maps of images by several heads."""

    masked: MaskedSet
    masks: Sequence[np.ndarray]
    """Mask ``[H, W]`` of each image."""
    maps: dict[str, StoredMaps]
    """Scores ``[H, W]`` of each image by head, float32, at the resolution of the mask."""
    folder: Path
    """Folder of the maps."""
    dataset: str
    """Name by which the images were opened."""
    data_dir: str | None
    """Folder in which they were looked for; None for the default."""

    def rows(
        self,
        limit: float = 0.3,
        min_size: int = 0,
        thresholds: int | None = None,
        reporter: Reporter = SILENT,
    ) -> list[dict[str, Any]]:
        """Return the metrics of each head.

        `ppv` is None if it predicts no component, and `image_auroc`, of the highest score of each image, if all images
        have out-of-distribution pixels. `steps` and `auroc_error` say how exact they are, see
        :class:`featood.metrics.dense.PixelCounts`.

        Parameters
        ----------
        limit, min_size, thresholds
            See :func:`featood.metrics.region_overlap`, :func:`featood.metrics.component_metrics` and
            :mod:`featood.metrics.dense`.
        reporter : Reporter
            Receives the progress, and a line if not all scores are thresholds.

        Raises
        ------
        DataError
            If the images have no out-of-distribution pixels.
        """
        rows: list[dict[str, Any]] = []
        for label, maps in self.maps.items():
            reporter.progress("computing metrics", len(rows), len(self.maps))
            pixels = count_pixels(maps, self.masks, thresholds)
            parts = component_metrics(maps, self.masks, best_f1_threshold(pixels), min_size)
            found = {"siou": parts.siou, "ppv": None if np.isnan(parts.ppv) else parts.ppv, "f1": parts.f1}
            found["pro"] = overlap_below(pixels, limit)
            clean, out = image_scores(maps, self.masks)
            found["image_auroc"] = auroc(clean, out) if len(clean) else None
            sizes = {"n_id": int(pixels.counts.n_id[0]), "n_ood": int(pixels.counts.n_ood[0])}
            exact = {"steps": list(pixels.steps), "auroc_error": pixels.auroc_error}
            rows.append({"head": label, **sizes, **pixels.metrics(), **found, **exact})
        for note in _exactness(rows):
            reporter.line(note)
        return rows


def score_pixels(
    selection: Selection,
    heads: Mapping[str, Head],
    dataset: str = "",
    split: str = "test",
    *,
    folder: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> MapScores:
    """Score every pixel of images by heads that were fitted on sampled pixels.

    The network and its input are those of the selection. Scores are computed for each position of the grid of
    features, and resized to the mask by bilinear interpolation. One image is in memory at a time. Its maps are written
    to the folder, and images that have maps of these heads there are not scored again, so an interrupted job continues.

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
    folder : path, optional
        Folder of the maps, with a folder for each head; by default ``maps/IMAGES/SPLIT``, next to the fitted heads in
        the cache. Maps of a head that was fitted again, of other images or features are replaced.
    device : str
        Device of the network.
    reporter : Reporter
        Receives notes, and the progress.

    Raises
    ------
    UsageError
        If the rows of the selection are no pixels, or the cache is on object storage and there is no folder.
    Mismatch
        If the network has changed since.
    """
    reference = selection.open(next(iter(selection.entries)))
    origin = reference.origin
    if origin is None or DENSE not in origin.recipe:
        raise UsageError(f"the rows of {reference.name} are no pixels; extract them by featood dense extract")
    where = selection.data_dir or origin.run.get("data_dir")
    dataset = dataset or origin.run["dataset"]
    masked = open_masked(dataset, split, where)
    for note in masked.images.notes:
        reporter.line(f"{masked.images.name}/{split}: {note}")
    place = _default_folder(selection, masked) if folder is None else Path(folder)
    made_by = {"recipe": reference.recipe, "versions": library_versions()}
    maps = {
        label: open_maps(place / folder_name(label), head, masked, made_by, reporter)
        for label, head in heads.items()
    }
    missing = {label: set(found.missing()) for label, found in maps.items()}
    if numbers := sorted(set().union(*missing.values())):
        every = _grid_scores(selection, reference, masked, numbers, heads, missing, device)
        for done, (number, label, scores) in enumerate(every, 1):
            maps[label].write(number, scores)
            reporter.progress("scoring", done, sum(map(len, missing.values())))
    return MapScores(masked, MaskFiles(masked, next(iter(maps.values()))), maps, place, dataset, where)


def _grid_scores(
    selection: Selection,
    reference: FeatureSet,
    masked: MaskedSet,
    numbers: Sequence[int],
    heads: Mapping[str, Head],
    missing: Mapping[str, set[int]],
    device: str,
) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield the number of each image, and its scores ``[H, W]`` by each head that lacks them."""
    origin = reference.origin
    assert origin is not None
    backbone, made, options = rebuild(origin, selection.cache.code, dense=True)
    transform = image_transform(made, backbone.name)
    with ready(backbone.module, pick_device(device)) as module:
        example = torch.zeros(2, *transform.shape, device=pick_device(device))
        plan = plan_dense(module, example, options.taps, origin.recipe[DENSE]["window"])
        if plan.as_json() != origin.recipe[DENSE]:
            raise Mismatch(
                f"{backbone.name} no longer returns the maps of {reference.name}; extract them again"
            )
        # one image at a time: its scores are the same whichever images are missing
        batches = [[number] for number in numbers]
        forward = DenseForward(module, plan)
        for number, found, shape in image_maps(forward, masked.images, transform, batches, options.dtype):
            rows = {name: values.reshape(-1, values.shape[-1]) for name, values in found.items()}
            logits = rows.pop(LOGITS, None)
            pixels = FeatureSet(
                rows,
                logits=logits,
                classifier=reference.classifier,
                main=plan.main,
                fingerprint=reference.fingerprint,
                name=masked.images.ids[number],
            )
            for label in (name for name in heads if number in missing[name]):
                scores = torch.from_numpy(np.asarray(heads[label].score(pixels), np.float32))
                grid = scores.view(1, 1, *plan.grid)
                resized = functional.interpolate(grid, shape, mode="bilinear", align_corners=False)
                yield number, label, resized[0, 0].numpy()


def _default_folder(selection: Selection, masked: MaskedSet) -> Path:
    root = selection.cache.maps_folder(selection.backbone, selection.dataset)
    if not isinstance(root, Path):
        raise UsageError(
            "score maps are local files, and this cache is on object storage; name a folder: --maps"
        )
    return root / slug(masked.images.name) / slug(masked.images.split)


def _exactness(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a note if metrics were computed at some of the scores."""
    known, unknown = rows[0]["steps"]
    if unknown > 1:
        error = max(row["auroc_error"] for row in rows)
        yield (
            f"metrics of pixels are computed at 1 of {known} in-distribution and 1 of {unknown} out-of-distribution "
            f"scores; AUROC is exact to {error:.1e}; --thresholds 0 uses all scores, in more memory"
        )
    elif known > 1:
        yield f"AUPR-in and AUTC are computed at 1 of {known} in-distribution scores; all other metrics are exact"
