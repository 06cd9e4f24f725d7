"""The losses of models, as the sums of terms that their papers have, row by row in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from scipy.stats import dirichlet
from torch import nn

from featood.extractors.models import ImageBatch, Setup, SplitNet, create_model

CLASSES, WIDTH = 3, 5
LABELS = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, -1, -1, -1])
"""Of eight images and three outliers."""


class Case:
    """A network with a model's parts, a batch, and what the network computes of it as arrays."""

    def __init__(self, name, outliers=False, **options):
        generator = torch.Generator().manual_seed(0)
        self.labels = LABELS if outliers else LABELS[:8]
        self.images = torch.randn(len(self.labels), 1, 3, 3, dtype=torch.float64, generator=generator)
        self.model = create_model(name, options)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            net = nn.Sequential(nn.Flatten(), nn.Linear(9, WIDTH), nn.Linear(WIDTH, CLASSES)).double()
            self.net = SplitNet(net, self.model.parts(Setup(CLASSES, WIDTH))).double()
        self.model.prepare(self.net, [ImageBatch(self.images[:8], LABELS[:8])])
        self.z = self.net.features(self.images).detach().numpy()
        self.logits = self.z @ self.array(self.net.last.weight).T + self.array(self.net.last.bias)

    def losses(self, **more):
        torch.manual_seed(0)
        found = self.model.losses(self.net, ImageBatch(self.images, self.labels, **more))
        return {name: float(value.detach()) for name, value in found.items()}

    def linear(self, name, rows):
        layer = self.net.parts[name] if isinstance(name, str) else name
        return rows @ self.array(layer.weight).T + self.array(layer.bias)

    @staticmethod
    def array(tensor):
        return tensor.detach().numpy()


def log_p(row):
    return row - math.log(sum(math.exp(value) for value in row))


def cross_entropy(logits, labels=LABELS):
    known = [(row, int(label)) for row, label in zip(logits, labels, strict=False) if label >= 0]
    return -np.mean([log_p(row)[label] for row, label in known])


