"""What heads make of drawn sets, and of inputs that are right but unusual."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from featood.cache import FeatureSet
from featood.heads import list_heads
from featood.heads.base.streaming_head import StreamingHead
from featood.heads.registry import head_class
from featood.testing import Subject
from featood.testing.check import same
from featood.testing.extras import with_extras
from featood.testing.fixture import mapped, synthetic_sets
from featood.testing.properties import check_properties, survives

QUICK = [name for name in list_heads() if not head_class(name).trains]
LEARNING = [name for name in QUICK if head_class(name).card.learns]
STREAMING = [name for name in QUICK if issubclass(head_class(name), StreamingHead)]
RELATIVE = ("mahalanobis", "relative-mahalanobis", "rmd-pp", "gmm", "pca-reconstruction", "ssd")
"""Heads whose order of rows does not hang on the unit that features are measured in."""
THREADED = ("mahalanobis", "gmm", "knn", "vim", "gram", "kpca", "energy", "isolation-forest")


COMPOSED = ("compose", "fisher", "rank-average", "isolation-forest", "weighted-energy")
"""Made of other heads, or slow."""
WHOLE = [name for name in QUICK if name not in COMPOSED]
FAULTY = {
    "gram": (2, 1, ([0.0, 0.0], [5e36])),
    "temperature-scaling": (1, 1, ([1.0, 2.0], [1.0, 2.0])),
    "gradient-uncertainty": (6, 5, ([1.0], [3e18])),
}
"""Features, classes, and values of training and test rows that a head gives no finite score for."""


@pytest.fixture(scope="module")
def sets():
    return tuple(with_extras(data, seed) for seed, data in enumerate(synthetic_sets(), 1))


@pytest.mark.parametrize("name", [name for name in QUICK if name not in (*FAULTY, *COMPOSED)])
def test_drawn_sets(name):
    check_properties(name, examples=5)


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="no finite score")
@pytest.mark.parametrize("name", FAULTY)
def test_rows_that_get_no_finite_score(name):
    rng = np.random.default_rng(0)
    size, classes, values = FAULTY[name]
    linear = rng.normal(size=(classes, size)), rng.normal(size=classes)

    def one(rows):
        rows = np.array(rows, "f4").repeat(size, axis=1)
        columns = {"avg": rows, "layer1.gram": rows, "layer2.gram": rows}
        logits = np.asarray(rows @ linear[0].T + linear[1], "f4")
        return FeatureSet(columns, logits=logits, labels=np.arange(len(rows)) % classes, classifier=linear)

    survives(Subject.of(name), *(one([[value] for value in rows]) for rows in values))


@pytest.mark.parametrize("name", LEARNING)
def test_a_fit_does_not_depend_on_the_memory_layout(name, sets, tmp_path):
    train, test = sets

    def mapped_file(values):
        """Big-endian, Fortran-ordered, read-only, on disk."""
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, np.asfortranarray(values.astype(values.dtype.newbyteorder(">"))))
        return np.load(path, mmap_mode="r")

    subject = Subject.of(name)
    expected = subject.score(subject.fit(train), test)
    head = subject.fit(mapped(train, mapped_file))
    same(subject.score(head, test), expected)
    same(subject.score(head, mapped(test, mapped_file)), expected)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_of_any_type(name, sets):
    """Quantised features are stored as int8."""
    subject = Subject.of(name)
    train, test = (mapped(data, lambda values: np.clip(8 * values, -127, 127).astype("i1")) for data in sets)
    widened = [mapped(data, lambda values: values.astype("f4")) for data in (train, test)]
    same(subject.score(subject.fit(train), test), subject.score(subject.fit(widened[0]), widened[1]))


@pytest.mark.parametrize("name", THREADED)
def test_scores_do_not_depend_on_the_number_of_threads(name, sets):
    subject = Subject.of(name)
    head, threads = subject.fit(sets[0]), torch.get_num_threads()
    one = subject.score(head, sets[1])
    try:
        torch.set_num_threads(2)
        same(subject.score(head, sets[1]), one, 1e-6)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", STREAMING)
def test_a_sum_over_parts_is_associative_and_commutative(name, sets):
    train, test = sets
    parts = [train.rows(slice(start, start + 85)) for start in range(0, len(train), 85)]
    found = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        head: Any = Subject.of(name).create()
        for part in order:
            head.partial_fit(parts[part])
        found.append(head.score(test))
    same(found[1], found[0])


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e18])
@pytest.mark.parametrize("name", RELATIVE)
def test_the_unit_of_the_features_does_not_matter(name, factor, sets):
    train, test = (dataclasses.replace(data, logits=None, classifier=None) for data in sets)
    scaled = [mapped_features(data, lambda values: values * np.float32(factor)) for data in (train, test)]
    plain = Subject.of(name).fit(train).score(test)
    same(ranks(Subject.of(name).fit(scaled[0]).score(scaled[1])), ranks(plain), 0.02)


@pytest.mark.parametrize("name", ("mahalanobis", "relative-mahalanobis", "gmm"))
def test_a_constant_offset_does_not_matter(name, sets):
    """Sums of squares about zero would lose seven of eight digits; float32 itself keeps but three of the values."""
    train, test = (dataclasses.replace(data, logits=None, classifier=None) for data in sets)
    moved = [mapped_features(data, lambda values: values + np.float32(1e4)) for data in (train, test)]
    plain = [mapped_features(data, lambda values: values.astype("f8") - 1e4) for data in moved]
    expected = Subject.of(name).fit(plain[0]).score(plain[1])
    assert np.corrcoef(ranks(Subject.of(name).fit(moved[0]).score(moved[1])), ranks(expected))[0, 1] > 0.999


def mapped_features(data, change):
    return dataclasses.replace(
        data, features={name: change(values) for name, values in data.features.items()}
    )


def ranks(scores):
    return np.argsort(np.argsort(scores)).astype(float)
