"""Variational autoencoders of images and their likelihood regret, against loops and integrals."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import logistic, norm
from torch import nn

from featood.cache import FeatureCache
from featood.errors import UsageError
from featood.extractors.extras import Setting, extras_from_json, extras_to_json
from featood.extractors.models import ImageBatch, Setup, create_model
from featood.extractors.models.network import TrainableNet
from featood.extractors.regret import Regret, likelihood_regret
from featood.extractors.trainer import Architecture, TrainOptions
from featood.extractors.variational import FIRST_SCALE, ImageVAE
from featood.heads import create_head
from featood.pipeline.train_plan import TrainPlan
from featood.pipeline.training import train_extractor

MEAN, STD = (0.4, 0.6), (0.3, 0.5)


def vae(latent=1, draws=5):
    """A linear encoder and decoder of images of 2 x 2 pixels and two channels, in float64."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(8, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, 16), nn.Unflatten(1, (4, 2, 2)))
    return (
        ImageVAE(encoder, decoder, torch.randn(draws, latent), MEAN, STD)
        .double()
        .eval()
        .requires_grad_(False)
    )


def images(rows=6, seed=1):
    levels = torch.randint(256, (rows, 2, 2, 2), generator=torch.Generator().manual_seed(seed)).double()
    levels[0, 0, 0] = torch.tensor([0.0, 255.0])
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    return levels.numpy(), (levels / 255 - mean) / std


def naive_likelihood(net, levels, latent):
    """Sum over values of log p(x|h) by differences of SciPy's distribution function."""
    outputs = net.decoder(torch.as_tensor(latent)[None])[0].numpy()
    total = 0.0
    for channel, row, column in np.ndindex(2, 2, 2):
        value = levels[channel, row, column]
        center, scale = (
            outputs[channel, row, column],
            math.exp(outputs[2 + channel, row, column] + FIRST_SCALE),
        )
        above = math.inf if value == 255 else (2 * (value + 0.5) / 255 - 1 - center) / scale
        below = -math.inf if value == 0 else (2 * (value - 0.5) / 255 - 1 - center) / scale
        # the distribution is symmetric: this way neither tail is a difference of numbers near 1
        flip = -1 if below > 0 else 1
        probability = abs(logistic.cdf(flip * above) - logistic.cdf(flip * below))
        total += math.log(probability) if probability else -math.inf
    return total


def naive_bound(net, levels, mean, width, draws):
    kl = sum(0.5 * (m * m + s * s - 1 - 2 * math.log(s)) for m, s in zip(mean, width, strict=True))
    return np.mean([naive_likelihood(net, levels, mean + width * draw) for draw in draws]) - kl


def test_the_output_is_the_evidence_bound_of_the_pixels():
    net, (levels, inputs) = vae(latent=2), images()
    codes = net.encoder(inputs).numpy()
    expected = [
        naive_bound(net, image, code[:2], np.exp(code[2:]), net.draws.numpy())
        for image, code in zip(levels, codes, strict=True)
    ]
    found = net(inputs)
    assert found.shape == (6, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    for row in range(6):  # no image depends on others
        torch.testing.assert_close(net(inputs[row : row + 1])[0], found[row])


def test_the_bound_is_below_the_probability():
    net, (levels, inputs) = vae(draws=400), images()
    grid = np.linspace(-8, 8, 4001)
    for image, bound in zip(levels, net(inputs)[:, 0], strict=True):
        weights = [naive_likelihood(net, image, np.array([h])) + norm.logpdf(h) for h in grid[::20]]
        exact = np.logaddexp.reduce(weights) + math.log(grid[20] - grid[0])
        assert float(bound) < exact + 0.02


def test_losses_and_errors_of_a_batch():
    model = create_model("vae", {"latent": 2, "beta": 3.0})
    net = TrainableNet(vae(latent=2))
    levels, inputs = images()
    batch = ImageBatch(inputs, torch.zeros(6))
    np.testing.assert_allclose(model.errors(net, batch), -net(batch.images)[:, 0] / (8 * math.log(2)))
    torch.manual_seed(3)
    parts = model.losses(net, batch)
    torch.manual_seed(3)
    draws, codes = torch.randn(6, 2, dtype=torch.float64).numpy(), net.body.encoder(batch.images).numpy()
    kl = reconstruction = 0.0
    for image, code, draw in zip(levels, codes, draws, strict=True):
        mean, width = code[:2], np.exp(code[2:])
        both = naive_likelihood(net.body, image, mean + width * draw)
        reconstruction -= both / 48
        kl += (both - naive_bound(net.body, image, mean, width, [draw])) / 48
    expected = {"loss": reconstruction + 3 * kl, "reconstruction": reconstruction, "kl": kl}
    assert {name: float(value) for name, value in parts.items()} == pytest.approx(expected)


def best_bound(net, image, code):
    """The greatest bound of an image over all posteriors, by SciPy."""

    def negative(values):
        mean, log_width = torch.from_numpy(values).reshape(2, 1, 1)
        return -float(net.evidence_bound(image[None], mean, log_width, net.draws))

    return -minimize(negative, code, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3}).fun


