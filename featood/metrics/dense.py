"""Metrics of score maps: detection over pixels, over connected components, and the overlap of regions.

A map has a mask of the same shape, whose pixels are `OUTLIER`, `IGNORED`, or in-distribution (any number from 0, such
as a class). Ignored pixels count nowhere. Components are connected along sides and corners. Higher scores mean more
out-of-distribution.

Maps and masks are collections of arrays, of which one pair is used at a time, several times, so a collection that reads
its items from a disk needs no memory for the others. What is kept are the numbers of pixels with scores from each of
some thresholds on. These numbers are always exact; the argument `thresholds` limits how many there are:

- If each side has at most so many pixels, or without a limit, all scores are thresholds, and all metrics are exact.
- If only the in-distribution pixels are more, the thresholds are all out-of-distribution scores, and every k-th
  in-distribution one. All metrics are still exact, except `aupr_in` and `autc`: it does not matter to the others where
  between two out-of-distribution scores the in-distribution ones are.
- If there are more out-of-distribution pixels, too, every k-th of their scores is a threshold, and the metrics are
  binned: those of scores that tie between thresholds. `PixelCounts.auroc_error` bounds the error of the AUROC.
"""

from __future__ import annotations

__all__ = [
    "IGNORED", "OUTLIER", "ComponentMetrics", "PixelCounts", "best_f1_threshold", "component_metrics", "count_pixels",
    "image_scores", "overlap_below", "pixel_metrics", "region_overlap",
]  # fmt: skip

import dataclasses
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from featood.errors import DataError, UsageError
from featood.metrics.counts import ScoreCounts, checked_scores
from featood.metrics.detection import METRICS

OUTLIER, IGNORED = -1, -2
"""Values of out-of-distribution and of ignored pixels in a mask."""
OVERLAPS = np.arange(25, 80, 5) / 100
"""Overlaps from which a component counts as found, over which F1 is averaged."""
CORNERS = np.ones((3, 3), int)
SIDES = ("in-distribution", "out-of-distribution")


class ComponentMetrics(NamedTuple):
    """Metrics of connected components at one threshold, between 0 and 1, higher is better."""

    siou: float
    """Mean of the adjusted intersection over union (sIoU) of the true components."""
    ppv: float
    """Mean over the predicted components of the share of out-of-distribution pixels; NaN without any."""
    f1: float
    """F1 of found components, averaged over the overlaps 0.25, 0.30, ..., 0.75."""


