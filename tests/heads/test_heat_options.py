"""Priors, samplers and limits of HEAT that are not the defaults."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from featood.cache.feature_set import FeatureSet
from featood.energies.sgld import sgld
from featood.energies.svgd import svgd
from featood.errors import DataError, UsageError
from featood.heads import create_head, load_head
from featood.heads.base.fit import FitContext
from featood.heads.energies import _sampling

QUICK = {"updates": 6, "width": 16, "depth": 2, "batch_size": 32, "lr": 1e-2}
CLASSES = 3


def features(rows=150, size=6, seed=0, labelled=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    avg = np.abs(rng.normal(size=(rows, size)) + 3 * np.eye(CLASSES, size)[labels]).astype(np.float32)
    classifier = rng.normal(size=(CLASSES, size)).astype("f4"), rng.normal(size=CLASSES).astype("f4")
    return FeatureSet({"avg": avg}, labels=labels if labelled else None, classifier=classifier)


def prior_energies(head, x):
    prior = head.prior({k.removeprefix("prior."): v for k, v in head.state.items() if k.startswith("prior.")})
    return prior.energy(torch.from_numpy(x)).numpy()


def mixture_energies(rows, labels, x, diagonal=False, ridge=1e-2):
    groups = [rows[labels == c] for c in np.unique(labels)]
    within = np.concatenate([group - group.mean(0) for group in groups])
    covariance = within.T @ within / len(rows)
    covariance = np.diag(np.diag(covariance)) if diagonal else covariance
    covariance = covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    parts = [len(g) / len(rows) * multivariate_normal(g.mean(0), covariance).pdf(x) for g in groups]
    return -np.log(np.sum(parts, 0))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# ---- priors -----------------------------------------------------------------------------------------


def test_diagonal_covariance():
    train, x = features(), unit(features(seed=1).features["avg"].astype(float))
    head = create_head("heat-gmm", covariance="diag", **QUICK).fit(train)
    expected = mixture_energies(unit(train.features["avg"].astype(float)), train.labels, x, diagonal=True)
    np.testing.assert_allclose(prior_energies(head, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("labelled", [True, False])
def test_clusters_in_place_of_classes(labelled, tmp_path):
    train, x = features(labelled=labelled), unit(features(seed=1).features["avg"].astype(float))
    rows = unit(train.features["avg"].astype(float))
    head = create_head("heat-gmm", clusters=5, seed=2, **QUICK).fit(train)
    found = KMeans(5, n_init=5, random_state=2).fit(rows)
    np.testing.assert_allclose(prior_energies(head, x), mixture_energies(rows, found.labels_, x), rtol=1e-3)
    head.save(tmp_path)
    assert np.array_equal(load_head(tmp_path).score(train), head.score(train))


def test_wide_proposals_follow_the_clusters_of_the_batch(monkeypatch):
    seen = []
    train = features(60)
    head = create_head("heat-gmm", clusters=4, proposals="wide", **{**QUICK, "batch_size": 60, "updates": 1})
    monkeypatch.setattr(
        "featood.heads.energies._priors.torch.bincount",
        lambda labels, minlength: seen.append(labels.bincount(minlength=minlength)) or seen[-1],
    )
    head.fit(train)
    found = KMeans(4, n_init=5, random_state=0).fit(unit(train.features["avg"].astype(float)))
    assert sorted(seen[0].tolist()) == sorted(np.bincount(found.labels_).tolist())


def test_fewer_rows_than_clusters():
    with pytest.raises(DataError, match="heat-gmm: 30 rows are too few for 40 clusters"):
        create_head("heat-gmm", clusters=40, **QUICK).fit(features(30))


def test_clipped_features_have_the_space_and_prior_of_clipped_rows():
    train, test = features(), features(seed=1)
    limit = np.quantile(train.features["avg"].astype(np.float64), 0.8).astype(np.float32)
    clipped = [
        FeatureSet({"avg": np.minimum(s.features["avg"], limit)}, labels=s.labels) for s in (train, test)
    ]
    for space in ("l2", "standardize", "none"):
        head = create_head("heat-gmm", clip=0.8, space=space, **QUICK).fit(train)
        other = create_head("heat-gmm", space=space, **QUICK).fit(clipped[0])
        np.testing.assert_allclose(head.score(test), other.score(clipped[1]), rtol=1e-4, atol=1e-4)


def test_the_energy_of_clipped_features():
    train, test = features(), features(seed=1)
    head = create_head("heat-el", clip=0.8, **QUICK).fit(train)
    weight, bias = (part.astype(np.float64) for part in train.classifier)
    limit = np.quantile(train.features["avg"], 0.8)
    rows = np.minimum(test.features["avg"], limit)
    expected = -np.log(np.exp(rows @ weight.T + bias).sum(1))
    network, prior = head.prepared
    np.testing.assert_allclose(prior.energy(torch.from_numpy(rows)), expected, rtol=1e-4, atol=1e-5)
    residual = network(torch.from_numpy(rows))[:, 0].numpy()
    np.testing.assert_allclose(head.score(test), expected + residual, rtol=1e-4, atol=1e-4)


def test_principal_components():
    train, x = features(), features(seed=1).features["avg"].astype(float)
    with pytest.warns(UserWarning, match="negative values in the space pca"):
        head = create_head("heat-gmm", space="pca", components=4, **QUICK).fit(train)
    assert head.state["network.0.weight"].shape == (16, 4)
    pca = PCA(4).fit(train.features["avg"].astype(float))
    rows, axes = pca.transform(train.features["avg"].astype(float)), head.state["space.axes"].numpy()
    ours = (x - pca.mean_) @ axes
    expected = mixture_energies(rows, train.labels, pca.transform(x))
    np.testing.assert_allclose(prior_energies(head, ours), expected, rtol=1e-4, atol=1e-4)


# ---- the network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["tied", "untied", "halving"])
def test_no_layer_exceeds_the_limit(layout):
    options = {**QUICK, "layout": layout, "updates": 60, "lr": 3e-2}
    free = create_head("heat-gmm", **options).fit(features())
    head = create_head("heat-gmm", lipschitz=0.9, **options).fit(features())

    def norms(fitted):
        names = [name for name in fitted.state if name.startswith("network.") and name.endswith("weight")]
        return [np.linalg.norm(fitted.state[name].numpy(), 2) for name in names]

    assert set(head.state) == set(free.state) and max(norms(free)) > 1
    assert max(norms(head)) == pytest.approx(0.9, abs=1e-5)
    rows = features(seed=1)
    x = unit(rows.features["avg"].astype(float)).astype(np.float32)
    network, _ = head.prepared
    bounded = network(torch.from_numpy(x))[:, 0].numpy()
    steps = np.linalg.norm(x[1:] - x[:-1], axis=1)
    layers = sum(hasattr(layer, "weight") for layer in network)
    assert (np.abs(np.diff(bounded)) <= 0.9**layers * steps + 1e-6).all()


# ---- samplers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["sgld", "svgd"])
def test_negatives_are_samples_and_their_starts(sampler):
    head = create_head(
        "heat-el", sampler=sampler, sgld_steps=4, step_size=0.2, noise=0.1, buffer_size=6, restart=0.0
    )
    network = torch.nn.Sequential(torch.nn.Linear(3, 1))
    start, kept = torch.randn(8, 3, generator=torch.Generator().manual_seed(1)), head.make_buffer(3)

    def draw():
        return head.negatives(
            network, start, temperature=2.0, known=lambda z: z, project=torch.relu, kept=kept,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    def energy(z):
        return (network[0](z)[:, 0] / 2) + z.square().sum(1) / 2

    shared = {"steps": 4, "step_size": 0.2, "project": torch.relu}
    if sampler == "svgd":
        expected = svgd(energy, start, **shared)
    else:
        expected = sgld(energy, start, noise=0.1, generator=torch.Generator().manual_seed(0), **shared)
    found = draw()
    torch.testing.assert_close(found, torch.cat([expected, start]))
    torch.testing.assert_close(kept.samples.sort(0).values, expected[-6:].sort(0).values)
    assert torch.isin(draw()[8:], expected).all()  # the second time, chains continue


def test_interrupted_persistent_chains_resume_exactly(tmp_path):
    options = {**QUICK, "updates": 0, "epochs": 3, "sgld_steps": 2, "buffer_size": 40, "lipschitz": 1.0}
    train = features()
    expected = create_head("heat-gmm", **options).fit(train)

    def stop(step, total, **values):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_head("heat-gmm", **options).fit(train, context=FitContext(stop, tmp_path))
    resumed = create_head("heat-gmm", **options).fit(train, context=FitContext(None, tmp_path))
    for name, value in expected.state.items():
        assert torch.equal(resumed.state[name], value)
    other = create_head("heat-gmm", **{**options, "buffer_size": 0}).fit(train)
    assert not torch.equal(other.state["network.0.weight"], expected.state["network.0.weight"])


def test_the_data_as_proposals(monkeypatch):
    starts = []
    monkeypatch.setattr(
        _sampling, "sgld", lambda energy, start, **options: starts.append(start) or start.clone()
    )
    train = features(64)
    create_head("heat-el", proposals="data", sgld_steps=3, **{**QUICK, "batch_size": 64}).fit(train)
    rows = torch.from_numpy(train.features["avg"])
    assert len(starts) == 6
    assert torch.equal(starts[0][starts[0][:, 0].argsort()], rows[rows[:, 0].argsort()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 9}, "set sgld_steps"),
        ({"proposals": "data"}, "set sgld_steps"),
        ({"simplified": True, "proposals": "normal"}, "omit simplified"),
        ({"simplified": True, "sgld_steps": 2, "buffer_size": 9}, "omit simplified"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(UsageError, match=message):
        create_head("heat-gmm", **options)
