import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from featood.errors import DataError, UsageError
from featood.metrics.dense import (
    IGNORED,
    OUTLIER,
    best_f1_threshold,
    component_metrics,
    count_pixels,
    image_scores,
    overlap_below,
    pixel_metrics,
    region_overlap,
)


def made_up(seed, images=4, size=(17, 23), levels=0):
    """Scenes with a few rectangles that are out-of-distribution, ignored borders, and scores that partly tell them."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for _ in range(images):
        mask = rng.integers(0, 3, size)
        for _ in range(rng.integers(1, 5)):
            top, left = rng.integers(0, size[0] - 3), rng.integers(0, size[1] - 3)
            mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = OUTLIER
        mask[rng.random(size) < 0.05] = IGNORED
        scores = ndimage.gaussian_filter((mask == OUTLIER) + rng.normal(0, 0.8, size), 0.8)
        maps.append(np.round(scores * levels) / levels if levels else scores)
        masks.append(mask)
    return maps, masks


def flat(maps, masks):
    scores = np.concatenate([s.ravel() for s in maps])
    mask = np.concatenate([m.ravel() for m in masks])
    return scores[mask != IGNORED], mask[mask != IGNORED] == OUTLIER


@pytest.mark.parametrize("levels", [0, 4])
def test_pixel_metrics_agree_with_scikit_learn(levels):
    maps, masks = made_up(0, levels=levels)
    scores, out = flat(maps, masks)
    found = pixel_metrics(maps, masks)
    assert found["auroc"] == pytest.approx(roc_auc_score(out, scores))
    assert found["aupr_out"] == pytest.approx(average_precision_score(out, scores))
    fpr, tpr, _ = roc_curve(out, scores, drop_intermediate=False)
    assert found["fpr95_ood"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


@pytest.mark.parametrize("levels", [0, 4])
def test_the_threshold_has_the_best_f1(levels):
    maps, masks = made_up(1, levels=levels)
    scores, out = flat(maps, masks)
    precision, recall, thresholds = precision_recall_curve(out, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    best = thresholds[: len(thresholds)][np.isclose(f1[:-1], f1[:-1].max(), rtol=1e-12)]
    assert best_f1_threshold(count_pixels(maps, masks)) == best.max()


def naive_components(maps, masks, threshold, min_size):
    """Loops over components as sets of pixels, as the definitions in the paper."""
    siou, ppv = [], []
    for scores, mask in zip(maps, masks, strict=True):
        guess, count = ndimage.label((scores >= threshold) & (mask != IGNORED), np.ones((3, 3)))
        guesses = [set(zip(*np.nonzero(guess == g), strict=True)) for g in range(1, count + 1)]
        guesses = [g for g in guesses if len(g) >= min_size]
        truth, count = ndimage.label(mask == OUTLIER, np.ones((3, 3)))
        truths = [set(zip(*np.nonzero(truth == k), strict=True)) for k in range(1, count + 1)]
        for k in truths:
            joined = set().union(*[g for g in guesses if g & k])
            others = set().union(*[t for t in truths if t is not k])
            siou.append(len(k & joined) / len((k | joined) - others))
        everything = set().union(*truths)
        ppv += [len(g & everything) / len(g) for g in guesses]
    f1 = []
    for percent in range(25, 80, 5):
        tp = sum(value > percent / 100 for value in siou)
        fn = len(siou) - tp
        fp = sum(value <= percent / 100 for value in ppv)
        f1.append(2 * tp / (2 * tp + fn + fp))
    return np.mean(siou), np.mean(ppv), np.mean(f1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("min_size", [0, 4])
def test_components_agree_with_loops_over_sets(seed, min_size):
    maps, masks = made_up(seed, images=3)
    for threshold in (0.2, 0.5):
        found = component_metrics(maps, masks, threshold, min_size)
        assert found == pytest.approx(naive_components(maps, masks, threshold, min_size), abs=1e-12)
    best = best_f1_threshold(count_pixels(maps, masks))
    assert component_metrics(maps, masks) == component_metrics(maps, masks, best)


def test_perfect_and_empty_predictions():
    _, masks = made_up(3)
    perfect = [(mask == OUTLIER).astype(float) for mask in masks]
    assert component_metrics(perfect, masks) == (1, 1, 1)
    nothing = component_metrics(perfect, masks, threshold=2)
    assert nothing.siou == nothing.f1 == 0 and np.isnan(nothing.ppv)
    assert region_overlap(perfect, masks) == pytest.approx(1)


def naive_overlap(maps, masks, limit):
    regions = []
    for number, mask in enumerate(masks):
        found, count = ndimage.label(mask == OUTLIER, np.ones((3, 3)))
        regions += [(number, found == region) for region in range(1, count + 1)]
    scores, out = flat(maps, masks)
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        overlap = np.mean([(maps[number][where] >= threshold).mean() for number, where in regions])
        points.append(((scores[~out] >= threshold).mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_region_overlap_agrees_with_a_loop_over_thresholds(levels, limit):
    maps, masks = made_up(7, images=3, size=(12, 14), levels=levels)
    assert region_overlap(maps, masks, limit) == pytest.approx(naive_overlap(maps, masks, limit), rel=1e-9)


def test_pixels_that_touch_at_a_corner_are_one_component():
    mask, scores = np.zeros((6, 6), int), np.zeros((6, 6))
    mask[0, 0] = mask[1, 1] = mask[4, 4] = OUTLIER
    scores[4, 4], scores[0, 0] = 2, 1
    assert component_metrics([scores], [mask], 1).siou == pytest.approx((0.5 + 1) / 2)
    # the pixel that is missed ties with all others, so overlap is 3/4 until everything is flagged
    assert region_overlap([scores], [mask], 1.0) == pytest.approx((0.75 + 1) / 2)


def test_the_highest_score_of_each_image():
    maps, masks = made_up(4)
    masks[1] = np.zeros_like(masks[1])
    masks.append(np.full_like(masks[0], IGNORED))
    clean, out = image_scores([*maps, maps[0]], masks)
    assert clean.tolist() == [maps[1].max()]
    assert out.tolist() == [np.where(masks[i] == IGNORED, -np.inf, maps[i]).max() for i in (0, 2, 3)]


def test_ignored_pixels_change_nothing():
    maps, masks = made_up(5)
    other = [np.where(mask == IGNORED, 1e9, scores) for scores, mask in zip(maps, masks, strict=True)]
    assert pixel_metrics(maps, masks) == pixel_metrics(other, masks)
    assert component_metrics(maps, masks) == component_metrics(other, masks)
    assert region_overlap(maps, masks) == region_overlap(other, masks)


EXACT = ("auroc", "aupr_out", "fpr95", "fpr95_ood", "detection_error")


@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize("seed", range(4))
def test_all_out_of_distribution_scores_are_enough_thresholds(seed, levels):
    maps, masks = made_up(seed, levels=levels)
    n_ood = int(flat(maps, masks)[1].sum())
    every, some = count_pixels(maps, masks), count_pixels(maps, masks, n_ood)
    assert every.steps == (1, 1) and some.steps[0] > 1 and some.steps[1] == 1
    assert every.auroc_error == some.auroc_error == 0
    for name in EXACT:
        assert some.metrics()[name] == pytest.approx(every.metrics()[name], rel=1e-12)
    for name in ("aupr_in", "autc"):
        assert some.metrics()[name] == pytest.approx(every.metrics()[name], abs=0.05)
    assert best_f1_threshold(some) == best_f1_threshold(every)
    for limit in (0.05, 0.3, 1.0):
        assert overlap_below(some, limit) == pytest.approx(naive_overlap(maps, masks, limit), rel=1e-9)


@pytest.mark.parametrize("thresholds", [2, 5, 40])
def test_few_thresholds_bound_the_error_and_have_exact_counts(thresholds):
    maps, masks = made_up(2)
    some = count_pixels(maps, masks, thresholds)
    assert some.steps[1] > 1 and len(some.counts.values) <= 3 * thresholds + 1
    scores, out = flat(maps, masks)
    assert 0 < abs(some.metrics()["auroc"] - roc_auc_score(out, scores)) <= some.auroc_error < 0.5
    flagged = some.counts.mirrored
    for value, known, unknown in zip(-flagged.values, flagged.ood_below, flagged.id_below, strict=True):
        assert (known, unknown) == ((scores[~out] >= value).sum(), (scores[out] >= value).sum())
    assert some.overlap.sum() == pytest.approx(1)


class Drawn:
    """Maps or masks that are drawn when they are used."""

    def __init__(self, count, draw):
        self.count, self.draw = count, draw

    def __len__(self):
        return self.count

    def __iter__(self):
        return (self.draw(np.random.default_rng(number)) for number in range(self.count))

    def __contains__(self, _):
        return False


def test_memory_is_that_of_one_image_and_the_thresholds():
    size, thresholds = (200, 250), 500

    def peak(count):
        maps = Drawn(count, lambda rng: rng.normal(size=size).astype("f4"))
        masks = Drawn(count, lambda rng: rng.choice([0, OUTLIER], size, p=[0.99, 0.01]))
        tracemalloc.start()
        count_pixels(maps, masks, thresholds)
        component_metrics(maps, masks, 2.0)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    pixels = size[0] * size[1]
    peak(1)  # loads what is used
    few, many = peak(10), peak(40)
    assert (
        many < 60 * pixels + 300 * thresholds
    )  # all maps and masks have 40 * 12 bytes for each pixel of an image
    assert many - few < 0.02 * 30 * pixels * 4


def test_mistakes_are_named():
    maps, masks = made_up(5, images=2)
    with pytest.raises(DataError, match=r"score map 1 has the shape \[5, 23\]"):
        pixel_metrics([maps[0], maps[1][:5]], masks)
    with pytest.raises(DataError, match="2 score maps, but 1 masks"):
        region_overlap(maps, masks[:1])
    clean = [np.zeros_like(mask) for mask in masks]
    with pytest.raises(DataError, match="no out-of-distribution"):
        component_metrics(maps, clean, threshold=0.5)
    with pytest.raises(DataError, match="no out-of-distribution scores"):
        region_overlap(maps, clean)
    with pytest.raises(UsageError, match="false-positive rate"):
        region_overlap(maps, masks, 0)
