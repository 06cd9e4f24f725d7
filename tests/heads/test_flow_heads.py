import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head, head_class, load_head
from featood.heads.base.fit import FitContext

HEADS = ["glow-vector", "iresnet", "maf", "planar-flow", "radial-flow", "realnvp", "spline-flow"]


def correlated(rows=400, seed=0):
    """Normal rows with correlated columns, and the entropy of their distribution."""
    rng = np.random.default_rng(seed)
    root = np.array([[1.0, 0, 0], [1.5, 0.4, 0], [-0.5, 0.5, 0.3]])
    labels = rng.integers(0, 2, rows)
    features = rng.normal(size=(rows, 3)) @ root.T + 5
    return FeatureSet({"avg": features.astype(np.float32)}, labels=labels), root


def quick(name, **options):
    own = {key: value for key, value in head_class(name).testing_options.items() if key != "epochs"}
    return create_head(name, **{**own, "epochs": 25, "lr": 2e-2, "batch_size": 100, **options})


@pytest.mark.parametrize("name", HEADS)
def test_training_raises_the_likelihood_and_finds_what_is_off_the_data(name):
    train, root = correlated()
    seen = []
    context = FitContext(progress=lambda step, total, **values: seen.append(values["loss"]))
    head = quick(name, layers=3).fit(train, context=context)
    assert np.mean(seen[-4:]) < np.mean(seen[:4])
    if name not in ("radial-flow", "planar-flow"):  # which bend space too little to follow correlations soon
        spread = np.sqrt(np.square(root).sum(1))
        entropy = 1.5 * np.log(2 * np.pi * np.e) + np.log(np.abs(np.linalg.det(root))) - np.log(spread).sum()
        assert np.mean(head.score(train)) == pytest.approx(entropy, abs=0.35), "in standardised units"
    off = FeatureSet({"avg": train.features["avg"] + np.float32([0, 0, 4])})
    scores = np.concatenate([head.score(train), head.score(off)])
    assert roc_auc_score(np.repeat([0, 1], len(train)), scores) > 0.9


@pytest.mark.parametrize("name", HEADS)
def test_scores_are_the_negated_density_of_the_saved_flow(name, tmp_path):
    train, _ = correlated(100)
    head = quick(name, epochs=2).fit(train)
    loaded = load_head(head.save(tmp_path / name))
    model, state = loaded.prepare(loaded.state)
    rows = (torch.from_numpy(train.features["avg"]).double() - state["space.center"]) / state["space.scale"]
    expected = -model.log_density(rows).reshape(-1)
    np.testing.assert_allclose(head.score(train), expected, rtol=1e-9)


def test_radial_flows_by_class_are_a_mixture():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3  # of four classes, one without rows
    features = (rng.normal(size=(300, 2)) + np.array([[6.0, 0], [-6, 0], [0, 6]])[labels]).astype(np.float32)
    train = FeatureSet(
        {"avg": features}, labels=labels, classifier=(np.zeros((4, 2), np.float32), np.zeros(4, np.float32))
    )
    head = quick("radial-flow", by_class=True, lr=3e-2, validation=0.0).fit(train)
    model, state = head.prepare(head.state)
    torch.testing.assert_close(model.shares, torch.ones(3, dtype=torch.float64) / 3, rtol=1e-6, atol=0)
    rows = (torch.from_numpy(features).double() - state["space.center"]) / state["space.scale"]
    densities = model.log_density(rows)
    assert (densities.argmax(1).numpy() == labels).mean() > 0.95
    np.testing.assert_allclose(head.score(train), -np.log(densities.exp().sum(1) / 3), rtol=1e-6, atol=1e-6)
    origin = FeatureSet({"avg": np.zeros((1, 2), np.float32)})
    middle = head.score(origin)
    one = quick("radial-flow").fit(train)
    gap = middle - np.median(head.score(train))
    assert gap > one.score(origin) - np.median(one.score(train))


def test_radial_flows_by_class_need_labels():
    train, _ = correlated()
    with pytest.raises(DataError, match="needs labels"):
        quick("radial-flow", by_class=True).fit(dataclasses.replace(train, labels=None))


def test_couplings_refuse_a_single_feature():
    with pytest.raises(UsageError, match="two features"):
        quick("realnvp").fit(np.random.default_rng(0).normal(size=(50, 1)))


def test_simple_flows_have_no_options_of_networks():
    for name in ("radial-flow", "planar-flow"):
        with pytest.raises(UsageError, match="no option 'width'"):
            create_head(name, width=3)


def test_normalisations_start_from_the_data_and_survive_saving(tmp_path):
    train, _ = correlated()
    head = quick("glow-vector", lr=0.0, epochs=1).fit(train)
    loaded = load_head(head.save(tmp_path / "head"))
    shift = loaded.state["model.flows.3.log_scale"]
    assert float(shift.abs().max()) > 0.05
    rows = FeatureSet({"avg": 100 + train.features["avg"]})
    np.testing.assert_array_equal(loaded.score(rows), head.score(rows))


def test_determinants_are_exact_in_scores_and_estimated_in_training():
    features = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    head = create_head("iresnet", epochs=1, layers=2, width=10, depth=1, terms=1, batch_size=50)
    model, _ = head.fit(features).prepare(head.state)
    rows = torch.from_numpy(features[:5]).double()
    jacobians = [torch.autograd.functional.jacobian(lambda x: model(x[None])[0][0], row) for row in rows]
    expected = torch.stack([torch.linalg.slogdet(jacobian).logabsdet for jacobian in jacobians])
    torch.testing.assert_close(model(rows)[1], expected)
    model.train()
    draws = [
        float(head.losses(model, rows, torch.zeros(5), torch.Generator().manual_seed(seed))["loss"])
        for seed in (0, 1)
    ]
    assert draws[0] != draws[1]
