import math

import numpy as np
import pytest
import torch
from draws import generator
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.energies.sgld import sgld
from featood.errors import Mismatch, UsageError
from featood.heads import create_head, load_head
from featood.heads.base.fit import FitContext
from featood.heads.energies._residual_network import residual_network

SMALL = {"epochs": 2, "width": 16, "depth": 2, "sgld_steps": 3, "batch_size": 32, "lr": 1e-3}


def features(rows=150, size=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    avg = np.abs(rng.normal(size=(rows, size)) + 2 * np.eye(3, size)[labels]).astype(np.float32)
    classifier = rng.normal(size=(3, size)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    return FeatureSet({"avg": avg, "std": avg[:, ::-1].copy() ** 2}, labels=labels, classifier=classifier)


def test_prior_energies_far_from_the_origin():
    rng = np.random.default_rng(0)
    near = (
        np.round(rng.normal(size=(400, 16)) * 1024) / 1024
    )  # so that float32 holds the shifted rows exactly
    labels, shift = rng.integers(0, 3, 400), 1024 + 0.25 * np.arange(16)
    quiet = {**SMALL, "epochs": 1, "space": "none", "relu": False}

    def energies(rows):
        head = create_head("heat-gmm", **quiet).fit(FeatureSet({"x": rows.astype(np.float32)}, labels=labels))
        prior = head.prior({name.removeprefix("prior."): value for name, value in head.state.items()})
        return prior.energy(torch.from_numpy(rows).float())

    torch.testing.assert_close(energies(near + shift), energies(near), rtol=0, atol=1e-3)


# ---- the network ------------------------------------------------------------------------------------


def test_layouts():
    def widths(net):
        return [tuple(layer.weight.shape) for layer in net if hasattr(layer, "weight")]

    tied = residual_network(7, 32, 4, "tied", generator())
    assert widths(tied) == [(32, 7)] + 4 * [(32, 32)] + [(1, 32)]
    assert len({id(layer) for layer in tied[2:-1:2]}) == 1 and len(list(tied.parameters())) == 6
    untied = residual_network(7, 32, 4, "untied", generator())
    assert widths(untied) == widths(tied) and len(list(untied.parameters())) == 12
    halving = residual_network(7, 32, 2, "halving", generator())
    assert widths(halving) == [(32, 7), (32, 32), (32, 32), (16, 32), (16, 16), (16, 16), (8, 16), (1, 8)]
    for net in (tied, untied, halving):
        assert {layer.negative_slope for layer in net if not hasattr(layer, "weight")} == {0.2}
    again = residual_network(7, 32, 4, "tied", generator())
    assert all(torch.equal(*pair) for pair in zip(tied.parameters(), again.parameters(), strict=True))


# ---- the heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["heat-gmm", "heat-gmm-std", "heat-el"])
@pytest.mark.parametrize("layout", ["tied", "untied", "halving"])
def test_score_is_the_sum_of_both_energies(name, layout):
    train, test = features(), features(seed=1)
    options = {**SMALL, "layout": layout, "temperature": 2.0, "prior_temperature": 30.0}
    head = create_head(name, **options).fit(train)
    state = {key: value.double().numpy() for key, value in head.state.items()}
    x = np.asarray(test.features["std" if name == "heat-gmm-std" else "avg"], float)
    if name == "heat-el":
        weight, bias = train.classifier
        prior = -np.log(np.exp(x @ weight.T + bias).sum(1))
    else:
        column = "std" if name == "heat-gmm-std" else "avg"
        rows, labels = np.asarray(train.features[column], float), train.labels
        rows, x = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (rows, x))
        means = np.stack([rows[labels == c].mean(0) for c in range(3)])
        residual = rows - means[labels]
        covariance = residual.T @ residual / len(rows)
        covariance += 1e-2 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        weights = np.bincount(labels) / len(labels)
        density = sum(
            w * multivariate_normal(m, covariance).pdf(x) for w, m in zip(weights, means, strict=True)
        )
        prior = -np.log(density)
    layers = sorted({int(key.split(".")[1]) for key in state if key.startswith("network")})
    if layout == "tied":
        layers[1:2] = [layers[1]] * SMALL["depth"]
    for layer in layers:
        x = x @ state[f"network.{layer}.weight"].T + state[f"network.{layer}.bias"]
        x = np.where(x > 0, x, 0.2 * x) if layer != layers[-1] else x
    np.testing.assert_allclose(head.score(test), x[:, 0] / 2 + prior / 30, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "cd", "l2": 0.1, "prior_temperature": 10.0, "proposals": "prior", "sgld_steps": 10, "step_size": 0.05,
         "noise": 0.1, "epochs": 25},
        {"epochs": 150},
    ],
)  # fmt: skip
def test_improves_on_a_prior_of_the_wrong_shape(options):
    rng = np.random.default_rng(0)

    def rings(rows):
        labels, angle = rng.integers(0, 2, rows), rng.uniform(0, 2 * math.pi, rows)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * (1 + 0.05 * rng.normal(size=(rows, 1)))
        return (ring + np.array([[-1.5, 0], [1.5, 0]])[labels]).astype(np.float32), labels

    x, labels = rings(800)
    test, _ = rings(300)
    holes = (
        np.array([[-1.5, 0], [1.5, 0]])[rng.integers(0, 2, 300)] + 0.2 * rng.normal(size=(300, 2))
    ).astype(np.float32)
    truth = np.repeat([0, 1], 300)
    outside = rng.uniform(-6, 6, (600, 2)).astype(np.float32)
    distance = np.abs(np.linalg.norm(outside[:, None] - [[-1.5, 0], [1.5, 0]], axis=2) - 1).min(1)
    outside = outside[distance > 1][:300]
    prior = create_head("gmm", covariance="tied").fit(x, labels)
    head = create_head(
        "heat-gmm", space="none", layout="untied", width=64, depth=2, lr=3e-3, batch_size=128, **options
    ).fit(x, labels)  # fmt: skip

    def auroc(head, ood):
        return roc_auc_score(truth[: 300 + len(ood)], np.concatenate([head.score(test), head.score(ood)]))

    assert auroc(prior, holes) < 0.1 and auroc(head, holes) > 0.9
    assert auroc(head, outside) > 0.95


