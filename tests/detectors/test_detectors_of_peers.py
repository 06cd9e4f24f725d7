"""Scores, losses and metrics compared with those of pytorch-ood, where it is installed."""

import copy
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import featood.detectors as ours
from featood.speed.pytorch_ood import detectors as peer_detectors

theirs = peer_detectors()
if theirs is None:
    pytest.skip("pytorch-ood is not installed", allow_module_level=True)

import pytorch_ood.loss as their_losses  # noqa: E402
import pytorch_ood.metrics as their_metrics  # noqa: E402

SEED = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, generator=SEED)


def parameters(module):
    for value in module.parameters():
        value.data = normal(*value.shape)
    return module.eval()


ENCODER = parameters(nn.Sequential(nn.Linear(8, 6), nn.Tanh()))
LAST = parameters(nn.Linear(6, 3))
MODEL = nn.Sequential(ENCODER, LAST)
MAPS = parameters(nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Softplus()))
HEAD = parameters(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)))
LAYERS = [MAPS, parameters(nn.Conv2d(6, 4, 3))]
W, B = LAST.weight.detach(), LAST.bias.detach()

ROWS, IMAGES = normal(300, 8), normal(120, 1, 6, 6)


def loader(x):
    with torch.no_grad():  # labels that OpenMax and SHE accept: most rows are classified correctly
        y = MODEL(x).argmax(1) if x.ndim == 2 else torch.arange(len(x)) % 3
    return list(zip(x.split(50), y.split(50), strict=True))


ROW_CASES = {
    "MaxSoftmax": lambda d: d.MaxSoftmax(MODEL, 2.0),
    "MaxLogit": lambda d: d.MaxLogit(MODEL),
    "EnergyBased": lambda d: d.EnergyBased(MODEL, t=3.0),
    "Entropy": lambda d: d.Entropy(MODEL),
    "KLMatching": lambda d: d.KLMatching(MODEL),
    "WeightedEBO": lambda d: d.WeightedEBO(MODEL, torch.tensor([0.5, 1.0, 2.0])),
    "KNN": lambda d: d.KNN(ENCODER, k=7),
    "KNN, raw": lambda d: d.KNN(ENCODER, 7, normalize=False),
    "SHE": lambda d: d.SHE(ENCODER, LAST),
    "NNGuide": lambda d: d.NNGuide(ENCODER, LAST, k=5),
    "fDBD": lambda d: d.fDBD(ENCODER, LAST),
    "NCI": lambda d: d.NCI(ENCODER, LAST, alpha=0.1),
    "PNML": lambda d: d.PNML(ENCODER, LAST),
    "MCM": lambda d: d.MCM(ENCODER, W, 0.5),
    "ViM": lambda d: d.ViM(ENCODER, 3, W, B),
    "DICE": lambda d: d.DICE(ENCODER, W, B, 0.4),
    "DICE, max logit": lambda d: d.DICE(ENCODER, W, B, 0.4, lambda logits: -logits.amax(1)),
    "ODIN": lambda d: d.ODIN(MODEL, eps=0.1, temperature=10.0, norm_std=[1.0, 2.0] * 4),
    "GradNorm": lambda d: d.GradNorm(MODEL, lambda name: name.startswith("1."), temperature=2.0),
    "GradNorm, all": lambda d: d.GradNorm(MODEL, micro_batch_size=16),
    "GradUncertainty": lambda d: d.GradUncertainty(MODEL),
}
IMAGE_CASES = {
    **{name: lambda d, name=name: d.ASH(MAPS, HEAD, name, 0.3) for name in ("ash-s", "ash-p", "ash-b")},
    "SCALE": lambda d: d.SCALE(MAPS, HEAD, 0.7),
    "ReAct": lambda d: d.ReAct(MAPS, HEAD, percentile=0.8),
    "ReAct, threshold": lambda d: d.ReAct(MAPS, HEAD, 0.5),
    "RankFeat": lambda d: d.RankFeat(MAPS, HEAD),
    "SCALE, max logit": lambda d: d.SCALE(MAPS, HEAD, 0.7, lambda logits: -logits.amax(1)),
}


