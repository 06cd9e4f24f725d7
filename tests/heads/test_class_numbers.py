import dataclasses

import numpy as np
import pytest
import torch

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads import create_head, load_head
from featood.heads.base.rows import SelectedRows
from featood.numerics import memory
from featood.numerics.moments import ClassMoments, ClassSums, ScatterByClass

NUMBERS = np.array([7, 250_000, 900_000])
RNG = np.random.default_rng(0)
PLACES = RNG.integers(0, 3, 240)
ROWS = (RNG.normal(size=(240, 6)) @ RNG.normal(size=(6, 6)) + 4 * RNG.normal(size=(3, 6))[PLACES]).astype(
    "f4"
)
TEST = 3 * RNG.normal(size=(50, 6)).astype("f4")
TRAINED = {"epochs": 5, "width": 16, "depth": 1, "lr": 1e-2}


def with_columns(columns=(2, 5, 9), classes=21_841):
    """Rows of three classes of a classifier of very many."""
    logits = np.zeros((len(ROWS), classes), "f4")
    logits[np.arange(len(ROWS)), np.array(columns)[PLACES]] = 5
    return FeatureSet({"avg": ROWS}, logits=logits, labels=np.array(columns)[PLACES])


def naive_means():
    return np.stack([ROWS[place == PLACES].astype(float).mean(0) for place in range(3)])


def naive_mahalanobis():
    means = naive_means()
    apart = ROWS.astype(float) - means[PLACES]
    covariance = apart.T @ apart / len(ROWS)
    covariance += 1e-6 * covariance.diagonal().mean() * np.eye(6)
    inverse = np.linalg.inv(covariance)
    return np.array([min((z - m) @ inverse @ (z - m) for m in means) for z in TEST.astype(float)])


def naive_cosine():
    cosines = [
        max(z @ m / np.linalg.norm(z) / np.linalg.norm(m) for m in naive_means()) for z in TEST.astype(float)
    ]
    return -np.array(cosines)


@pytest.mark.parametrize("kind", [ClassSums, ClassMoments, ScatterByClass])
def test_statistics_are_of_the_classes_that_occur(kind):
    found = kind.of(torch.tensor(ROWS), torch.tensor(NUMBERS[PLACES]))
    assert found.classes.tolist() == NUMBERS.tolist() and found.total.shape == (3, 6)
    assert found.count.tolist() == np.bincount(PLACES).tolist()
    np.testing.assert_allclose(found.means(), naive_means(), rtol=1e-12)


@pytest.mark.parametrize("kind", [ClassSums, ClassMoments, ScatterByClass])
def test_parts_of_different_classes_merge_and_stream_in_any_order(kind):
    whole = kind.of(torch.tensor(ROWS), torch.tensor(NUMBERS[PLACES]))
    parts = [
        (
            torch.tensor(ROWS[place == PLACES]),
            torch.full((int((place == PLACES).sum()),), int(NUMBERS[place])),
        )
        for place in (2, 0, 1)
    ]
    pieces = [kind.of(*part) for part in parts]
    before = [piece.total.clone() for piece in pieces]
    merged = pieces[0].merge(pieces[1]).merge(pieces[2])
    streamed = None
    for part in parts:
        streamed = kind.of(*part, streamed)
    for found in (merged, streamed):
        assert found.classes.tolist() == NUMBERS.tolist()
        assert torch.equal(found.count, whole.count)
        torch.testing.assert_close(found.means(), whole.means(), rtol=1e-12, atol=1e-12)
        if kind is ClassMoments:
            torch.testing.assert_close(found.within_covariance(), whole.within_covariance())
            torch.testing.assert_close(found.covariance(), whole.covariance())
        if kind is ScatterByClass:
            torch.testing.assert_close(found.covariances(), whole.covariances())
    assert all(torch.equal(piece.total, kept) for piece, kept in zip(pieces, before, strict=True))


@pytest.mark.parametrize(("name", "oracle"), [("mahalanobis", naive_mahalanobis), ("cosine", naive_cosine)])
@pytest.mark.parametrize("numbers", [(0, 1, 2), (7, 250_000, 900_000), (10**9, 3, 10**15)])
def test_scores_of_any_numbers_are_those_of_naive_loops(name, oracle, numbers):
    labels = np.array(numbers)[PLACES]
    whole = create_head(name).fit(ROWS, labels)
    parts = create_head(name)
    for place in (1, 2, 0):  # no part has more than one class
        parts.partial_fit(ROWS[place == PLACES], labels[place == PLACES])
    for head in (whole, parts):
        assert max(len(tensor) for tensor in head.state.values() if tensor.ndim) <= 6
        np.testing.assert_allclose(head.score(TEST), oracle(), rtol=1e-4)


