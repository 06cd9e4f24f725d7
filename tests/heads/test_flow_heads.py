import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
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
    plain = {"space": "standardize", "by_class": False}
    return create_head(name, **{**own, **plain, "epochs": 25, "lr": 2e-2, "batch_size": 100, **options})


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
    head = quick("radial-flow", by_class=True, separate=True, lr=3e-2, validation=0.0).fit(train)
    model, state = head.prepare(head.state)
    torch.testing.assert_close(model.shares, torch.ones(3, dtype=torch.float64) / 3, rtol=1e-6, atol=0)
    rows = (torch.from_numpy(features).double() - state["space.center"]) / state["space.scale"]
    densities = model.log_density(rows)
    assert (densities.argmax(1).numpy() == labels).mean() > 0.95
    np.testing.assert_allclose(head.score(train), -np.log(densities.exp().sum(1) / 3), rtol=1e-6, atol=1e-6)
    origin = FeatureSet({"avg": np.zeros((1, 2), np.float32)})
    middle = head.score(origin)
    one = quick("radial-flow", separate=True).fit(train)
    gap = middle - np.median(head.score(train))
    assert gap > one.score(origin) - np.median(one.score(train))


@pytest.mark.parametrize("name", HEADS)
def test_without_labels_there_is_one_class(name):
    train, _ = correlated()
    head = quick(name, by_class=True, epochs=1).fit(dataclasses.replace(train, labels=None))
    assert int(head.state["classes"]) == 1 and np.isfinite(head.score(train)).all()


def test_training_starts_from_gaussian_classes():
    """An untrained identity over the base is the mixture with one covariance, which scipy computes."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    root = np.array([[1.0, 0], [1.5, 0.4]])
    rows = rng.normal(size=(300, 2)) @ root.T + np.array([[4.0, 0], [-4, 0], [0, 5]])[labels]
    head = quick("realnvp", by_class=True, space="none", lr=0.0, epochs=1, validation=0.0)
    head.fit(rows.astype(np.float32), labels)
    means = np.stack([rows[labels == c].mean(0) for c in range(3)])
    covariance = np.cov((rows - means[labels]).T, bias=True)
    covariance += 1e-2 * np.trace(covariance) / 2 * np.eye(2)
    density = sum(multivariate_normal(mean, covariance).pdf(rows) for mean in means) / 3
    np.testing.assert_allclose(head.score(rows.astype(np.float32)), -np.log(density), rtol=1e-4, atol=1e-4)


def test_a_trained_density_with_classes_integrates_to_one():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    along = rng.normal(size=400)
    bent = np.stack([along, along**2 / 2 + 0.3 * rng.normal(size=400)], 1)
    rows = (bent + np.array([[2.5, 0], [-2.5, 0]])[labels]).astype(np.float32)
    head = quick("realnvp", by_class=True, space="none", validation=0.0).fit(rows, labels)
    sides = np.linspace(-12, 12, 401)
    grid = np.stack(np.meshgrid(sides, sides), -1).reshape(-1, 2)
    assert np.exp(-head.score(grid)).sum() * (sides[1] - sides[0]) ** 2 == pytest.approx(1, abs=0.02)
    start = quick("realnvp", by_class=True, space="none", lr=0.0, epochs=1).fit(rows, labels)
    assert head.score(rows).mean() < start.score(rows).mean() - 0.2


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
    head = create_head(
        "iresnet", epochs=1, layers=2, width=10, depth=1, terms=1, batch_size=50, by_class=False
    )
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