def scored(make, x, test):
    pair = make(ours), make(theirs)
    for detector in pair:
        detector.fit(loader(x))
    return [detector(test).detach().double() for detector in pair]


@pytest.mark.parametrize("name", [*ROW_CASES, *IMAGE_CASES])
def test_scores_are_those_of_pytorch_ood(name):
    if name in ROW_CASES:
        found, expected = scored(ROW_CASES[name], ROWS, 2 * normal(40, 8))
    else:
        found, expected = scored(IMAGE_CASES[name], IMAGES, 2 * normal(40, 1, 6, 6))
    assert torch.allclose(found, expected, rtol=2e-3, atol=2e-5), (found - expected).abs().max()


@pytest.mark.parametrize(
    "make",
    [
        lambda d: d.GEN(MODEL, gamma=0.3, M=2),
        lambda d: d.Mahalanobis(ENCODER),
        lambda d: d.MahalanobisODIN(ENCODER, 0.01),
        lambda d: d.RMD(ENCODER),
    ],
    ids=["GEN", "Mahalanobis", "MahalanobisODIN", "RMD"],
)
def test_scores_on_another_scale_have_the_same_order(make):
    found, expected = scored(make, ROWS, 2 * normal(40, 8))
    assert spearmanr(found, expected)[0] > 0.9999


def test_multi_mahalanobis_has_the_same_order():
    found, expected = scored(
        lambda d: d.MultiMahalanobis(LAYERS, [1.0, 2.0]), IMAGES, 2 * normal(40, 1, 6, 6)
    )
    assert spearmanr(found, expected)[0] > 0.9999


LOGITS, FEATURES, TARGETS = normal(40, 4), normal(40, 5), torch.arange(40) % 5 - 1
GRID, GRID_TARGETS = LOGITS.view(10, 4, 2, 2), TARGETS.view(10, 2, 2)
REGRESSION, WEIGHTS, ALARM = map(parameters, (nn.Linear(1, 2), nn.Linear(4, 1), nn.Linear(1, 1)))
WEIGHTS.weight.data[0, :2] = torch.tensor([0.5, -0.5])
DISTANCES = normal(40, 4).square()
REDUCIBLE = {
    "CrossEntropyLoss": lambda c, r: c(r),
    "OutlierExposureLoss": lambda c, r: c(0.3, r),
    "EntropicOpenSetLoss": lambda c, r: c(r),
    "EnergyRegularizedLoss": lambda c, r: c(0.5, -3.0, -1.0, r),
}
LOSSES = {
    "ObjectosphereLoss": (lambda c: c(0.5, 2.0), (LOGITS, FEATURES, TARGETS)),
    "BackgroundClassLoss": (lambda c: c(3), (LOGITS, TARGETS.clamp(max=2))),
    "LogitNorm": (lambda c: c(0.1), (LOGITS, TARGETS)),
    "ConfidenceLoss": (lambda c: c(0.3), (LOGITS, torch.rand(40, 1, generator=SEED), TARGETS)),
    "DeepSVDDLoss": (lambda c: c(5, radius=1.0), (FEATURES, TARGETS)),
    "DeepSADLoss": (lambda c: c(5, 2.0), (FEATURES, TARGETS)),
    "CenterLoss": (lambda c: c(4, 5, radius=0.5), (DISTANCES, TARGETS)),
    "MCHADLoss": (
        lambda c: c(4, 5, radius=0.2, margin=1.5, weight_center=0.3, weight_oe=0.2),
        (DISTANCES, TARGETS),
    ),
    "IILoss": (lambda c: c(4, 5, 0.7), (FEATURES, TARGETS)),
    "VOSRegLoss": (lambda c: c(REGRESSION, WEIGHTS, 0.5), (LOGITS, TARGETS)),
    "EnergyMarginLoss": (lambda c: c(0.3), (LOGITS, TARGETS, ALARM)),
}


