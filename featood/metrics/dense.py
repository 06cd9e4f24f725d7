"""Metrics of score maps: detection over pixels, over connected components, and the overlap of regions.

A map has a mask of the same shape, whose pixels are `OUTLIER`, `IGNORED`, or in-distribution (any number from 0, such
as a class). Ignored pixels count nowhere. Components are connected along sides and corners. Higher scores mean more
out-of-distribution.
"""

from __future__ import annotations

__all__ = [
    "IGNORED", "OUTLIER", "ComponentMetrics", "best_f1_threshold", "component_metrics", "image_scores",
    "pixel_metrics", "pixel_scores", "region_overlap",
]  # fmt: skip

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from featood.errors import DataError, UsageError
from featood.metrics.counts import checked_scores, count_scores
from featood.metrics.detection import detection_metrics

OUTLIER, IGNORED = -1, -2
"""Values of out-of-distribution and of ignored pixels in a mask."""
OVERLAPS = np.arange(25, 80, 5) / 100
"""Overlaps from which a component counts as found, over which F1 is averaged."""
CORNERS = np.ones((3, 3), int)


class ComponentMetrics(NamedTuple):
    """Metrics of connected components at one threshold, between 0 and 1, higher is better."""

    siou: float
    """Mean of the adjusted intersection over union (sIoU) of the true components."""
    ppv: float
    """Mean over the predicted components of the share of out-of-distribution pixels; NaN without any."""
    f1: float
    """F1 of found components, averaged over the overlaps 0.25, 0.30, ..., 0.75."""


def pixel_scores(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "M"]]:
    """Return the scores of the in-distribution and of the out-of-distribution pixels of all maps.

    Parameters
    ----------
    maps : sequence of array
        Scores ``[H, W]`` of each image.
    masks : sequence of array
        Integers ``[H, W]`` of each image.

    Raises
    ------
    DataError
        If a mask has another shape than its map. All functions of this module have the same arguments and errors.
    """
    pairs = list(_pairs(maps, masks))
    known = [scores[mask >= 0] for scores, mask in pairs]
    unknown = [scores[mask == OUTLIER] for scores, mask in pairs]
    return np.concatenate(known or [np.empty(0)]), np.concatenate(unknown or [np.empty(0)])