def normal(values):
    """Batch normalisation of a column in training, with its initial scale and shift."""
    return (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(smoothing):
    case, others, share = Case("cross-entropy", smoothing=smoothing), LABELS[[3, 0, 1, 1, 2, 0, 2, 2]], 0.7

    def smooth(labels):
        target = (1 - smoothing) * np.eye(CLASSES)[labels] + smoothing / CLASSES
        return -np.mean([row @ log_p(logits) for row, logits in zip(target, case.logits, strict=True)])

    assert case.losses()["loss"] == pytest.approx(smooth(LABELS[:8]), rel=1e-10)
    mixed = share * smooth(LABELS[:8]) + (1 - share) * smooth(others)
    assert case.losses(others=others, share=share)["loss"] == pytest.approx(mixed, rel=1e-10)


def test_t2fnorm():
    case = Case("t2fnorm", temperature=0.2)
    unit = case.z / np.linalg.norm(case.z, axis=1, keepdims=True) / 0.2
    assert case.losses()["loss"] == pytest.approx(cross_entropy(case.linear(case.net.last, unit)), rel=1e-10)


def test_godin():
    case = Case("godin")
    g = 1 / (1 + np.exp(-normal(case.linear(case.net.parts["g"][0], case.z))))
    assert case.losses()["loss"] == pytest.approx(cross_entropy(case.logits / g), rel=1e-10)


def test_rotation():
    case = Case("rotation", weight=0.6)
    turned = 0.0
    for turn in range(4):
        pixels = np.rot90(case.array(case.images), turn, (2, 3)).copy()
        rows = case.linear("rotation", case.net.features(torch.from_numpy(pixels)).detach().numpy())
        # the direction of the turns does not matter, as long as each has a class of its own
        turned += sum(-log_p(row)[turn] for row in rows) / (4 * len(rows))
    found = case.losses()
    assert found["loss"] == pytest.approx(cross_entropy(case.logits) + 0.6 * turned, rel=1e-10)


def test_background_class():
    case = Case("background-class", outliers=True)
    wide = np.concatenate([case.logits, case.linear("background", case.z)], 1)
    labels = np.where(LABELS >= 0, LABELS, CLASSES)
    assert case.losses()["loss"] == pytest.approx(cross_entropy(wide, labels), rel=1e-10)


def test_center():
    case = Case("center", weight=0.4, radius=0.5)
    centers = case.array(case.net.parts["score"].centers)
    apart = np.mean([
        max(sum((a - b) ** 2 for a, b in zip(row, centers[label], strict=True)) - 0.25, 0)
        for row, label in zip(case.z, LABELS[:8], strict=True)
    ])  # fmt: skip
    assert case.losses()["loss"] == pytest.approx(cross_entropy(case.logits) + 0.4 * apart, rel=1e-10)


def test_mchad():
    case = Case("mchad", outliers=True, latent=2, center_weight=0.5, weight=0.1, margin=1.5)
    part = case.net.parts["score"]
    rows, centers = case.linear(part.embed, case.z), case.array(part.centers)
    squared = ((rows[:, None] - centers) ** 2).sum(2)
    near = np.mean([sum(max(1.5**2 - value, 0) for value in row) for row in squared[8:]])
    own = np.mean([squared[row, LABELS[row]] for row in range(8)])
    expected = 0.5 * own + cross_entropy(-squared) + 0.1 * near
    assert case.losses()["loss"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("done", [0.0, 0.6])
def test_energy_finetune(done):
    case = Case("energy-finetune", outliers=True, m_in=-1.5, m_out=-0.5, weight=0.3)
    energy = [-math.log(sum(math.exp(value) for value in row)) for row in case.logits]
    bounds = np.mean([max(e + 1.5, 0) ** 2 for e in energy[:8]])
    bounds += np.mean([max(-0.5 - e, 0) ** 2 for e in energy[8:]])
    found = case.losses(step=int(10 * done), steps=10)["loss"]
    assert found == pytest.approx(cross_entropy(case.logits) + (done >= 0.5) * 0.3 * bounds, rel=1e-10)


@pytest.mark.parametrize("name", ["supcon", "cider", "reweight-ood"])
def test_the_linear_classifier_beside_embeddings(name):
    case = Case(name)
    found = case.losses()
    named = cross_entropy(case.logits)
    assert found["classification"] == pytest.approx(named, rel=1e-10)
    contrast = found["contrast"] if "contrast" in found else 2 * found["compactness"] + found["dispersion"]
    assert found["loss"] == pytest.approx(contrast + named, rel=1e-10)


@pytest.mark.parametrize("budget", [0.0, 5.0])
def test_the_price_of_hints_follows_the_budget(budget):
    case = Case("confidence-branch", weight=0.2, budget=budget)
    found = case.losses()
    price = np.mean(np.log1p(np.exp(-case.linear("confidence", case.z))))
    assert found["price"] == pytest.approx(price, rel=1e-10)
    assert found["loss"] == pytest.approx(found["classification"] + 0.2 * price, rel=1e-6)
    changed = 0.2 / (0.99 if price > budget else 1.01)
    assert float(case.net.parts["price"].value) == pytest.approx(changed, rel=1e-6)


@pytest.mark.parametrize("name", ["natpn", "postnet"])
def test_the_bayesian_loss_of_evidence(name):
    case = Case(name, latent=2, entropy_weight=0.1)
    evidence = case.net.parts["evidence"]
    with torch.no_grad():
        logits = case.array(evidence(torch.from_numpy(case.z)))
        if name == "natpn":
            latents = evidence.network.latents(torch.from_numpy(case.z))
            density = case.array(evidence.network.flow.log_density(latents)).reshape(-1)
            shares = case.linear(evidence.network.classifier, case.array(latents))
            budget = math.log(4 * math.pi)  # of two dimensions
            by_hand = [(p + budget + log_p(row)).tolist() for p, row in zip(density, shares, strict=True)]
            np.testing.assert_allclose(logits, by_hand, rtol=1e-9)
    terms = []
    for row, label in zip(logits, LABELS[:8], strict=True):
        alpha = 1 + np.exp(row)
        terms.append(digamma(alpha.sum()) - digamma(alpha[label]) - 0.1 * dirichlet.entropy(alpha))
    assert case.losses(step=5, steps=10)["loss"] == pytest.approx(np.mean(terms), rel=1e-6)


def test_vos_adds_the_odds_of_outliers_around_the_classes():
    case = Case("vos", weight=0.3, pretraining=0.5, queue=2, draws=20)
    named = cross_entropy(case.logits)
    found = case.losses(step=1, steps=10)
    assert found["loss"] == pytest.approx(named, rel=1e-10) and found["odds"] == 0
    found = case.losses(step=6, steps=10)
    assert found["classification"] == pytest.approx(named, rel=1e-10)
    # the queues have the last two images of each class, and the outliers' odds are those of the odds module
    odds = case.net.parts["odds"](torch.from_numpy(case.logits)).detach().numpy()
    inside = np.mean([math.log1p(math.exp(value)) for value in odds])
    assert found["odds"] > inside > 0
    assert found["loss"] == pytest.approx(named + 0.3 * found["odds"], rel=1e-10)


def test_npos_adds_compactness_dispersion_and_odds():
    options = {"queue": 2, "neighbor": 1, "boundary": 2, "seeds": 1, "samples": 6, "kept": 2}
    case = Case("npos", compactness=0.7, dispersion=0.2, weight=0.3, pretraining=0.5, **options)
    named = cross_entropy(case.logits)
    for step, begun in ((1, False), (6, True)):
        found = case.losses(step=step, steps=10)
        assert found["classification"] == pytest.approx(named, rel=1e-10)
        total = 0.7 * found["compactness"] + 0.2 * found["dispersion"] + 0.3 * found["odds"] + named
        assert found["loss"] == pytest.approx(total, rel=1e-10)
        assert (found["odds"] > 0) is begun


def test_scone_adds_the_lagrangian_of_its_constraints():
    case = Case("scone", outliers=True, weight=0.8, margin=0.5, alarms=0.1, tolerance=0.5, pretraining=0.5)
    named = cross_entropy(case.logits)
    assert case.losses(step=1, steps=10)["loss"] == pytest.approx(named, rel=1e-10)
    part = case.net.parts["constraints"]
    part.multipliers.copy_(torch.tensor([0.3, 0.2]))
    part.penalties.copy_(torch.tensor([1.0, 2.0]))
    energy = np.array([-math.log(sum(math.exp(value) for value in row)) for row in case.logits])
    odds = math.exp(float(part.slope.detach())) * (energy - float(part.middle.detach()))
    missed = np.mean([1 / (1 + math.exp(value)) for value in odds[8:]])
    shifted = odds[:8] + math.exp(float(part.slope.detach())) * 0.5
    flagged = np.mean([1 / (1 + math.exp(-value)) for value in shifted])
    expected = 0.8 * missed
    for c, m, b in ((flagged - 0.1, 0.3, 1.0), (named - 0.5 * float(part.reference), 0.2, 2.0)):
        expected += c * m + b * c * c / 2 if b * c + m >= 0 else -(m**2) / (2 * b)
    assert case.losses(step=6, steps=10)["loss"] == pytest.approx(expected, rel=1e-6)
