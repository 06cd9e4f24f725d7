import math

import numpy as np
import pytest
import torch
from draws import generator
from scipy.special import digamma, softmax
from scipy.stats import dirichlet
from sklearn.metrics import roc_auc_score

from featood.cache.feature_set import FeatureSet
from featood.energies import VeraObjective
from featood.energies.dirichlet import evidence_divergence, prior_network_loss, uncertain_cross_entropy
from featood.errors import DataError, UsageError
from featood.heads import ask, create_head, load_head
from featood.heads.base.fit import FitContext
from featood.heads.dirichlet._scores import CHOICES, SCORES, dirichlet_score
from featood.heads.dirichlet.natpn import BUDGETS

CENTERS = np.array([[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]])
SMALL = {"space": "standardize", "width": 32, "depth": 2, "batch_size": 100, "lr": 1e-2}
OPTIONS = {
    "mlp": {"epochs": 10},
    "natpn": {"epochs": 20, "latent": 4, "layers": 2},
    "prior-network": {"epochs": 20},
    "epn-v": {
        "epochs": 12,
        "draws": 5,
        "target": 0.0,
        "base": "none",
    },  # the published aim, which in few dimensions is the better
    "vera-posterior": {"base": "none", "penalty": 0.1, "epochs": 20, "draws": 5},
    "epn-m": {"base": "none", "epochs": 10, "sgld_steps": 8, "buffer_size": 500},
}


