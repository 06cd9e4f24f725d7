import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Independent, Normal, kl_divergence

from featood.cache.feature_set import FeatureSet
from featood.heads import create_head

LINEAR = {"depth": 0, "epochs": 200, "batch_size": 100, "lr": 3e-2, "validation": 0.0, "space": "none"}
SCORES = ("elbo", "importance-weighted", "reconstruction", "kl")


def factors(rows=1000, seed=0):
    """Six features of two factors, with noise of deviation 0.5."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(9).normal(size=(2, 6)) * [[2.0], [1.0]]
    return rng.normal(size=(rows, 2)) @ loadings + 0.5 * rng.normal(size=(rows, 6)) + 3


def as_set(values):
    return FeatureSet({"x": np.asarray(values, dtype=np.float64)})


def vae(size=5, seed=3):
    """Return an unfitted head and an untrained model of it, in float64 and with weights of some size."""
    head = create_head("vae", latent=2, width=8, depth=1, draws=4)
    model = head.build(size, 1, torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        model.log_sigma.fill_(-0.3)
    return head, model.requires_grad_(False)


# ---- autoencoder --------------------------------------------------------------------------------------


def test_a_linear_autoencoder_spans_the_principal_subspace():
    train, test = factors(), factors(seed=1)
    head = create_head("autoencoder", latent=2, **LINEAR).fit(as_set(train))
    pca = PCA(2).fit(train)
    expected = ((test - pca.inverse_transform(pca.transform(test))) ** 2).sum(1)
    found = head.score(as_set(test))
    assert found.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    model, _ = head.prepare(head.state)
    overlap = pca.components_ @ np.linalg.qr(model.decoder[0].weight.numpy())[0]
    assert np.linalg.svd(overlap)[1].min() > 0.99, "cosines of the angles between the subspaces"


def test_the_score_is_the_squared_error_of_standardised_features():
    train = factors(200)
    sizes = {"latent": 3, "width": 7, "depth": 1}
    options = {**sizes, "space": "standardize", "epochs": 2, "activation": "tanh", "validation": 0.0}
    head = create_head("autoencoder", **options).fit(as_set(train))
    weights = {name: np.asarray(value, dtype=float) for name, value in head.state.items()}
    scaled = (train - train.mean(0)) / train.std(0)

    def perceptron(part, x):
        inner = np.tanh(x @ weights[f"model.{part}.0.weight"].T + weights[f"model.{part}.0.bias"])
        return inner @ weights[f"model.{part}.2.weight"].T + weights[f"model.{part}.2.bias"]

    code = perceptron("encoder", scaled)
    assert code.shape == (200, 3)
    expected = ((scaled - perceptron("decoder", code)) ** 2).sum(1)
    np.testing.assert_allclose(head.score(as_set(train)), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["autoencoder", "vae"])
def test_the_latent_space_is_an_eighth_of_the_features_unless_said(name):
    for size, latent in ((6, 1), (40, 5)):
        model = create_head(name).build(size, 1, torch.Generator())
        assert model.decoder[0].in_features == latent
        assert model.encoder[-1].out_features == latent * (1 if name == "autoencoder" else 2)


@pytest.mark.parametrize("name", ["autoencoder", "vae"])
def test_rows_off_the_curve_of_the_data_score_high(name):
    rng = np.random.default_rng(0)

    def parabola(rows, offset):
        x = rng.uniform(-1.5, 1.5, rows)
        return as_set(np.stack([x, x**2 + offset + 0.05 * rng.normal(size=rows)], 1))

    options = {"latent": 1, "width": 32, "depth": 2, "epochs": 30, "batch_size": 50, "lr": 1e-2}
    head = create_head(name, space="standardize", **options).fit(parabola(2000, 0.0))
    limit = np.quantile(head.score(parabola(500, 0.0)), 0.95)
    for offset in (-2.0, 1.5, 5.0):
        assert (head.score(parabola(500, offset)) > limit).mean() > 0.8, offset
    assert np.isfinite(head.score(as_set([[1e6, -1e6]]))).all()


# ---- variational autoencoder --------------------------------------------------------------------------


def test_scores_of_a_vae_by_a_loop():
    _, model = vae()
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma = math.exp(-0.3)

    def normal(x, mean, deviation):
        return -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)

    expected = {name: [] for name in SCORES}
    for row in rows:
        code = model.encoder(row[None])[0].tolist()
        means, widths = code[:2], [math.exp(value) for value in code[2:]]
        kl = sum(0.5 * (m * m + s * s - 1 - 2 * math.log(s)) for m, s in zip(means, widths, strict=True))
        likelihoods, weights = [], []
        for draw in model.draws.tolist():
            point = [m + s * e for m, s, e in zip(means, widths, draw, strict=True)]
            decoded = model.decoder(torch.tensor([point], dtype=torch.float64))[0].tolist()
            likelihoods.append(sum(normal(x, d, sigma) for x, d in zip(row.tolist(), decoded, strict=True)))
            weights.append(
                likelihoods[-1]
                + sum(normal(h, 0, 1) - normal(h, m, s) for h, m, s in zip(point, means, widths, strict=True))
            )
        expected["kl"].append(kl)
        expected["reconstruction"].append(-sum(likelihoods) / 4)
        expected["elbo"].append(kl - sum(likelihoods) / 4)
        expected["importance-weighted"].append(-math.log(sum(map(math.exp, weights)) / 4))
    for which, values in expected.items():
        scores = create_head("vae", latent=2, which=which).score_rows(model, rows)
        np.testing.assert_allclose(scores, values, rtol=1e-9, err_msg=which)


def test_the_loss_of_a_vae_by_torch_distributions():
    head, model = vae()
    rows = torch.randn(300, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = head.losses(model, rows, torch.zeros(300), torch.Generator().manual_seed(2))
    mean, log_width = model.encoder(rows).chunk(2, 1)
    draws = torch.randn(300, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    decoded = model.decoder(mean + log_width.exp() * draws)
    likelihood = Independent(Normal(decoded, math.exp(-0.3)), 1).log_prob(rows).mean()
    kl = kl_divergence(
        Independent(Normal(mean, log_width.exp()), 1),
        Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1),
    ).mean()
    assert float(parts["kl"]) == pytest.approx(float(kl))
    assert float(parts["reconstruction"]) == pytest.approx(-float(likelihood))
    assert float(parts["loss"]) == pytest.approx(float(kl - likelihood))


def probabilistic_pca(width_factor):
    """Make a linear VAE whose posterior is the exact one of its likelihood, but for a factor on the widths."""
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(6, 2)))[0] * [2.0, 0.7]
    center, sigma = rng.normal(size=6), 0.4
    gain = (basis**2).sum(0) + sigma**2  # diagonal, since the columns are orthogonal
    head = create_head("vae", latent=2, depth=0, noise=sigma, draws=2000)
    model = head.build(6, 1, torch.Generator().manual_seed(0)).double().requires_grad_(False)
    for parameter, value in (
        (model.decoder[0].weight, basis),
        (model.decoder[0].bias, center),
        (model.encoder[0].weight, np.concatenate([(basis / gain).T, np.zeros((2, 6))])),
        (
            model.encoder[0].bias,
            np.concatenate([-(basis / gain).T @ center, np.log(width_factor * sigma / np.sqrt(gain))]),
        ),
    ):
        parameter.copy_(torch.from_numpy(value))
    rows = torch.from_numpy(rng.normal(size=(50, 2)) @ basis.T + center + sigma * rng.normal(size=(50, 6)))
    covariance = torch.from_numpy(basis @ basis.T + sigma**2 * np.eye(6))
    exact = torch.distributions.MultivariateNormal(torch.from_numpy(center), covariance).log_prob(rows)
    return model, rows, exact


def test_bounds_are_tight_where_the_posterior_is_exact():
    model, rows, exact = probabilistic_pca(1.0)
    bound = -create_head("vae", which="importance-weighted").score_rows(model, rows)
    torch.testing.assert_close(bound, exact)  # every single draw has the weight p(x)
    bound = -create_head("vae", which="elbo").score_rows(model, rows)
    torch.testing.assert_close(bound, exact, rtol=0, atol=0.5)


@pytest.mark.parametrize("width_factor", [0.5, 2.0])
def test_bounds_are_below_the_density_where_it_is_not(width_factor):
    model, rows, exact = probabilistic_pca(width_factor)
    elbo, tighter = (
        -create_head("vae", which=which).score_rows(model, rows) for which in ("elbo", "importance-weighted")
    )
    gap = width_factor**2 - 1 - 2 * math.log(width_factor)  # KL(q || p(h|x)) of two factors
    assert bool((elbo < exact).all())
    assert float((exact - elbo).mean()) == pytest.approx(gap, abs=0.15)
    assert bool((elbo < tighter).all()) and float((exact - tighter).abs().max()) < 0.2


def test_a_trained_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    train = factors() / 2
    most = PCA(2).fit(train).score(train)  # the greatest mean log-likelihood of any linear model
    head = create_head("vae", latent=2, draws=4000, **LINEAR).fit(as_set(train))
    elbo = -head.score(as_set(train)).mean()
    assert most - 0.15 < elbo < most + 0.02
    assert math.exp(float(head.state["model.log_sigma"])) == pytest.approx(0.25, rel=0.1)


def test_noise_is_learnt_or_fixed():
    for options, expected in (({}, math.log(0.3)), ({"noise": 0.3}, math.log(0.3))):
        head = create_head("vae", latent=2, **options)
        model = head.build(5, 1, torch.Generator())
        assert model.log_sigma.item() == pytest.approx(expected)
        assert model.log_sigma.requires_grad == (not options)


def test_noise_rises_again_from_its_floor():
    model = create_head("vae", latent=2).build(5, 1, torch.Generator())
    with torch.no_grad():
        model.log_sigma.fill_(-20.0)
    model.log_likelihood(3 * torch.ones(4, 5), torch.zeros(4, 2)).sum().backward()
    assert model.log_sigma.item() == pytest.approx(math.log(0.01)) and model.log_sigma.grad > 0


def test_scores_depend_on_the_seed_of_the_draws_alone():
    train, test = as_set(factors(300)), factors(40, seed=1)
    options = {"latent": 2, "width": 8, "depth": 1, "epochs": 2}
    head = create_head("vae", **options).fit(train)
    whole = head.score(as_set(test))
    np.testing.assert_allclose(head.score(as_set(test[::-1]))[::-1], whole, rtol=1e-12)
    np.testing.assert_allclose([head.score(as_set(row[None]))[0] for row in test], whole, rtol=1e-12)
    assert not np.allclose(create_head("vae", **options, seed=1).fit(train).score(as_set(test)), whole)