def test_the_residual_is_the_log_ratio_of_densities():
    """The data are a narrower Gaussian than the mixture with one covariance: two classes of different widths."""
    rng = np.random.default_rng(0)
    labels = np.arange(20_000) % 2
    widths = np.array([0.5, 1.5])
    x = (np.array([[-4.0], [4.0]])[labels] + widths[labels, None] * rng.normal(size=(20_000, 1))).astype("f4")
    head = create_head(
        "heat-gmm", space="none", relu=False, proposals="prior", layout="untied", width=64, depth=2, lr=3e-3,
        updates=1500, milestone=5, ridge=0.0, data_noise=0.0,
    ).fit(x, labels)  # fmt: skip
    points = np.concatenate([np.linspace(-4.75, -3.25, 9), np.linspace(1.75, 6.25, 9)])
    each = [norm(center, width).pdf(points) for center, width in zip((-4, 4), widths, strict=True)]
    expected = -np.log(np.sum(each, 0) / 2)  # the energy is normalised: proposals and data have equal weights
    np.testing.assert_allclose(head.score(points[:, None].astype("f4")), expected, atol=0.2)


def test_same_seed_same_head():
    train = features()
    first = create_head("heat-gmm", **SMALL).fit(train)
    torch.manual_seed(99)
    again = create_head("heat-gmm", **SMALL).fit(train)
    other = create_head("heat-gmm", **SMALL, seed=1).fit(train)
    for key, value in first.state.items():
        assert torch.equal(again.state[key], value)
    assert not torch.equal(other.state["network.0.weight"], first.state["network.0.weight"])


