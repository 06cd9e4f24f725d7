import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from unsound import Distance, head

from featood.cache import FeatureCache, Manifest, slug
from featood.heads import registry
from featood.metrics import aupr_out, auroc
from featood.testing.properties import check_properties
from featood.testing.strategies import (
    GEOMETRIES,
    feature_sets,
    keys,
    manifests,
    score_pairs,
    set_pairs,
    stored_values,
)

FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@FEW
@given(manifests())
def test_manifests_round_trip(manifest):
    with tempfile.TemporaryDirectory() as folder:
        manifest.save(Path(folder))
        assert Manifest.load(Path(folder)) == manifest
    values = stored_values(manifest, 3)
    assert {name: (column.shape[1:], str(column.dtype)) for name, column in values.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in manifest.columns.items()
    }
    again = stored_values(manifest, 3)
    assert all(column.tobytes() == again[name].tobytes() for name, column in values.items())


@FEW
@given(keys())
def test_keys_are_valid_folders_of_a_cache(key):
    folder = FeatureCache("root").folder(*key.split("/"))
    assert folder.parts == ("root", *map(slug, key.split("/")))


@pytest.mark.parametrize(
    "kind",
    [
        lambda pair: len(pair[0]) == 1,
        lambda pair: pair[0].feature().shape[1] > len(pair[0]) > 1,
        lambda pair: pair[0].num_classes and pair[0].num_classes > len(pair[0]),
        lambda pair: pair[0].labels is not None and (np.asarray(pair[0].labels) < 0).any(),
        lambda pair: pair[0].labels is not None and np.asarray(pair[0].labels).max() == 10**9,
        lambda pair: pair[0].labels is None and pair[0].logits is None and pair[0].classifier is None,
        lambda pair: (np.ptp(pair[0].feature(), 0) == 0).any() and (np.ptp(pair[1].feature(), 0) > 0).all(),
        lambda pair: pair[0].feature().dtype == np.float16 and (np.abs(pair[0].feature()) == 65504).any(),
        lambda pair: pair[0].ids is not None and not all(name.isascii() for name in pair[0].ids),
    ],
)
def test_unusual_sets_are_generated(kind):
    find(
        set_pairs(),
        kind,
        settings=settings(max_examples=2000, deadline=None, derandomize=True, phases=[Phase.generate]),
    )


@FEW
@given(feature_sets(geometries=("constant columns",), labels="classes", logits=True, ids=True))
def test_sets_follow_the_options(rows):
    assert (np.asarray(rows.feature())[:, ::2] == 3).all()
    assert rows.logits.shape == (len(rows), rows.num_classes) and len(rows.ids) == len(rows)
    assert (np.asarray(rows.labels) == np.arange(len(rows)) % rows.num_classes).all()


@FEW
@given(st.sampled_from(sorted(GEOMETRIES)), st.integers(1, 9), st.integers(1, 9))
def test_geometries_have_their_shape(name, rows, size):
    values = GEOMETRIES[name](np.random.default_rng(0), rows, size)
    assert values.shape == (rows, size) and np.isfinite(values).all()


@settings(FEW, max_examples=100)
@given(score_pairs())
def test_ranks_are_those_of_scikit_learn(pair):
    known, odd = pair
    truth, scores = np.repeat([0, 1], [len(known), len(odd)]), np.concatenate(pair)
    assert auroc(known, odd) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert aupr_out(known, odd) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


@pytest.fixture
def own_registry(monkeypatch):
    registry.list_heads()  # modules register when they are imported, which must be before the copy
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_heads_that_fail_on_some_sets_are_detected(own_registry):
    @head()
    class Spread(Distance):
        """Divides by a standard deviation that may be zero."""

        def score_block(self, block, fitted):
            return super().score_block(block, fitted) / fitted["std"]

        def fit_state(self, train):
            z = self.vectors(train.load()).double()
            return {"mean": z.mean(0), "std": z.std()}

    with pytest.raises((AssertionError, ExceptionGroup)):
        check_properties(Spread)

    @head()
    class Neighbour(Distance):
        """Depends on the previous row."""

        def score_block(self, block, fitted):
            scores = super().score_block(block, fitted)
            return scores + torch.roll(scores, 1)

    with pytest.raises((AssertionError, ExceptionGroup)):
        check_properties(Neighbour)
    check_properties(head()(type("Sound", (Distance,), {"__doc__": "Sound."})))


def test_the_error_without_hypothesis_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "hypothesis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    for name in ("drawing", "strategies"):
        monkeypatch.delitem(sys.modules, f"featood.testing.{name}", raising=False)
    import featood.testing

    assert featood.testing.check_head
    with pytest.raises(ImportError, match=r"pip install 'featood\[testing\]'"):
        importlib.import_module("featood.testing.strategies")