def test_the_regret_is_the_rise_to_the_best_posterior():
    net, (_, inputs) = vae(draws=6), images(2)
    codes = net.encoder(inputs).numpy()
    before = net(inputs)[:, 0].numpy()
    best = np.array([best_bound(net, image, code) for image, code in zip(inputs, codes, strict=True)])
    found = likelihood_regret(net, inputs, 150, 0.1).numpy()
    assert (found > 1).all() and (found < best - before).all()
    np.testing.assert_allclose(found, best - before, rtol=0.02)
    alone = likelihood_regret(net, inputs[1:], 150, 0.1)
    np.testing.assert_allclose(found[1:], alone, rtol=1e-6)
    few = likelihood_regret(net, inputs, 1, 1e-6)
    np.testing.assert_allclose(few, 0, atol=1e-2)


def test_options_of_the_regret():
    assert extras_from_json(extras_to_json([Regret(7, 0.1)])) == (Regret(7, 0.1),)
    for options in ((0, 0.1), (5, 0.0), (5, math.nan), (5, math.inf)):
        with pytest.raises(UsageError, match="regret needs a step and a positive learning rate"):
            Regret(*options)
    with pytest.raises(UsageError, match="the column regret needs a network trained by featood train vae"):
        Regret()(nn.Identity(), images()[1], 0, Setting())


def test_commands_of_a_vae(featood, tmp_path, toy_images):
    plan = TrainPlan(model="vae", dataset="toy", architecture=Architecture("conv4-8"), image_size=20, limit=30,
                     out=tmp_path / "net", options={"latent": 3, "draws": 1})  # fmt: skip
    train_extractor(plan, TrainOptions(epochs=1, batch_size=15, optimizer="adam", lr=1e-3))
    words = ("extract", "--backbone", tmp_path / "net", "--dataset", "odd", "--split", "test")
    code, out, err = featood(*words, "--cache", tmp_path / "c", "--with", "regret", "--regret-steps", "2")
    assert code == 0, err
    for column in ("evidence-bound 1", "penultimate 3", "gradient-norm 1", "regret 1"):
        assert column in out
    rows = FeatureCache(tmp_path / "c")["net/odd/test"]
    assert rows.origin.recipe["extras"]["regret"] == {"steps": 2, "lr": 0.05}
    for name, options in (("likelihood", {}), ("column", {"feature": "regret"})):
        assert np.isfinite(create_head(name, **options).score(rows)).all()
    code, _, err = featood("train", "vae", "--dataset", "toy", "--arch", "conv4-8", "--image-size", "18", "--out",
                           tmp_path / "no")  # fmt: skip
    assert code == 2 and "the decoder conv makes square images" in err
    small = nn.Sequential(nn.Flatten(), nn.Linear(9, 200))
    with pytest.raises(UsageError, match="the network cannot take images of 20 x 20 pixels"):
        create_model("vae").around(small, Setup(1, 0, (1, 20, 20)))
