import numpy as np
import pytest
import torch

from featood.errors import DataError
from featood.numerics.moments import ClassMoments, ScatterByClass

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 300)
ROWS = RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 4)) + LABELS[:, None] + 1e4
CUTS = [(), (1,), (7, 8, 150), tuple(range(20, 300, 20))]


def parts(cuts, order):
    pieces = np.split(np.arange(300), cuts)
    return [(torch.tensor(ROWS[pieces[i]]), torch.tensor(LABELS[pieces[i]])) for i in order(len(pieces))]


def naive():
    means = np.stack([ROWS[c == LABELS].mean(0) for c in range(5)])
    centred = ROWS - means[LABELS]
    by_class = np.stack([np.cov(ROWS[c == LABELS].T, bias=True) for c in range(5)])
    return means, centred.T @ centred / 300, np.cov(ROWS.T, bias=True), by_class


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("order", [range, lambda n: reversed(range(n))])
def test_merged_moments_of_parts_equal_those_of_all_rows(cuts, order):
    merged = None
    for rows, labels in parts(cuts, order):
        piece = ClassMoments.of(rows, labels)
        merged = piece if merged is None else merged.merge(piece)
    means, within, total, _ = naive()
    assert merged.rows == 300
    np.testing.assert_allclose(merged.means(), means, rtol=1e-12)
    np.testing.assert_allclose(merged.mean(), ROWS.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.within_covariance(), within, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(merged.covariance(), total, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("cuts", CUTS)
def test_scatter_by_class_is_equal_for_merged_and_streamed_rows(cuts, diagonal):
    merged = streamed = None
    for rows, labels in parts(cuts, range):
        piece = ScatterByClass.of(rows, labels, diagonal=diagonal)
        merged = piece if merged is None else merged.merge(piece)
        streamed = ScatterByClass.of(rows, labels, streamed, diagonal=diagonal)
    means, _, _, by_class = naive()
    expected = np.stack([np.diag(matrix) for matrix in by_class]) if diagonal else by_class
    for found in (merged, streamed):
        np.testing.assert_allclose(found.means(), means, rtol=1e-12)
        np.testing.assert_allclose(found.covariances(), expected, rtol=1e-7, atol=1e-8)


def test_rows_without_a_label_are_ignored_and_sizes_must_agree():
    labels = torch.tensor(LABELS)
    labels[:50] = -1
    found = ClassMoments.of(torch.tensor(ROWS), labels)
    assert found.rows == 250
    np.testing.assert_allclose(found.mean(), ROWS[50:].mean(0), rtol=1e-12)
    with pytest.raises(DataError, match="3 columns, not 4"):
        ClassMoments.of(torch.zeros(2, 3), None, found)