def blobs(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    features = (CENTERS[labels] + 0.7 * rng.normal(size=(rows, 4))).astype(np.float32)
    return FeatureSet({"x": features}, labels=labels)


def outliers(name, rows=200):
    """Rows far from all classes; for a plain classifier, which is sure of those, rows between the classes."""
    if name == "mlp":
        center = np.array([1.0, 1, 1, 0])
        values = center + 0.3 * np.random.default_rng(4).normal(size=(rows, 4))
    else:
        values = blobs(rows, seed=2).features["x"] - 8
    return FeatureSet({"x": values.astype(np.float32)})


@pytest.fixture(scope="module")
def fitted():
    return {name: create_head(name, **SMALL, **OPTIONS[name]).fit(blobs()) for name in OPTIONS}


def network(head, data):
    """The network of a head, and the rows as it sees them."""
    model, state = head.prepare(head.state)
    return model, (torch.from_numpy(data.features["x"]).double() - state["space.center"]) / state[
        "space.scale"
    ]


def evidence(head, data):
    model, rows = network(head, data)
    return head.log_evidence(model, rows).exp().numpy()


def by_scipy(alpha):
    total = alpha.sum(1)
    p = alpha / total[:, None]
    expected = (p * (digamma(total + 1)[:, None] - digamma(alpha + 1))).sum(1)
    return {
        "alpha0": -np.log(total),
        "max-p": -p.max(1),
        "differential-entropy": np.array([dirichlet(row).entropy() for row in alpha]),
        "expected-entropy": expected,
        "mutual-information": -(p * np.log(p)).sum(1) - expected,
        "epkl": (alpha.shape[1] - 1) / total,
    }


@pytest.mark.parametrize("prior", [0.5, 1.0])
def test_scores(prior):
    logits = np.random.default_rng(0).normal(0, 2, (30, 4))
    expected = by_scipy(np.exp(logits) + prior) | {"p(x)": -np.log(np.exp(logits).sum(1))}
    assert set(expected) == set(CHOICES) == {"p(x)", *SCORES}
    for which, scores in expected.items():
        found = dirichlet_score(which, torch.from_numpy(logits), prior)
        np.testing.assert_allclose(found, scores, rtol=1e-7, atol=1e-10, err_msg=which)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_fitted_head_gives_all_its_scores(name, fitted):
    head, test = fitted[name], blobs(30, seed=1)
    values = evidence(head, test)
    expected = by_scipy(values + 1) | {"p(x)": -np.log(values.sum(1))}
    if name == "mlp":
        expected |= {
            "msp": 1 - (values / values.sum(1, keepdims=True)).max(1),
            "max-logit": -np.log(values.max(1)),
        }
    assert set(head.card.scores) == set(expected)
    for which, scores in expected.items():
        np.testing.assert_allclose(ask(head, which).score(test), scores, rtol=1e-6, atol=1e-9, err_msg=which)


@pytest.mark.parametrize("name", OPTIONS)
def test_classes_are_told_apart_and_outliers_found(name, fitted):
    head, test = fitted[name], blobs(200, seed=1)
    alpha = evidence(head, test) + (name != "mlp")
    probabilities = softmax(head.classify(test), axis=1)
    np.testing.assert_allclose(probabilities, alpha / alpha.sum(1, keepdims=True), rtol=1e-9)
    assert (probabilities.argmax(1) == test.labels).mean() > 0.95
    scores = np.concatenate([head.score(test), head.score(outliers(name))])
    assert roc_auc_score(np.repeat([0, 1], 200), scores) > 0.95


@pytest.mark.parametrize("name", ["epn-v", "vera-posterior"])
def test_the_generator_is_not_saved(name, fitted, tmp_path):
    loaded = load_head(fitted[name].save(tmp_path / "head"))
    assert {key.split(".")[1] for key in loaded.state if key.startswith("model.")} == {"net"}
    np.testing.assert_array_equal(loaded.score(blobs(9)), fitted[name].score(blobs(9)))


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_prior_networks_are_flat_on_the_outliers_they_were_given(direction):
    train, test = blobs(), blobs(200, seed=1)
    unknown = FeatureSet(train.features, labels=np.where(train.labels == 2, -1, train.labels))
    options = {**SMALL, "epochs": 20, "direction": direction, "noise": 0.0}
    third = FeatureSet({"x": test.features["x"][test.labels == 2]})
    taught = evidence(create_head("prior-network", **options).fit(unknown), third)
    assert np.median(taught.sum(1)) < 3
    known = evidence(create_head("prior-network", **options).fit(train), third)
    assert np.median(known.sum(1)) > {"reverse": 50, "forward": 25}[direction]


def test_prior_networks_reach_the_concentrations_asked_for(fitted):
    values = evidence(fitted["prior-network"], blobs(200, seed=1))
    assert 50 < np.median(values.sum(1)) < 150
    assert np.median(evidence(fitted["prior-network"], outliers("prior-network")).sum(1)) < 1


def test_prior_networks_without_outliers_draw_noise_of_the_size_asked_for():
    seen = []
    head = create_head("prior-network", noise=3.0)

    def model(rows):
        seen.append(rows)
        return torch.zeros(len(rows), 3)

    rows, labels = torch.zeros(500, 2), torch.zeros(500, dtype=torch.long)
    found = head.losses(model, rows, labels, torch.Generator().manual_seed(0))
    noise = seen[0][500:]
    assert noise.shape == (500, 2) and 2.9 < float(noise.abs().max()) <= 3
    assert float(noise.mean()) == pytest.approx(0, abs=0.2)
    everything = torch.cat([labels, torch.full((500,), -1)])
    assert float(found["loss"]) == float(prior_network_loss(torch.zeros(1000, 3), everything)["loss"])
    head.losses(model, rows, torch.where(torch.arange(500) < 400, labels, -1), torch.Generator())
    assert len(seen[1]) == 500  # real outliers take the place of noise


def test_natural_posterior_networks_share_one_density_out(fitted):
    head, test = fitted["natpn"], blobs(40, seed=1)
    model, rows = network(head, test)
    latent = (model.encoder(rows) - model.norm.running_mean) / (
        model.norm.running_var + model.norm.eps
    ).sqrt()
    latent = latent * model.norm.weight + model.norm.bias
    flow = model.flow
    base, log_det = flow.flow.flow().transform.call_and_ladj((latent - flow.center) @ flow.matrix)
    whitening = torch.linalg.slogdet(flow.matrix).logabsdet
    distances = (base[:, None] - flow.means).square().sum(2)
    by_class = log_det[:, None] + whitening - 0.5 * (distances + 4 * math.log(2 * math.pi))
    log_q = (by_class + flow.shares.log()).logsumexp(1)
    logits = latent @ model.classifier.weight.T + model.classifier.bias
    alpha = 1 + (4 * math.pi) ** 2 * log_q.exp()[:, None] * logits.softmax(1)
    np.testing.assert_allclose(
        evidence(head, test) + 1, alpha, rtol=1e-5
    )  # the determinant is stored in float32


def test_certainty_budgets_of_natural_posterior_networks():
    budgets = [math.exp(3 * BUDGETS[name]) for name in ("constant", "exp-half", "exp", "normal")]
    assert budgets == pytest.approx([1, math.exp(1.5), math.exp(3), (4 * math.pi) ** 1.5])
    head = create_head("natpn", space="standardize", latent=2, budget="exp")
    model = head.build(3, 4, torch.Generator()).eval()
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    latents = model.encoder(rows) / math.sqrt(1 + model.norm.eps)
    expected = model.log_density(latents)[:, None] + model.classifier(latents).double().log_softmax(1) + 2
    torch.testing.assert_close(head.log_evidence(model, rows), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="more rows"):
        create_head("natpn", space="standardize", epochs=1).fit(blobs(1))


def test_natural_posterior_networks_limit_the_evidence_of_all_scores_but_the_density(fitted):
    head, test = fitted["natpn"], blobs(40, seed=1)
    model, rows = network(head, test)
    latents = model.latents(rows)
    log_n = model.log_density(latents) + 0.5 * math.log(4 * math.pi) * head.latent
    low = create_head("natpn", **{**head.options, "evidence_limit": 1.5})
    assert float(log_n.abs().max()) > 1.5
    expected = log_n.clamp(-1.5, 1.5).exp()[:, None] * model.log_probabilities(latents).exp()
    torch.testing.assert_close(low.log_evidence(model, rows).exp(), expected)
    np.testing.assert_allclose(ask(head, which="p(x)").score(test), -log_n.numpy())
    model.requires_grad_()
    loss = low.losses(model, rows, torch.from_numpy(test.labels), generator())["loss"]
    gradients = torch.autograd.grad(loss, list(model.flow.parameters()))
    assert all(bool(part.any()) for part in gradients)  # rows beyond the limit still teach the flow


def test_phases_of_natural_posterior_networks():
    train, far = blobs(), outliers("natpn")
    options = {**SMALL, "epochs": 15, "latent": 4, "layers": 3, "width": 16}
    once = create_head("natpn", **options, finetune=False, warmup_epochs=0).fit(train)
    whole = create_head("natpn", **options, warmup_epochs=2).fit(train)
    assert set(once.record.training) == {"steps", "diverged", "loss", "validation"}
    phases = whole.record.training
    assert phases["warm-up"]["steps"] == 2 * 5 and "validation" not in phases["warm-up"]
    assert phases["warm-up"]["loss"] < 20  # the density starts from the latent features that it is trained on
    assert 0 < phases["fine-tuning"]["steps"] <= 15 * 5
    # the flow alone learns in the end, and then gives rows more density than before
    main = create_head("natpn", **options, warmup_epochs=2, finetune=False).fit(train)
    fixed = [name for name in whole.state if name.startswith("model.") and ".flow." not in name]
    assert fixed and all(torch.equal(whole.state[name], main.state[name]) for name in fixed)
    density = [ask(head, which="p(x)").score(blobs(200, seed=1)).mean() for head in (main, whole)]
    assert density[1] < density[0] - 0.5
    assert all(np.isfinite(head.score(far)).all() for head in (once, whole, main))


def test_an_interrupted_fine_tuning_ends_the_same(tmp_path):
    options = {**SMALL, "epochs": 30, "latent": 3, "layers": 2, "width": 8, "warmup_epochs": 1}
    expected = create_head("natpn", **options).fit(blobs())
    last = 5 + expected.record.training["steps"] + 60
    seen = []

    def stop(step, total, **_):
        seen.append(step)
        if len(seen) > last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_head("natpn", **options).fit(
            blobs(), context=FitContext(progress=stop, checkpoint=tmp_path / "c")
        )
    again = create_head("natpn", **options).fit(blobs(), context=FitContext(checkpoint=tmp_path / "c"))
    assert all(torch.equal(again.state[name], value) for name, value in expected.state.items())


def test_natural_posterior_networks_without_batch_normalisation(tmp_path):
    head = create_head("natpn", "published", epochs=5, latent=3, width=16).fit(blobs())
    assert not any("norm" in name for name in head.state) and head.flow == "radial" and head.layers == 8
    np.testing.assert_array_equal(load_head(head.save(tmp_path / "h")).score(blobs(9)), head.score(blobs(9)))


def test_forward_divergences_learn_many_classes_where_ones_beside_the_exponentials_hide_them():
    rng, centers = np.random.default_rng(1), np.random.default_rng(9).normal(size=(10, 64))

    def rows(count):
        labels = rng.integers(0, 10, count)
        values = np.maximum(centers[labels] + 0.8 * rng.normal(size=(count, 64)), 0)
        return FeatureSet({"x": values.astype(np.float32)}, labels=labels)

    train, test = rows(1000), rows(500)

    def accuracy(**options):
        head = create_head("prior-network", direction="forward", epochs=40, batch_size=100, **options).fit(
            train
        )
        return head.prior, (head.classify(test).argmax(1) == test.labels).mean()

    assert accuracy() == (0.0, pytest.approx(1, abs=0.25))
    assert accuracy(prior=1.0) == (1.0, pytest.approx(0.1, abs=0.1))
    assert create_head("prior-network").prior == 1.0
    with pytest.raises(UsageError, match="prior must be at least 0"):
        create_head("prior-network", prior=-1.0)


@pytest.mark.parametrize("name", ["natpn", "postnet"])
def test_features_that_do_not_vary_and_classes_of_one_row(name):
    rows = np.ones((60, 4), np.float32)
    constant = FeatureSet({"x": rows}, labels=np.arange(60) % 3)
    data = blobs(60)
    single = FeatureSet(data.features, labels=np.where(np.arange(60) == 7, 3, data.labels))
    for train in (constant, single):
        # classes without variance have no Gaussians from which the flow of natpn could start
        plain = {"by_class": False} if name == "natpn" and train is constant else {}
        head = create_head(name, epochs=3, width=8, depth=1, latent=2, **plain).fit(train)
        assert np.isfinite(head.score(train)).all() and np.isfinite(head.score(outliers(name))).all()


def test_natpn_names_classes_without_variance():
    constant = FeatureSet({"x": np.ones((60, 4), np.float32)}, labels=np.arange(60) % 3)
    with pytest.raises(DataError, match="covariance within classes is zero"):
        create_head("natpn", epochs=1, width=8, latent=2).fit(constant)


def small(name, **options):
    """An untrained head, its network in float64, rows and labels."""
    head = create_head(name, width=8, depth=1, **options)
    model = head.build(4, 3, torch.Generator().manual_seed(0)).double()
    data = blobs(20)
    return head, model, torch.from_numpy(data.features["x"]).double(), torch.from_numpy(data.labels)


@pytest.mark.parametrize("name", ["epn-v", "vera-posterior"])
def test_what_energy_prior_networks_add_to_vera(name):
    off = {"classification": 0.0, "entropy_weight": 0.0, "l2": 0.0}

    def loss(**options):
        head, model, rows, labels = small(name, **{**off, **options})
        return float(head.losses(model, rows, labels, torch.Generator().manual_seed(1))["loss"].detach())

    head, model, rows, labels = small(name, l2=0.0)
    with torch.no_grad():
        logits = model(rows)
        generator = torch.Generator().manual_seed(1)
        parts = {"sampler": model.sampler}
        vera = VeraObjective.energy_losses(head, model.net, parts, rows, labels, generator)
        generated = model(model.sampler.sample(20, generator)[0])
    assert loss() == pytest.approx(float(vera["loss"]), rel=1e-6)
    entropy, on_samples = (
        np.mean([dirichlet(row).entropy() for row in np.exp(part.numpy()) + 1])
        for part in (logits, generated)
    )
    if name == "epn-v":
        named = evidence_divergence(logits, labels, 100.0)
        aimed = float(evidence_divergence(logits, labels, 30.0).mean())
        assert loss(classification=2.0, target=30.0) - loss() == pytest.approx(2 * aimed)
    else:
        named = uncertain_cross_entropy((logits.exp() + 1).log(), labels)
    assert loss(classification=2.0) - loss() == pytest.approx(2 * float(named.mean()))
    assert loss(entropy_weight=0.3) - loss() == pytest.approx(-0.3 * entropy)
    assert loss(sample_entropy=0.3) - loss() == pytest.approx(-0.3 * on_samples, rel=1e-5)


def test_what_energy_prior_networks_add_to_contrastive_divergence():
    def losses(**options):
        head, model, rows, labels = small("epn-m", sgld_steps=3, buffer_size=60, **options)
        generator = torch.Generator().manual_seed(1)
        return {
            name: float(value.detach()) for name, value in head.losses(model, rows, labels, generator).items()
        }

    _, model, rows, labels = small("epn-m")
    with torch.no_grad():
        alpha = np.exp(model(rows).numpy()) + 1
    errors = digamma(alpha.sum(1)) - digamma(alpha[np.arange(20), labels])
    entropy = np.mean([dirichlet(row).entropy() for row in alpha])
    plain = losses(classification=0.0, l2=0.0)
    assert plain["loss"] == pytest.approx(plain["positive"] - plain["negative"])
    both = losses(classification=2.0, entropy_weight=0.3, l2=0.0)
    assert both["loss"] - plain["loss"] == pytest.approx(2 * (errors.mean() - 0.3 * entropy), rel=1e-5)
    assert losses(classification=0.0, l2=0.2)["loss"] > plain["loss"]


def test_langevin_samples_of_energy_prior_networks_are_of_single_classes():
    head, model, rows, labels = small("epn-m", sgld_steps=3, buffer_size=60, restart=0.0)
    before = model.chains.samples.clone()
    head.losses(model, rows, labels, torch.Generator().manual_seed(1))
    moved = (model.chains.samples != before).any(1).reshape(3, 20).sum(1)
    assert moved.sum() <= 20 and (moved > 0).all()