def pixel_metrics(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Compute the detection metrics over the pixels of all images together.

    Returns
    -------
    dict
        See :func:`featood.metrics.detection_metrics`. Papers on road scenes report `aupr_out` as AP and `fpr95_ood`
        as FPR95.

    Raises
    ------
    DataError
        Also if there are no in-distribution or no out-of-distribution pixels, or scores are NaN.
    """
    return detection_metrics(*pixel_scores(maps, masks))


def image_scores(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "M"]]:
    """Return the highest score of each image without and with out-of-distribution pixels, for image-level metrics.

    Images of ignored pixels alone are left out.
    """
    highest: tuple[list[float], list[float]] = [], []
    for scores, mask in _pairs(maps, masks):
        if (mask != IGNORED).any():
            highest[int((mask == OUTLIER).any())].append(float(scores[mask != IGNORED].max()))
    return np.array(highest[0]), np.array(highest[1])


def best_f1_threshold(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """Return the threshold with the best F1 of pixels, the highest of several, which flags the scores >= it."""
    flagged = count_scores(*pixel_scores(maps, masks)).mirrored
    # mirrored counts have negated values, and the sides exchanged
    f1 = 2 * flagged.id_below / (flagged.n_id + flagged.id_below + flagged.ood_below)
    return float(-flagged.values[f1.argmax()])


def component_metrics(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    threshold: float | None = None,
    min_size: int = 0,
) -> ComponentMetrics:
    """Compare the components of the flagged pixels with those of the out-of-distribution pixels.

    For a true component k, the predicted components that touch it are joined, and pixels of them in other true
    components are left out: ``sIoU(k) = |k & P| / |k | (P - others)|``. A true component is found if its sIoU exceeds
    an overlap, and a predicted one is false unless its share of out-of-distribution pixels exceeds it (Chan et al.,
    SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation, NeurIPS Datasets and Benchmarks 2021).

    Parameters
    ----------
    maps, masks
        See `pixel_scores`.
    threshold : float, optional
        Pixels with scores >= it are flagged; by default that of `best_f1_threshold`, as in the benchmark.
    min_size : int
        Predicted components of fewer pixels are removed; the benchmark uses 500 for its anomaly track and 50 for
        obstacles.

    Raises
    ------
    DataError
        Also if there are no out-of-distribution pixels, or without a threshold no others.
    """
    threshold = best_f1_threshold(maps, masks) if threshold is None else threshold
    siou, ppv = [], []
    for scores, mask in _pairs(maps, masks):
        truth, n_truth = ndimage.label(mask == OUTLIER, CORNERS)
        guess, n_guess = ndimage.label((scores >= threshold) & (mask != IGNORED), CORNERS)
        counts = np.bincount((truth * (n_guess + 1) + guess).ravel(), minlength=(n_truth + 1) * (n_guess + 1))
        counts = counts.reshape(n_truth + 1, n_guess + 1)
        large = counts[:, 1:].sum(0) >= min_size
        shared, beside = counts[1:, 1:][:, large], counts[0, 1:][large]
        # pixels of predicted components in other true components are in no term of the union
        siou.append(shared.sum(1) / (counts[1:].sum(1) + (shared > 0) @ beside))
        ppv.append(shared.sum(0) / (shared.sum(0) + beside))
    found, precise = np.concatenate(siou or [np.empty(0)]), np.concatenate(ppv or [np.empty(0)])
    if not len(found):
        raise DataError("there are no out-of-distribution pixels in the masks")
    true = (found[:, None] > OVERLAPS).sum(0)
    wrong = (len(found) - true) + (precise[:, None] <= OVERLAPS).sum(0)
    f1 = 2 * true / (2 * true + wrong)
    return ComponentMetrics(
        float(found.mean()), float(precise.mean()) if len(precise) else float("nan"), float(f1.mean())
    )


def region_overlap(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = 0.3) -> float:
    """Return the normalised area under the per-region overlap curve (AU-PRO) up to a false-positive rate.

    The overlap of a threshold is the mean over all true components of the share that it flags; the false-positive rate
    is the share of in-distribution pixels that it flags. All thresholds are used, with linear interpolation between
    them (Bergmann et al., MVTec AD, CVPR 2019; International Journal of Computer Vision 2021).

    Parameters
    ----------
    maps, masks
        See `pixel_scores`.
    limit : float
        The largest false-positive rate, in (0, 1].

    Returns
    -------
    float
        Between 0 and 1, higher is better.

    Raises
    ------
    UsageError
        If `limit` is outside (0, 1].
    DataError
        Also if there are no in-distribution or no out-of-distribution pixels, or scores are NaN.
    """
    if not 0 < limit <= 1:
        raise UsageError(f"the largest false-positive rate must be in (0, 1], not {limit}")
    known, unknown = (checked_scores(part, side) for part, side in _sides(maps, masks))
    shares = np.concatenate([_shares(mask) for _, mask in _pairs(maps, masks)])
    values, ranks = np.unique(np.concatenate([known, unknown]), return_inverse=True)
    false = np.bincount(ranks[: len(known)], minlength=len(values))[::-1].cumsum() / len(known)
    overlap = np.bincount(ranks[len(known) :], shares / shares.sum(), len(values))[::-1].cumsum()
    false, overlap = np.append(0, false), np.append(0, overlap)
    inside = int((false <= limit).sum())
    if inside < len(false):  # the last segment is cut at the limit
        part = (limit - false[inside - 1]) / (false[inside] - false[inside - 1])
        end = overlap[inside - 1] + part * (overlap[inside] - overlap[inside - 1])
        false, overlap = np.append(false[:inside], limit), np.append(overlap[:inside], end)
    return float(np.sum(np.diff(false) * (overlap[1:] + overlap[:-1])) / 2 / limit)


def _pairs(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if len(maps) != len(masks):
        raise DataError(f"there are {len(maps)} score maps, but {len(masks)} masks")
    for number, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        scores, mask = np.asarray(scores), np.asarray(mask)
        if scores.shape != mask.shape or scores.ndim != 2:
            raise DataError(
                f"score map {number} has the shape {list(scores.shape)}, and its mask {list(mask.shape)}; both must be "
                "[H, W]"
            )
        yield scores, mask


def _sides(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, str]]:
    yield from zip(pixel_scores(maps, masks), ("in-distribution", "out-of-distribution"), strict=True)


def _shares(mask: np.ndarray) -> np.ndarray:
    """Return for each out-of-distribution pixel the reciprocal of the size of its component."""
    regions = ndimage.label(mask == OUTLIER, CORNERS)[0][mask == OUTLIER]
    return 1 / np.bincount(regions)[regions] if len(regions) else np.empty(0)
