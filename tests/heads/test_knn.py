import sys

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from featood.errors import DataError, UsageError
from featood.heads import create_head
from featood.heads.distances import knn
from featood.testing import synthetic_sets

TRAIN, TEST = synthetic_sets()
BANK = TRAIN.features["avg"][TRAIN.labels >= 0]
ROWS = TEST.features["avg"]


@pytest.fixture
def detectors():
    from featood.extractors.vision import torchvision  # noqa: F401  (mends its import, which pytorch-ood needs)

    return pytest.importorskip("pytorch_ood.detector")


def by_sklearn(bank, rows, k, normalize=True, distance="kth"):
    bank, rows = bank.astype(float), rows.astype(float)
    if normalize:
        bank, rows = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (bank, rows))
    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank).kneighbors(rows)
    return distances[:, -1] if distance == "kth" else distances.mean(1)


@pytest.mark.parametrize("backend", ["faiss", "torch"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("distance", ["kth", "mean"])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_agrees_with_scikit_learn(backend, normalize, distance, k, monkeypatch):
    if backend == "torch":
        monkeypatch.setitem(sys.modules, "faiss", None)  # an import of it fails
        monkeypatch.setattr(knn, "BANK_ROWS", 40)
    monkeypatch.setattr(knn, "GATHER_BYTES", 8 * 24 * 50)  # several rounds of gathering
    head = create_head("knn", k=k, space="l2" if normalize else "none", distance=distance).fit(TRAIN)
    expected = by_sklearn(BANK, ROWS, k, normalize, distance)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-5)


def test_default_is_the_fiftieth_neighbour_of_unit_vectors():
    np.testing.assert_allclose(
        create_head("knn").fit(TRAIN).score(TEST), by_sklearn(BANK, ROWS, 50), rtol=1e-5
    )


def test_ranks_as_pytorch_ood(detectors):
    theirs = detectors.KNN(None).fit_features(torch.tensor(BANK), torch.zeros(len(BANK)).long())
    expected = theirs.predict_features(torch.tensor(ROWS)).numpy()
    np.testing.assert_allclose(create_head("knn").fit(TRAIN).score(TEST), expected, rtol=1e-5)
    assert spearmanr(create_head("knn").fit(TRAIN).score(TEST), expected).statistic > 0.99999


def test_offset_costs_no_digits():
    # |a|^2 - 2ab + |b|^2 in float32 would keep none of a distance of 1 at an offset of 4096
    shifted = create_head("knn", k=3, space="none").fit(BANK + 4096).score(ROWS + 4096)
    exact = by_sklearn((BANK + 4096).astype(np.float32), (ROWS + 4096).astype(np.float32), 3, normalize=False)
    np.testing.assert_allclose(shifted, exact, rtol=1e-4)


def test_a_training_row_is_at_distance_zero_of_itself():
    scores = create_head("knn", k=1).fit(BANK).score(BANK)
    assert (scores == 0).all()
    doubled = create_head("knn", k=2).fit(np.concatenate([BANK, BANK])).score(BANK)
    assert (doubled < 1e-6).all()


def test_more_neighbours_than_rows_are_all_rows():
    with pytest.warns(UserWarning, match="k = 400, but there are only 300 training rows"):
        head = create_head("knn", k=400).fit(BANK)
    np.testing.assert_array_equal(head.score(ROWS), create_head("knn", k=300).fit(BANK).score(ROWS))
    assert any("k = 400" in note for note in head.record.notes)


def test_zero_vectors():
    bank, rows = BANK.copy(), ROWS.copy()
    rows[3] = 0
    assert create_head("knn").fit(bank).score(rows)[3] == pytest.approx(1, abs=1e-6)
    bank[:5] = 0
    scores = create_head("knn", k=5).fit(bank).score(rows)
    assert scores[3] == pytest.approx(0, abs=1e-6) and np.isfinite(scores).all()


def test_direction_alone_matters_when_normalized():
    head = create_head("knn", k=5).fit(BANK)
    for scale in (1e-20, 1e15):
        np.testing.assert_allclose(head.score(np.float32(scale) * ROWS), head.score(ROWS), rtol=1e-4)


@pytest.mark.parametrize("options", [{"k": 0}, {"distance": "median"}])
def test_wrong_options(options):
    with pytest.raises(UsageError):
        create_head("knn", **options)


def test_no_rows():
    with pytest.raises(DataError):
        create_head("knn").fit(BANK[:0])


@pytest.mark.parametrize("k", [1, 5, 30])
def test_nearest_in_chunks(k, monkeypatch):
    monkeypatch.setattr(knn, "BANK_ROWS", 11)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    bank = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    expected = [sorted(range(30), key=lambda j: float((row - bank[j]).norm()))[:k] for row in rows]
    assert knn.nearest(rows, bank, k).tolist() == expected