@pytest.mark.filterwarnings("ignore:Discarding")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", REDUCIBLE)
def test_losses_of_rows_and_pixels_are_those_of_pytorch_ood(name, reduction):
    found, expected = (REDUCIBLE[name](getattr(m, name), reduction) for m in (ours, their_losses))
    for inputs in ((LOGITS, TARGETS), (GRID, GRID_TARGETS), (LOGITS, -torch.ones_like(TARGETS))):
        assert torch.allclose(found(*inputs), expected(*inputs), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Discarding")
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_pytorch_ood(name):
    make, inputs = LOSSES[name]
    values = []
    for module in (ours, their_losses):
        torch.manual_seed(0)
        values.append(make(getattr(module, name))(*inputs))
    assert torch.allclose(*values, rtol=1e-5)


def test_multipliers_of_the_energy_margin_are_those_of_pytorch_ood():
    found, expected = ours.EnergyMarginLoss(0.1), their_losses.EnergyMarginLoss(0.1)
    batches = [(ROWS[:100], torch.arange(100) % 3), (ROWS[100:200], torch.arange(100) % 3)]
    for _ in range(2):
        for loss in (found, expected):
            loss.update_hyperparameters(MODEL, batches, ALARM)
    assert torch.allclose(found.multipliers, torch.stack([expected.lam, expected.lam2]))
    weights = torch.stack([expected.in_constraint_weight, expected.ce_constraint_weight])
    assert torch.allclose(found.penalties, weights)


def test_metrics_are_those_of_pytorch_ood():
    scores = normal(200).mul(4).round()
    labels = torch.arange(200) % 4 - 1
    scores[labels < 0] += 2
    predictions = (torch.arange(200) * 7) % 3
    found, expected = ours.OODMetrics(void_label=2), their_metrics.OODMetrics(void_label=2)
    for part in range(0, 200, 30):
        rows = slice(part, part + 30)
        for metrics in (found, expected):
            metrics.update(scores[rows], labels[rows], predictions[rows])
    assert found.compute() == pytest.approx(expected.compute(), rel=1e-12)
    found, expected = ours.OODPerImageSegmentationMetrics(), their_metrics.OODPerImageSegmentationMetrics()
    images, masks = scores.view(5, 8, 5), labels.view(5, 8, 5).clone()
    masks[0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [metrics.update(images, masks).compute() for metrics in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_functions_of_metrics_are_those_of_pytorch_ood():
    confidence = torch.rand(1050, generator=SEED)
    correct = torch.rand(1050, generator=SEED) < confidence
    for p in ("1", "2", "max"):
        assert ours.calibration_error(confidence, correct, p) == pytest.approx(
            their_metrics.calibration_error(confidence, correct, p), rel=1e-12
        )
    assert ours.aurra(confidence, correct) == pytest.approx(their_metrics.aurra(confidence, correct))
    assert ours.calc_openness(6, 10, 6) == their_metrics.calc_openness(6, 10, 6)
    labels, predictions = torch.arange(1050) % 4 - 1, torch.arange(1050) % 3
    inputs = confidence, predictions, labels
    assert ours.oscr_score(*inputs) == pytest.approx(their_metrics.oscr_score(*inputs), rel=1e-9)


def test_networks_compute_what_those_of_pytorch_ood_compute():
    from pytorch_ood.model import ClassCenters, WideResNet

    images = normal(2, 3, 32, 32)
    found, expected = (make(num_classes=5, depth=10).eval() for make in (ours.WideResNet, WideResNet))
    found.load_state_dict(copy.deepcopy(expected.state_dict()))
    for name in ("forward", "features", "feature_maps"):
        assert torch.allclose(getattr(found, name)(images), getattr(expected, name)(images), atol=1e-5)
    assert torch.equal(found.forward_feature_maps(found.feature_maps(images)), found(images))
    centers, others = ours.ClassCenters(4, 5), ClassCenters(4, 5)
    centers.params.data = others.params.data
    assert np.allclose(centers(FEATURES).detach(), others(FEATURES).detach(), rtol=1e-4)
    assert np.allclose(centers.predict(FEATURES).detach(), others.predict(FEATURES).detach(), rtol=1e-4)
