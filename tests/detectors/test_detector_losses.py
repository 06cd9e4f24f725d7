"""Losses with outliers as modules, by naive loops in float64, and their gradients."""

import math

import pytest
import torch
from torch import nn

import featood.detectors as d
from featood.errors import DataError, UsageError

GENERATOR = torch.Generator().manual_seed(2)
LOGITS = torch.randn(12, 4, generator=GENERATOR, dtype=torch.float64)
Y = torch.arange(12) % 5 - 1


def own(row, label):
    return math.log(sum(math.exp(v) for v in row)) - row[label]


def test_outlier_exposure_is_that_of_a_loop():
    total = 0.0
    for row, label in zip(LOGITS.tolist(), Y.tolist(), strict=True):
        total += own(row, label) if label >= 0 else 0.3 * sum(own(row, c) for c in range(4)) / 4
    assert float(d.OutlierExposureLoss(0.3)(LOGITS, Y)) == pytest.approx(total / 12)


def test_energy_regularisation_is_that_of_a_loop():
    parts = {"own": [], "in": [], "out": []}
    for row, label in zip(LOGITS.tolist(), Y.tolist(), strict=True):
        energy = -math.log(sum(math.exp(v) for v in row))
        if label >= 0:
            parts["own"].append(own(row, label))
            parts["in"].append(max(energy + 2.0, 0) ** 2)
        else:
            parts["out"].append(max(-1.0 - energy, 0) ** 2)
    means = {name: sum(values) / len(values) for name, values in parts.items()}
    expected = means["own"] + 0.1 * (means["in"] + means["out"])
    assert float(d.EnergyRegularizedLoss(0.1, -2.0, -1.0)(LOGITS, Y)) == pytest.approx(expected)


def test_class_anchors_compare_with_all_other_classes():
    distances, known = LOGITS.square(), Y[Y >= 0]
    expected = 0.0
    for row, label in zip(distances[Y >= 0].tolist(), known.tolist(), strict=True):
        others = [math.exp(row[label] - row[c]) for c in range(4) if c != label]
        expected += math.log(1 + sum(others)) + 0.5 * row[label]
    found = d.CACLoss(4, alpha=0.5)(distances, Y)
    assert float(found) == pytest.approx(expected / len(known))
    scores = d.CACLoss.score(torch.tensor([[0.1, 9.0, 9.0], [8.0, 9.0, 9.0]]))
    assert scores[0] < scores[1]


def test_virtual_outliers_are_drawn_once_the_queues_are_full():
    torch.manual_seed(0)
    last = nn.Linear(6, 3)
    loss = d.VirtualOutlierSynthesizingRegLoss(
        nn.Linear(1, 2), nn.Linear(3, 1), last, alpha=10.0, sample_number=4, sample_from=50
    )
    features, y = torch.randn(12, 6), torch.arange(12) % 4 - 1
    logits = last(features)
    first = loss(logits, features, y)
    assert torch.equal(first, d.cross_entropy(logits, y))
    loss(logits, features, y)
    assert loss.filled.tolist() == [6, 6, 6]
    assert torch.equal(loss.queues[1], torch.cat([features[y == 1], features[y == 1]])[-4:])
    outliers = loss._draw()
    assert outliers.shape == (3, 6)
    spread = (outliers - loss.queues.mean(1)).norm(dim=1)
    assert bool((spread > (loss.queues - loss.queues.mean(1, keepdim=True)).norm(dim=2).mean(1)).all())
    assert bool(loss(logits, features, y) > first)


def test_arguments_of_earlier_versions_are_those_of_the_layer():
    parts, last = (nn.Linear(1, 2), nn.Linear(3, 1)), nn.Linear(6, 3)
    loss = d.VirtualOutlierSynthesizingRegLoss(
        *parts, fc=last, device="cpu", num_classes=3, num_input_last_layer=6
    )
    assert loss.queues.shape == (3, 1000, 6)
    with pytest.warns(UserWarning, match="are those of fc"):
        assert d.VirtualOutlierSynthesizingRegLoss(*parts, fc=last, num_classes=10).filled.shape == (3,)


def test_running_centres_are_means_of_batches():
    centers = d.RunningCenters(3, 2)
    for values, y in (([[1.0, 1.0], [3.0, 3.0], [9.0, 9.0]], [0, 0, -1]), ([[5.0, 5.0], [7.0, 7.0]], [0, 1])):
        centers.update(torch.tensor(values), torch.tensor(y))
    assert centers.centers.tolist() == [[3.5, 3.5], [7.0, 7.0], [0.0, 0.0]]
    assert centers(torch.zeros(1, 2)).tolist() == [[24.5, 98.0, 0.0]]


