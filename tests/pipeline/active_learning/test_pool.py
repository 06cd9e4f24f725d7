"""Pools: the first labels, the images of an epoch, and how ambiguous images are."""

import numpy as np
import pytest
from scipy.stats import entropy

from featood.data import packed_set
from featood.errors import DataError
from featood.pipeline.active_learning.pool import balanced, label_entropies
from featood.pipeline.active_learning.rounds import repeated


def test_initial_labels_are_balanced():
    labels = np.array([2, 0, 1, 1, 0, 2, 0, 0, 0])
    drawn = [balanced(labels, 6, 3, np.random.default_rng(seed)) for seed in range(20)]
    assert all(sorted(labels[rows]) == [0, 0, 1, 1, 2, 2] and len(set(rows)) == 6 for rows in drawn)
    assert {row for rows in drawn for row in rows} == set(range(9))
    with pytest.raises(DataError, match="class 1 has 2 images in the pool, fewer than 3"):
        balanced(labels, 9, 3, np.random.default_rng(0))


@pytest.mark.parametrize(("rows", "count"), [(20, 5056), (300, 5056), (7, 7), (9, 4)])
def test_labels_are_drawn_equally_often(rows, count):
    drawn = repeated(rows, count, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=rows)
    assert len(drawn) == max(rows, count) and counts.max() - counts.min() <= 1 <= counts.min()


def test_label_entropies_are_those_of_equal_images():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 2, (40, 2, 2)).astype(np.uint8), rng.integers(0, 3, 40)
    expected = [
        entropy(np.bincount([b for other, b in zip(images, labels, strict=True) if (other == image).all()]))
        for image in images
    ]
    np.testing.assert_allclose(label_entropies(packed_set(images, labels)), expected, atol=1e-12)