@dataclasses.dataclass(frozen=True, eq=False)
class PixelCounts:
    """Numbers of pixels between thresholds, from which all metrics of pixels follow."""

    counts: ScoreCounts
    """Pixels with a score from each threshold up to the next one; in-distribution and out-of-distribution."""
    overlap: Float[np.ndarray, "K"]
    """Shares of the true components that these pixels cover, averaged over the components; they sum to one."""
    steps: tuple[int, int]
    """Every how many-th in-distribution and out-of-distribution score is a threshold; 1 for all."""

    @property
    def auroc_error(self) -> float:
        """Largest error of the AUROC; 0 if it is exact."""
        if self.steps[1] == 1:
            return 0.0
        counts = self.counts
        return float((counts.id * counts.ood.astype(float)).sum() / counts.n_id[0] / counts.n_ood[0] / 2)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of :func:`pixel_metrics`."""
        return {name: float(metric(self.counts)) for name, metric in METRICS.items()}


def count_pixels(
    maps: Collection[np.ndarray], masks: Collection[np.ndarray], thresholds: int | None = None
) -> PixelCounts:
    """Count the pixels of all maps between thresholds.

    Parameters
    ----------
    maps : collection of array
        Scores ``[H, W]`` of each image.
    masks : collection of array
        Integers ``[H, W]`` of each image.
    thresholds : int, optional
        Largest number of scores of each side that are thresholds; see the module. By default all of them are.

    Raises
    ------
    DataError
        If a mask has another shape than its map, there are no in-distribution or no out-of-distribution pixels, or a
        score is NaN. All functions of this module have the same arguments and errors.
    """
    steps = (1, 1) if thresholds is None else _steps(masks, thresholds)
    values = _thresholds(maps, masks, steps)
    found = np.zeros((2, len(values)), np.int64)
    overlap = np.zeros(len(values))
    for scores, mask in _pairs(maps, masks):
        for side, part in enumerate(_sides(scores, mask)):
            places = np.searchsorted(values, part, "right") - 1
            found[side] += np.bincount(places, minlength=len(values))
        overlap += np.bincount(places, _shares(mask), len(values))
    used = found.any(0)
    counts = ScoreCounts(values[used], found[0, used], found[1, used])
    return PixelCounts(counts, overlap[used] / overlap.sum(), steps)


def pixel_metrics(
    maps: Collection[np.ndarray], masks: Collection[np.ndarray], thresholds: int | None = None
) -> dict[str, float]:
    """Compute the detection metrics over the pixels of all images together.

    Parameters
    ----------
    maps, masks, thresholds
        See `count_pixels`.

    Returns
    -------
    dict
        See :func:`featood.metrics.detection_metrics`. Papers on road scenes report `aupr_out` as AP and `fpr95_ood`
        as FPR95.
    """
    return count_pixels(maps, masks, thresholds).metrics()


def image_scores(
    maps: Collection[np.ndarray], masks: Collection[np.ndarray]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "M"]]:
    """Return the highest score of each image without and with out-of-distribution pixels, for image-level metrics.

    Images of ignored pixels alone are left out.
    """
    highest: tuple[list[float], list[float]] = [], []
    for scores, mask in _pairs(maps, masks):
        if (mask != IGNORED).any():
            highest[int((mask == OUTLIER).any())].append(float(scores[mask != IGNORED].max()))
    return np.array(highest[0]), np.array(highest[1])


def best_f1_threshold(pixels: PixelCounts) -> float:
    """Return the threshold with the best F1 of pixels, the highest of several, which flags the scores >= it."""
    flagged = pixels.counts.mirrored
    # mirrored counts have negated values, and the sides exchanged
    f1 = 2 * flagged.id_below / (flagged.n_id + flagged.id_below + flagged.ood_below)
    return float(-flagged.values[f1.argmax()])


def component_metrics(
    maps: Collection[np.ndarray],
    masks: Collection[np.ndarray],
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
        See `count_pixels`.
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
    threshold = best_f1_threshold(count_pixels(maps, masks)) if threshold is None else threshold
    sums, numbers = np.zeros(2), np.zeros(2, int)
    true, false = np.zeros(len(OVERLAPS), int), np.zeros(len(OVERLAPS), int)
    for scores, mask in _pairs(maps, masks):
        siou, ppv = _compared(mask == OUTLIER, (scores >= threshold) & (mask != IGNORED), min_size)
        sums += siou.sum(), ppv.sum()
        numbers += len(siou), len(ppv)
        true += (siou[:, None] > OVERLAPS).sum(0)
        false += (ppv[:, None] <= OVERLAPS).sum(0)
    if not numbers[0]:
        raise DataError("there are no out-of-distribution pixels in the masks")
    f1 = 2 * true / (true + numbers[0] + false)
    ppv_mean = sums[1] / numbers[1] if numbers[1] else np.nan
    return ComponentMetrics(float(sums[0] / numbers[0]), float(ppv_mean), float(f1.mean()))


def region_overlap(
    maps: Collection[np.ndarray],
    masks: Collection[np.ndarray],
    limit: float = 0.3,
    thresholds: int | None = None,
) -> float:
    """Return the normalised area under the per-region overlap curve (AU-PRO) up to a false-positive rate.

    The overlap of a threshold is the mean over all true components of the share that it flags; the false-positive rate
    is the share of in-distribution pixels that it flags. There is linear interpolation between the thresholds (Bergmann
    et al., MVTec AD, CVPR 2019; International Journal of Computer Vision 2021).

    Parameters
    ----------
    maps, masks, thresholds
        See `count_pixels`.
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
    """
    return overlap_below(count_pixels(maps, masks, thresholds), limit)


def overlap_below(pixels: PixelCounts, limit: float = 0.3) -> float:
    """Return `region_overlap` of pixels that were counted."""
    if not 0 < limit <= 1:
        raise UsageError(f"the largest false-positive rate must be in (0, 1], not {limit}")
    false = np.append(0, pixels.counts.mirrored.ood_below / pixels.counts.n_id)
    overlap = np.append(0, pixels.overlap[::-1].cumsum())
    inside = int((false <= limit).sum())
    if inside < len(false):  # the last segment is cut at the limit
        part = (limit - false[inside - 1]) / (false[inside] - false[inside - 1])
        end = overlap[inside - 1] + part * (overlap[inside] - overlap[inside - 1])
        false, overlap = np.append(false[:inside], limit), np.append(overlap[:inside], end)
    return float(np.sum(np.diff(false) * (overlap[1:] + overlap[:-1])) / 2 / limit)


def _pairs(
    maps: Collection[np.ndarray], masks: Collection[np.ndarray]
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


def _sides(scores: np.ndarray, mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the scores of the in-distribution and of the out-of-distribution pixels."""
    for inside, side in zip((mask >= 0, mask == OUTLIER), SIDES, strict=True):
        yield checked_scores(scores[inside], side) if inside.any() else np.empty(0)


