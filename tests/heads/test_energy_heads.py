import numpy as np
import pytest
import torch
from draws import grid, two_gaussians
from scipy.stats import spearmanr

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads import create_head, list_heads
from featood.heads.base.fit import FitContext
from featood.testing import Subject

SAMPLER = {"sgld_steps": 10, "buffer_size": 1000}
SMALL = {"base": "none", "space": "standardize", "width": 32, "depth": 2, "batch_size": 200}


@pytest.mark.parametrize(
    "name, options",
    [
        ("cd", {"epochs": 20, "lr": 3e-3, **SAMPLER}),
        ("jem", {"epochs": 20, "lr": 3e-3, **SAMPLER}),
        ("jem", {"epochs": 20, "lr": 3e-3, "class_conditional": False, "start": "normal", **SAMPLER}),
        ("ssm", {"epochs": 40, "lr": 3e-3}),
        ("ssm-supervised", {"epochs": 40, "lr": 3e-3}),
        ("nce", {"epochs": 40, "lr": 3e-3}),
        ("nce", {"epochs": 40, "lr": 3e-3, "noise": "uniform"}),
        ("conditional-nce", {"epochs": 60, "lr": 3e-3}),
        ("vera", {"epochs": 80, "noise_size": 4, "draws": 8}),
        ("vera-supervised", {"epochs": 80, "noise_size": 4, "draws": 8}),
    ],
)
def test_the_energy_orders_the_plane_as_the_density_does(name, options):
    points, log_p = grid()
    scores = create_head(name, **SMALL, **options).fit(two_gaussians()).score(points)
    assert spearmanr(scores, -log_p)[0] > 0.9


@pytest.mark.parametrize(
    "name, options",
    [
        ("jem", {**SAMPLER, "class_density": 0.1}),
        ("entropy-mcmc", SAMPLER),
        ("ssm-supervised", {}),
        ("vera-supervised", {}),
    ],
)
def test_supervised_heads_classify(name, options):
    head = create_head(name, **SMALL | {"epochs": 10, "lr": 3e-3}, **options).fit(two_gaussians())
    test = two_gaussians(seed=1)
    model, _ = head.prepare(head.state)
    scaled = (torch.from_numpy(test.features["x"]) - head.state["space.center"]) / head.state["space.scale"]
    right = model(scaled).argmax(1).numpy() == test.labels
    assert right.mean() > 0.95
    assert head.score(test) == pytest.approx(_score(head.options.get("which", "energy"), model(scaled)))


def _score(which, logits):
    values = logits.numpy()
    if which == "energy":
        return -np.log(np.exp(values).sum(1))
    return 1 - np.exp(values).max(1) / np.exp(values).sum(1)


def test_entropy_mcmc_is_uncertain_far_out_where_a_classifier_is_not():
    far = FeatureSet({"x": (8 * np.random.default_rng(3).normal(size=(500, 2))).astype(np.float32)})
    options = {**SMALL, **SAMPLER, "which": "max-probability", "epochs": 8, "lr": 3e-3}
    with_samples = create_head("entropy-mcmc", **options).fit(two_gaussians()).score(far)
    without = create_head("entropy-mcmc", **options, uncertainty=0.0).fit(two_gaussians()).score(far)
    assert np.median(without) < 0.05 and np.median(with_samples) > 0.3


def test_scores_of_jem():
    options = {**SMALL, **SAMPLER, "epochs": 2}
    test = two_gaussians(50, seed=1)
    energy = create_head("jem", **options).fit(two_gaussians())
    step = 1e-4
    slopes = []
    for axis in range(2):
        up, down = (
            FeatureSet({"x": test.features["x"].astype(np.float64) + sign * step * np.eye(2)[axis]})
            for sign in (1, -1)
        )
        slopes.append((energy.score(up) - energy.score(down)) / (2 * step))
    length = np.sqrt(
        sum((slope * float(energy.state["space.scale"][axis])) ** 2 for axis, slope in enumerate(slopes))
    )
    found = create_head("jem", which="gradient-norm", **options).fit(two_gaussians()).score(test)
    np.testing.assert_allclose(found, length, rtol=1e-5)
    with pytest.raises(UsageError, match="which must be one of"):
        create_head("jem", which="likelihood")


def test_far_out_the_energy_of_nce_is_that_of_its_noise():
    head = create_head("nce", **SMALL, epochs=20, lr=3e-3).fit(two_gaussians())
    model, _ = head.prepare(head.state)
    far = 300 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    correlation = torch.from_numpy(
        np.corrcoef(two_gaussians().features["x"].T)
    )  # the covariance of standardised rows
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2).double(), correlation)
    torch.testing.assert_close(model.energy(far), -gaussian.log_prob(far), rtol=0.05, atol=0)
    assert float((model.net(far).squeeze(1)).std()) > 1, "the network alone is something else"


