"""The images of an experiment: pool, held-out images, test images, and the labels it begins with."""

from __future__ import annotations

__all__ = ["Pool", "balanced", "label_entropies", "open_pool"]

import dataclasses
from typing import NamedTuple

import numpy as np

from featood.data import ImageSet, available_splits, joined_set, open_images
from featood.errors import DataError, UsageError
from featood.extractors.transform import Transform
from featood.pipeline.active_learning.plan import ActivePlan
from featood.pipeline.training import input_transform
from featood.reporter import SILENT, Reporter

PUBLISHED, SUBSTITUTE = "ambiguous-mnist", "interpolated-mnist"
SUBSAMPLE, SPLIT, INITIAL = 0, 1, 2
"""What is drawn by the seed of the experiment."""


class Pool(NamedTuple):
    """The images of an experiment."""

    name: str
    """Such as ``mnist-1000+interpolated-mnist``."""
    images: ImageSet
    """All that may be labelled."""
    held_out: ImageSet
    """Labelled images by which the best epoch is chosen."""
    test: ImageSet
    transform: Transform
    initial: np.ndarray
    """Rows ``[I]`` of `images` that are labelled at first."""
    ambiguous: str
    """The set of ambiguous digits in the pool, or an empty string."""
    entropies: np.ndarray | None
    """With ambiguous digits, entropies ``[N]`` in nats of the labels that an image of the pool has in all its rows."""


def open_pool(plan: ActivePlan, validation: float, seed: int, *, reporter: Reporter = SILENT) -> Pool:
    """Open the images of an experiment.

    Parameters
    ----------
    plan : ActivePlan
        Names and numbers.
    validation : float
        Share of the images that is held out.
    seed : int
        Of all draws.
    reporter : Reporter
        Takes the notes of the sets, and what the pool consists of.

    Raises
    ------
    DataError
        If images or labels are missing, or a class has too few.
    UsageError
        If the numbers do not suit the pool.
    """
    base = _labelled(open_images(plan.dataset, plan.split, plan.data_dir), reporter)
    transform = input_transform(plan.architecture, base, plan.image_size)
    images, ambiguous = _gathered(plan, base, seed, reporter)
    order = np.random.default_rng([seed, SPLIT]).permutation(len(images))
    count = round(validation * len(images))
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    pool = images.subset(kept)
    if plan.until + plan.acquire > len(pool):  # the last round ranks the pool too
        raise UsageError(
            f"the pool has {len(pool)} images, too few for a run that ends at {plan.until} labels"
        )
    test_name, _, test_split = (plan.test or f"{plan.dataset}/test").rpartition("/")
    if not test_name:
        test_name, test_split = test_split, "test"
    test = _labelled(open_images(test_name, test_split, plan.data_dir), reporter)
    if test.classes != pool.classes[: len(test.classes)]:
        raise DataError(
            f"{test.name}/{test.split} has other classes than the pool, so it cannot test its networks"
        )
    assert images.labels is not None and pool.labels is not None
    initial = balanced(pool.labels, plan.initial, len(pool.classes), np.random.default_rng([seed, INITIAL]))
    reporter.line(
        f"pool: {images.name}, {len(pool)} images; {len(held)} more with labels choose the best epoch and are not "
        f"counted; test: {test.name}/{test.split}, {len(test)} images; inputs: {transform}"
    )
    entropies = label_entropies(images)[kept] if plan.ambiguous else None
    return Pool(images.name, pool, images.subset(held), test, transform, initial, ambiguous, entropies)


def _gathered(plan: ActivePlan, base: ImageSet, seed: int, reporter: Reporter) -> tuple[ImageSet, str]:
    """Draw images of the dataset, and add ambiguous ones, if wanted; return also the name of the latter."""
    if plan.drawn:
        if plan.drawn > len(base):
            raise UsageError(
                f"{base.name}/{base.split} has {len(base)} images, so {plan.drawn} cannot be drawn"
            )
        drawn = np.random.default_rng([seed, SUBSAMPLE]).choice(len(base), plan.drawn, replace=False)
        base = dataclasses.replace(base.subset(np.sort(drawn)), name=f"{base.name}-{plan.drawn}")
    if not plan.ambiguous:
        return base, ""
    there = plan.split in available_splits(PUBLISHED, plan.data_dir)
    chosen = PUBLISHED if there else SUBSTITUTE
    if not there:
        reporter.line(
            f"{PUBLISHED} is not there, so {SUBSTITUTE} takes its place: results are not those of Dirty-MNIST"
        )
    further = _labelled(open_images(chosen, plan.split, plan.data_dir), reporter)
    return joined_set([base, further], f"{base.name}+{chosen}"), chosen


def _labelled(images: ImageSet, reporter: Reporter) -> ImageSet:
    for note in images.notes:
        reporter.line(f"{images.name}/{images.split}: {note}")
    if images.labels is None or images.labels.min() < 0:
        raise DataError(
            f"{images.name}/{images.split} has images without a label; the experiment needs all labels"
        )
    classes = images.classes or tuple(map(str, range(int(images.labels.max()) + 1)))
    return dataclasses.replace(images, classes=classes, notes=())


def balanced(labels: np.ndarray, count: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw equally many rows of each class.

    Parameters
    ----------
    labels : ndarray
        ``[N]``.
    count : int
        Rows to draw, a multiple of the number of classes.
    classes : int
        Number of classes.
    rng : Generator
        Of the draw.

    Returns
    -------
    ndarray
        ``[count]`` rows, class by class.

    Raises
    ------
    UsageError
        If the count is not a multiple of the number of classes.
    DataError
        If a class has too few rows.
    """
    each, rest = divmod(count, classes)
    if rest:
        raise UsageError(f"{count} initial labels cannot be divided among {classes} classes; take a multiple")
    numbers = np.bincount(labels, minlength=classes)
    if numbers.min() < each:
        raise DataError(f"class {numbers.argmin()} has {numbers.min()} images in the pool, fewer than {each}")
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[labels[shuffled].argsort(kind="stable")]
    first = numbers.cumsum() - numbers
    return by_class[(first[:, None] + np.arange(each)).reshape(-1)]


def label_entropies(images: ImageSet) -> np.ndarray:
    """Return for each row the entropy, in nats, of the labels of all rows with the same pixels ``[N]``."""
    assert images.array is not None and images.labels is not None
    rows = np.ascontiguousarray(images.array.reshape(len(images), -1))
    _, group = np.unique(rows.view(f"V{rows.shape[1]}").reshape(-1), return_inverse=True)
    counts = np.zeros((group.max() + 1, images.labels.max() + 1))
    np.add.at(counts, (group, images.labels), 1)
    shares = counts / counts.sum(1, keepdims=True)
    terms = np.where(shares > 0, -shares * np.log(np.where(shares > 0, shares, 1)), 0)
    return terms.sum(1)[group]