def _steps(masks: Collection[np.ndarray], thresholds: int) -> tuple[int, int]:
    sizes = np.zeros(2, np.int64)
    for mask in masks:
        sizes += (mask >= 0).sum(), (mask == OUTLIER).sum()
    known, unknown = np.maximum(-(-sizes // thresholds), 1).tolist()
    return known, unknown


def _thresholds(
    maps: Collection[np.ndarray], masks: Collection[np.ndarray], steps: tuple[int, int]
) -> Float[np.ndarray, "K"]:
    """Return every so many-th score of each side, ascending; the first is the lowest of all."""
    seen, parts, lowest = [0, 0], ([np.empty(0)], [np.empty(0)]), np.inf
    for scores, mask in _pairs(maps, masks):
        for side, part in enumerate(_sides(scores, mask)):
            # a copy, as a view would keep the scores of the whole image
            parts[side].append(part[-seen[side] % steps[side] :: steps[side]].copy())
            seen[side] += len(part)
            lowest = min(lowest, part.min(initial=np.inf))
    for count, name in zip(seen, SIDES, strict=True):
        if not count:
            raise DataError(f"there are no {name} scores; a detection metric needs at least one on each side")
    known, unknown = map(np.concatenate, parts)
    # an out-of-distribution score shares its count with no other score, so the order is known
    ends = np.nextafter(unknown, np.inf) if steps != (1, 1) else np.empty(0)
    return np.unique(np.concatenate([known, unknown, ends, [lowest]]))


def _shares(mask: np.ndarray) -> np.ndarray:
    """Return for each out-of-distribution pixel the reciprocal of the size of its component."""
    regions = ndimage.label(mask == OUTLIER, CORNERS)[0][mask == OUTLIER]
    return 1 / np.bincount(regions)[regions] if len(regions) else np.empty(0)


def _compared(truth: np.ndarray, flagged: np.ndarray, min_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sIoU of the true components, and the precision of the predicted ones that are large enough."""
    true, n_true = ndimage.label(truth, CORNERS)
    guess, n_guess = ndimage.label(flagged, CORNERS)
    # a table of all pairs of components could be larger than the image
    pairs, counts = np.unique(true.astype(np.int64) * (n_guess + 1) + guess, return_counts=True)
    k, g = np.divmod(pairs, n_guess + 1)
    sizes, beside = np.bincount(guess.ravel(), minlength=n_guess + 1), np.zeros(n_guess + 1, np.int64)
    beside[g[k == 0]] = counts[k == 0]
    large = (sizes >= min_size) & (np.arange(n_guess + 1) > 0)
    joined = (k > 0) & large[g]
    shared = np.bincount(k[joined], counts[joined], n_true + 1)[1:]
    # pixels of predicted components in other true components are in no term of the union
    extra = np.bincount(k[joined], beside[g[joined]], n_true + 1)[1:]
    siou = shared / (np.bincount(true.ravel(), minlength=n_true + 1)[1:] + extra)
    return siou, 1 - beside[large] / sizes[large]