def test_a_classifier_of_very_many_classes_costs_nothing():
    train = with_columns()
    for name in ("mahalanobis", "gmm", "cosine", "ssd", "relative-mahalanobis"):
        wide = create_head(name).fit(train)
        plain = create_head(name).fit(ROWS, PLACES)
        assert np.array_equal(wide.score(FeatureSet({"avg": TEST})), plain.score(TEST)), name
        assert max(tensor.numel() for tensor in wide.state.values()) <= 3 * 6 * 6
    openmax = create_head("openmax", tail=5).fit(train).state
    assert openmax["classes"].tolist() == [2, 5, 9] and openmax["means"].shape == (3, 21_841)
    assert create_head("kl-matching").fit(train).state["log_templates"].shape == (3, 21_841)


@pytest.mark.parametrize("name", ["ensemble-mlp", "vmdls"])
def test_a_head_that_classifies_knows_the_numbers_of_its_classes(name, tmp_path):
    options = TRAINED if name == "ensemble-mlp" else {**TRAINED, "latent": 2, "batch_classes": 3}
    head = create_head(name, **options).fit(ROWS, NUMBERS[PLACES])
    plain = create_head(name, **options).fit(ROWS, PLACES)
    assert plain.classes is None and head.classes.tolist() == NUMBERS.tolist()
    assert np.array_equal(head.classify(ROWS), plain.classify(ROWS))
    predicted = head.classes.numpy()[head.classify(ROWS).argmax(1)]
    assert (predicted == NUMBERS[PLACES]).mean() > 0.6
    loaded = load_head(head.save(tmp_path / "head"))
    assert loaded.classes.tolist() == NUMBERS.tolist()
    assert np.array_equal(loaded.score(TEST), head.score(TEST))


def test_logits_of_a_head_are_in_the_columns_of_the_classifier(tmp_path):
    head = create_head("ensemble-mlp", **TRAINED).fit(with_columns(classes=40))
    plain = create_head("ensemble-mlp", **TRAINED).fit(ROWS, PLACES).classify(ROWS)
    for fitted in (head, load_head(head.save(tmp_path / "head"))):
        logits = fitted.classify(FeatureSet({"avg": ROWS}))
        assert fitted.classes is None and logits.shape == (240, 40) and np.isfinite(logits).all()
        assert np.array_equal(logits[:, [2, 5, 9]], plain)
        assert np.isin(logits.argmax(1), [2, 5, 9]).all()


def test_labels_beyond_the_logits_are_refused_by_every_head():
    train = dataclasses.replace(with_columns(classes=40), labels=NUMBERS[PLACES])
    for name in ("mahalanobis", "ensemble-mlp", "openmax"):
        with pytest.raises(DataError, match="label 900000 exceeds the classifier's 40 classes"):
            create_head(name).fit(train)


def test_a_class_whose_rows_are_all_left_out_is_none():
    rows = ROWS.copy()
    rows[PLACES == 1, 0] = np.nan
    kept = PLACES != 1
    train = SelectedRows(
        FeatureSet({"avg": rows}, labels=NUMBERS[PLACES]), ["avg", "labels"], nonfinite="drop", ranked=True
    )
    assert train.classes.tolist() == [7, 900_000] and train.num_classes == 2
    with pytest.warns(UserWarning, match="left out"):
        assert sorted(set(train.load().labels.tolist())) == [0, 1]
    for name, options in (("heat-gmm", {"proposals": "wide", "epochs": 1, "width": 8}), ("gmm", {})):
        with pytest.warns(UserWarning, match="left out"):
            found = create_head(name, nonfinite="drop", **options).fit(rows, NUMBERS[PLACES])
        expected = create_head(name, **options).fit(rows[kept], PLACES[kept])
        assert np.array_equal(found.score(TEST), expected.score(TEST))


def test_memory_is_what_kernel_and_control_group_leave(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    assert memory.available_memory() == 2 << 20
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, expected in (("max\n", 2 << 20), ("5000\n", 4000), ("900\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert memory.available_memory() == expected
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "absent")
    (tmp_path / "memory.max").write_text("max")
    assert memory.available_memory() > 1 << 20


def test_accuracy_and_predictions_are_of_the_numbers_themselves():
    from featood.pipeline.scoring import score

    plain, odd = (
        score(
            {"mlp": create_head("mlp", **TRAINED).fit(FeatureSet({"avg": ROWS}, labels=numbers[PLACES]))},
            FeatureSet({"avg": ROWS}, labels=numbers[PLACES], name="a/in/test"),
            {"out": FeatureSet({"avg": TEST}, name="a/out/test")},
        )
        for numbers in (np.arange(3), NUMBERS)
    )
    keys = ("accuracy", "brier", "auroc", "f1_macro")
    assert [odd.results["rows"][0][key] for key in keys] == [plain.results["rows"][0][key] for key in keys]
    assert plain.results["rows"][0]["accuracy"] > 0.8
    assert set(odd.predictions["mlp", "test"]) <= set(NUMBERS)