@pytest.mark.parametrize("name", ["vera", "vera-supervised"])
def test_the_generator_starts_with_the_moments_of_the_rows(name):
    head = create_head(name, **SMALL)
    model = head.build(2, 2, torch.Generator().manual_seed(0))
    rows = torch.from_numpy(two_gaussians().features["x"])
    head.initialize(model, rows, torch.zeros(len(rows)))
    with torch.no_grad():
        means = model.sampler.network(torch.randn(4000, 16, generator=torch.Generator().manual_seed(5)))
    torch.testing.assert_close(means.mean(0), rows.mean(0), rtol=0, atol=0.2)
    torch.testing.assert_close(means.std(0), rows.std(0), rtol=0.15, atol=0)
    assert float(model.sampler.sigma.detach()) == pytest.approx(0.3)


def test_limits_of_the_sampler():
    options = {**SMALL, **SAMPLER, "epochs": 1, "batch_size": 500}
    assert create_head("cd", **options).sampling["bounds"] is None
    head = create_head("cd", **options, gradient_clip=0.5, value_clamp=2.0)
    assert (head.sampling["gradient_limit"], head.sampling["bounds"]) == (0.5, (-2.0, 2.0))
    model = head.build(2, 1, torch.Generator().manual_seed(0))
    before = model.chains.samples.clone()
    head.losses(model, torch.zeros(500, 2), torch.zeros(500), torch.Generator().manual_seed(1))
    moved = (model.chains.samples != before).any(1)
    assert float(before.abs().max()) > 2.9 and float(model.chains.samples[moved].abs().max()) == 2.0


@pytest.mark.parametrize("name", ["ssm", "ssm-supervised"])
def test_rectifiers_are_noted(name):
    with pytest.warns(UserWarning, match="second derivatives"):
        head = create_head(name, **SMALL, epochs=1, activation="leaky_relu").fit(two_gaussians(200))
    assert "smooth activation" in head.record.notes[0]


@pytest.mark.parametrize("name", ["cd", "vera"])
def test_what_only_training_needs_is_in_checkpoints_but_not_in_the_artefact(name, tmp_path):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 60:
            raise Killed

    options = {**SMALL, "epochs": 7, "batch_size": 200} | (SAMPLER if name == "cd" else {})
    whole = create_head(name, **options).fit(two_gaussians())
    with pytest.raises(Killed):
        create_head(name, **options).fit(two_gaussians(), context=FitContext(stop, tmp_path))
    resumed = create_head(name, **options).fit(two_gaussians(), context=FitContext(checkpoint=tmp_path))
    assert {key.split(".")[1] for key in whole.state if key.startswith("model.")} == {"net"}
    for key, value in whole.state.items():
        assert torch.equal(resumed.state[key], value), key


@pytest.mark.parametrize("name", ["cd", "jem", "entropy-mcmc", "epn-m"])
def test_validation_leaves_the_chains_of_the_training_alone(name, tmp_path):
    options = {**SMALL, "batch_size": 25, "epochs": 12, "sgld_steps": 3, "buffer_size": 100, "lr": 3e-3}
    options |= {"validation": 0.2, "patience": 99}
    train = two_gaussians(200)
    expected = create_head(name, **options).fit(train)

    def stop(step, total, **values):
        if step == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_head(name, **options).fit(train, context=FitContext(stop, tmp_path / "fit"))
    resumed = create_head(name, **options).fit(train, context=FitContext(checkpoint=tmp_path / "fit"))
    for key, value in expected.state.items():
        assert torch.equal(resumed.state[key], value), key


def test_cautions_are_listed(tmp_path, featood):
    code, out, _ = featood("heads")
    assert code == 0
    for name in ("autoencoder", "vae"):
        card = list_heads()[name]
        assert "ignores the classes" in card.caution
        entry = f"{name} {card.title} ({card.year}). Needs {', '.join(card.needs)}. Caution: {card.caution}."
        assert entry in " ".join(out.split())
    head = create_head("vae", epochs=1, width=8, depth=1).fit(np.random.default_rng(0).normal(size=(40, 3)))
    assert "Caution: it ignores the classes" in (head.save(tmp_path / "h") / "README.md").read_text()


@pytest.mark.parametrize("options", [{"step_size": 1e30}, {"noise": 1e30}, {"lr": 1e6}])
def test_chains_and_energies_that_explode_leave_the_last_good_state(options):
    subject = Subject.of("cd", base="none", **options)
    with pytest.warns(UserWarning, match="diverged"):
        head = subject.fit(subject.train)
    assert head.record.training["diverged"]
    notes = " ".join(head.record.notes)
    assert "state after step" in notes
    assert ("Langevin chains diverged and were reinitialised" in notes) is ("lr" not in options)
    subject.score(head, subject.test)