def test_resumes_an_interrupted_training(tmp_path):
    train = features()
    expected = create_head("heat-gmm", **SMALL).fit(train)

    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        assert total == 8 and set(values) == {"loss", "positive", "negative"}
        if step == 6:
            raise Killed

    folder = tmp_path / "training"
    with pytest.raises(Killed):
        create_head("heat-gmm", **SMALL).fit(train, context=FitContext(stop, folder))
    assert (folder / "checkpoint.json").is_file()
    steps = []
    context = FitContext(lambda step, total, **values: steps.append(step), folder)
    resumed = create_head("heat-gmm", **SMALL).fit(train, context=context)
    assert steps == [5, 6, 7, 8] and not folder.exists()
    for key, value in expected.state.items():
        assert torch.equal(resumed.state[key], value)


@pytest.mark.parametrize("changed", ["features", "labels", "classifier"])
def test_a_checkpoint_of_other_data_is_refused(tmp_path, changed):
    def stop(step, total, **values):
        if step == 6:
            raise KeyboardInterrupt

    name = "heat-el" if changed == "classifier" else "heat-gmm"
    train, other = features(), features(seed=4)
    parts = {name: getattr(train, name) for name in ("features", "labels", "classifier")}
    other = FeatureSet(**{**parts, changed: getattr(other, changed)})
    with pytest.raises(KeyboardInterrupt):
        create_head(name, **SMALL).fit(train, context=FitContext(stop, tmp_path))
    with pytest.raises(Mismatch, match=r"other settings \(data\)"):
        create_head(name, **SMALL).fit(other, context=FitContext(None, tmp_path))


def test_divergence_keeps_the_last_good_state(tmp_path):
    train = features()
    with pytest.warns(UserWarning, match="diverged"):
        head = create_head("heat-gmm", **{**SMALL, "lr": 1e3}).fit(train)
    assert any("diverged" in note and "is used" in note for note in head.record.notes)
    assert np.isfinite(head.score(train)).all()
    assert head.record.training["diverged"]
    head.save(tmp_path)
    assert "diverged" in (tmp_path / "README.md").read_text()


def test_saved(tmp_path):
    train, test = features(), features(seed=1)
    for name in ("heat-gmm", "heat-gmm-std", "heat-el"):
        head = create_head(name, **SMALL).fit(train)
        head.save(tmp_path / name)
        assert np.array_equal(load_head(tmp_path / name).score(test), head.score(test))


def test_features_with_negative_values_are_noted():
    train = features()
    signed = FeatureSet({"avg": train.features["avg"] - 1}, labels=train.labels)
    head = create_head("heat-gmm", **SMALL).fit(signed)
    assert any("negative values" in note for note in head.record.notes)
    assert not create_head("heat-gmm", **SMALL).fit(train).record.notes


def test_the_classifier_must_fit_the_column():
    train = features()
    narrow = FeatureSet(
        {**train.features, "few": train.features["avg"][:, :2]}, classifier=train.classifier, main="avg"
    )
    with pytest.raises(UsageError, match="takes 6 features"):
        create_head("heat-el", **SMALL, feature="few").fit(narrow)


