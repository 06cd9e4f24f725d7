import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from featood.errors import DataError, UsageError
from featood.heads import create_head
from featood.heads.distances import knn
from featood.numerics.neighbours import build_index
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


@pytest.mark.parametrize("screen", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("distance", ["kth", "mean"])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_agrees_with_scikit_learn(screen, normalize, distance, k, monkeypatch):
    monkeypatch.setattr(knn, "build_index", lambda bank: build_index(bank, screen=screen))
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


@pytest.mark.parametrize(("kind", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_rows_of_another_type_are_rounded_after_centring(kind, digits):
    head = create_head("knn", k=7, bank=kind).fit(TRAIN)
    assert head.state["bank"].dtype == getattr(torch, kind)
    directions = BANK / np.linalg.norm(BANK, axis=1, keepdims=True)
    kept = head.state["bank"].double() + head.state["center"]
    spread = np.abs(directions - directions.mean(0)).max()
    assert np.abs(kept.numpy() - directions).max() <= 2.0**-digits * spread * 1.01
    difference = np.abs(head.score(TEST) - create_head("knn", k=7).fit(TRAIN).score(TEST))
    assert 0 < difference.max() < 2.0**-digits * spread * np.sqrt(BANK.shape[1])


def test_rows_too_large_for_float16():
    with pytest.raises(UsageError, match="too large for float16; use bank bfloat16 or float32"):
        create_head("knn", space="none", bank="float16").fit(1e5 * BANK)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_notes_its_recall(kind):
    with pytest.warns(UserWarning, match=rf"knn: {kind} with breadth 2 finds \d+\.\d% of the 5 rows nearest"):
        head = create_head("knn", k=5, index=kind, breadth=2).fit(TRAIN)
    assert any(kind in note for note in head.record.notes)
    exact = create_head("knn", k=5).fit(TRAIN).score(TEST)
    scores = head.score(TEST)
    assert (scores >= exact * (1 - 1e-6)).all() and spearmanr(scores, exact).statistic > 0.8


def test_dropped_rows_are_not_kept():
    rows = BANK.copy()
    rows[[3, 9]] = np.nan
    with pytest.warns(UserWarning, match="left out"):
        head = create_head("knn", k=4, nonfinite="drop").fit(rows)
    assert head.state["bank"].shape == (len(BANK) - 2, BANK.shape[1])
    expected = create_head("knn", k=4).fit(np.delete(BANK, [3, 9], 0)).score(ROWS)
    np.testing.assert_allclose(head.score(ROWS), expected, rtol=1e-6)


@pytest.mark.parametrize("screen", [True, False])
@pytest.mark.parametrize("space", ["l2", "none"])
def test_narrow_features_are_kept_as_they_are(space, screen, monkeypatch):
    monkeypatch.setattr(knn, "build_index", lambda bank: build_index(bank, screen=screen))
    narrow, rows = BANK.astype("f2"), ROWS.astype("f2")
    narrow[3] = rows[4] = 0
    head = create_head("knn", k=7, space=space).fit(narrow)
    assert "bank" not in head.state and np.array_equal(head.state["rows"].numpy(), narrow)
    wide = create_head("knn", k=7, space=space).fit(narrow.astype("f4"))
    assert "rows" not in wide.state
    # without a screen, products in float32 choose among rows that are equally near
    np.testing.assert_allclose(head.score(rows), wide.score(rows.astype("f4")), rtol=0 if screen else 1e-7)


def test_narrow_features_in_a_fitted_space_are_kept_in_that_space():
    narrow = BANK.astype("f2")
    head = create_head("knn", k=7, space="l2-standardize").fit(narrow)
    assert head.state["bank"].dtype == torch.float32
    wide = create_head("knn", k=7, space="l2-standardize").fit(narrow.astype("f4"))
    np.testing.assert_array_equal(head.score(ROWS), wide.score(ROWS))


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.filterwarnings("ignore:knn")
def test_an_approximate_index_of_narrow_features(kind):
    narrow = BANK.astype("f2")
    heads = [
        create_head("knn", k=5, index=kind, breadth=4).fit(rows) for rows in (narrow, narrow.astype("f4"))
    ]
    np.testing.assert_array_equal(*(head.score(ROWS) for head in heads))


@pytest.mark.parametrize("bank, tolerance", [("float32", 1e-5), ("float16", 2e-3)])
def test_a_coreset_keeps_rows_that_are_far_from_each_other(bank, tolerance):
    head = create_head("knn", k=1, space="none", coreset=20, bank=bank).fit(TRAIN)
    rows = BANK.astype(float)
    kept = [int(np.linalg.norm(rows - rows.mean(0), axis=1).argmax())]
    while len(kept) < 20:
        kept.append(int(np.linalg.norm(rows[:, None] - rows[kept], axis=2).min(1).argmax()))
    assert len(head.state["bank"]) == 20
    expected = by_sklearn(BANK[kept], ROWS, 1, normalize=False)
    np.testing.assert_allclose(head.score(TEST), expected, rtol=tolerance)
    every = create_head("knn", k=1, coreset=len(TRAIN)).fit(TRAIN)
    np.testing.assert_allclose(every.score(TEST), by_sklearn(BANK, ROWS, 1), rtol=1e-5)