@pytest.mark.parametrize(
    "loss",
    [
        d.CrossEntropyLoss(), d.OutlierExposureLoss(), d.EntropicOpenSetLoss(), d.EnergyRegularizedLoss(),
        d.LogitNorm(), d.VOSRegLoss(nn.Linear(1, 2).double(), nn.Linear(4, 1).double()),
    ],
    ids=lambda loss: type(loss).__name__,
)  # fmt: skip
@pytest.mark.parametrize("y", [Y, Y.clamp(min=0), -torch.ones_like(Y)], ids=["both", "known", "outliers"])
def test_gradients_are_finite_with_any_kind_of_rows(loss, y):
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, y)
    value.backward()
    assert value.ndim == 0 and bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "LogitNorm", "ConfidenceLoss", "CACLoss", "CenterLoss", "IILoss",
                                  "DeepSVDDLoss", "VirtualOutlierSynthesizingRegLoss"])  # fmt: skip
def test_losses_of_known_rows_are_those_without_outliers_and_zero_without_known_rows(name):
    make = {
        "CACLoss": lambda: d.CACLoss(4),
        "CenterLoss": lambda: d.CenterLoss(4, 5),
        "IILoss": lambda: d.IILoss(4, 4),
        "DeepSVDDLoss": lambda: d.DeepSVDDLoss(4),
        "VirtualOutlierSynthesizingRegLoss": lambda: d.VirtualOutlierSynthesizingRegLoss(
            nn.Linear(1, 2), nn.Linear(4, 1), nn.Linear(4, 4), sample_number=3
        ),
    }.get(name, getattr(d, name))
    torch.manual_seed(0)
    loss, known = make(), Y >= 0
    values = LOGITS.square().float() if "C" in name[:2] else LOGITS.float()
    extra = {"ConfidenceLoss": torch.rand(12, 1), "VirtualOutlierSynthesizingRegLoss": values}
    inputs = [
        values.clone().requires_grad_(),
        *([extra[name].clone().requires_grad_()] if name in extra else []),
    ]
    expected = loss(*(part[known] for part in inputs), Y[known])
    assert torch.allclose(loss(*inputs, Y), expected, rtol=1e-5)
    nothing = loss(*inputs, -torch.ones_like(Y))
    nothing.backward()
    assert nothing == 0 and not inputs[0].grad.any()


def test_the_centre_of_a_class_has_a_gradient_of_zero():
    loss = d.CenterLoss(3, 3)
    z = loss.centers.params.detach().clone().requires_grad_()
    loss(loss.distance(z), torch.arange(3)).backward()
    assert torch.allclose(z.grad, torch.zeros(3, 3), atol=1e-6)


def test_negative_weights_of_the_energy_count_as_zero_and_keep_finite_gradients():
    weights, regression = nn.Linear(4, 1).double(), nn.Linear(1, 2).double()
    for values in ([1.0, -2.0, 0.5, -1.0], [-1.0, -1.0, -1.0, -1.0]):
        weights.weight.data = torch.tensor([values], dtype=torch.float64)
        loss = d.VOSRegLoss(regression, weights)(LOGITS, Y)
        loss.backward()
        assert bool(torch.isfinite(loss)) and bool(torch.isfinite(weights.weight.grad).all())
        assert weights.weight.grad[0, 1] == weights.weight.grad[0, 3] == 0
        weights.weight.grad = None


def test_centres_are_learned():
    torch.manual_seed(0)
    for loss in (d.CenterLoss(3, 5), d.MCHADLoss(3, 5)):
        z = torch.randn(9, 5, requires_grad=True)
        loss(loss.distance(z), torch.arange(9) % 4 - 1).backward()
        assert bool(torch.isfinite(z.grad).all()) and float(loss.centers.params.grad.abs().sum()) > 0


def test_wrong_inputs_are_explained():
    with pytest.raises(UsageError, match="do not fit"):
        d.CrossEntropyLoss()(LOGITS, Y[:5])
    with pytest.raises(UsageError, match="below 2"):
        d.BackgroundClassLoss(2)(LOGITS, Y)
    with pytest.raises(UsageError, match="mean, sum or none"):
        d.OutlierExposureLoss(reduction="max")(LOGITS, Y)
    with pytest.raises(DataError, match="known rows and outliers"):
        d.EnergyMarginLoss(0.1)(LOGITS, Y.clamp(min=0), nn.Linear(1, 1))
    with pytest.raises(UsageError, match="2 dimensions"):
        d.ClassCenters(3, 2)(LOGITS)