def test_published_settings():
    assert create_head("heat-gmm", "cifar100").sgld_steps == 20
    assert create_head("heat-gmm-std", "cifar10").sgld_steps == 1
    imagenet = create_head("heat-gmm-std", "imagenet")
    assert (imagenet.proposals, imagenet.simplified, imagenet.layout) == ("wide", True, "halving")
    assert imagenet.sgld_steps == 0 and imagenet.accumulate == 20 and imagenet.feature == "std"
    assert create_head("heat-el", "imagenet").step_size == 1e3 and create_head("heat-el").space == "none"
    budgets = [create_head("heat-gmm", name).updates for name in ("cifar10", "cifar100", "imagenet")]
    assert budgets == [50_000 * 20 // 1024, 50_000 * 20 // 1024, 2000]
    assert create_head("heat-el", "cifar100").updates == 50_000 * 8 // 1024


@pytest.mark.parametrize("rows", [60, 150])
def test_a_budget_in_updates_does_not_depend_on_the_rows(rows, monkeypatch):
    falls = []
    monkeypatch.setattr(
        "featood.heads.energies._residual_head.multi_step",
        lambda steps: falls.extend(steps) or (lambda _: 1.0),
    )
    head = create_head("heat-gmm", **{**SMALL, "epochs": 20}, updates=12, milestone=5).fit(features(rows))
    assert head.record.training["steps"] == 12 and falls == [3]
    passes = create_head("heat-gmm", **SMALL).fit(features(rows))
    assert passes.record.training["steps"] == 2 * (rows // 32)


@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_the_ridge_of_the_prior(ridge):
    train = features()
    head = create_head("heat-gmm", **SMALL, space="none", ridge=ridge).fit(train)
    rows, labels = train.features["avg"].astype(float), train.labels
    centred = rows - np.stack([rows[labels == c].mean(0) for c in range(3)])[labels]
    covariance = np.cov(centred.T, bias=True)
    covariance += ridge * covariance.trace() / 6 * np.eye(6)
    matrix = head.state["prior.matrix"].numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.linalg.inv(covariance), rtol=1e-6, atol=1e-8)


def test_a_sampler_that_cannot_be_stable_is_told_of():
    train = features()
    rows = train.features["avg"].copy()
    rows[:, 5] = 0.4 + 1e-3 * rows[:, 5]
    narrow = FeatureSet({"avg": rows}, labels=train.labels)
    variance = float(
        1
        / np.linalg.svd(create_head("heat-gmm", **SMALL, space="none").fit(narrow).state["prior.matrix"])[1][
            0
        ]
        ** 2
    )

    def fit(**options):
        return create_head(
            "heat-gmm", **{**SMALL, "space": "none", "prior_temperature": 10.0, **options}
        ).fit(narrow)

    def energy(head):
        prior = head.prior({name.removeprefix("prior."): value for name, value in head.state.items()})
        start, follow = prior.propose(torch.zeros(50, 6), torch.zeros(50, dtype=torch.long), generator())
        noise = math.sqrt(2 * head.step_size)
        samples = sgld(lambda z: 0 * z.sum(1), start, steps=40, step_size=head.step_size, noise=noise,
                       generator=generator(), final=1.0, known=lambda z: follow(z) / 10)  # fmt: skip
        return float(prior.energy(samples).mean() - prior.energy(start).mean())

    unstable = 3 * 2 * 10 * variance
    with pytest.warns(UserWarning, match=r"is unstable: 1 of the prior's 6 variances") as caught:
        head = fit(step_size=unstable)
    text = str(next(note.message for note in caught if "stable" in str(note.message)))
    assert f"{variance:.1e}" in text and f"{unstable / 20:.1e}" in text and text in head.record.notes
    assert not energy(head) < 1e6
    ridge, step = (
        float(text.split(f"{word} ")[1].split()[0]) for word in ("a ridge above", "a step_size below")
    )
    for options in (
        {"step_size": unstable, "ridge": 2 * ridge},
        {"step_size": step / 2},
        {"step_size": unstable, "sgld_steps": 0},
    ):
        stable = fit(**options)
        assert not any("stable" in note for note in stable.record.notes)
        if stable.sgld_steps:
            assert abs(energy(stable)) < 100  # at a temperature of 10, six directions have 27 more


def test_published_settings_of_imagenet_run():
    train = features()
    options = {"updates": 8, "width": 64, "batch_size": 32}
    head = create_head("heat-gmm", "imagenet", **options).fit(train)
    assert np.isfinite(head.score(train)).all() and not head.record.notes
