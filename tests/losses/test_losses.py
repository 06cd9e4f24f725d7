import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp, softmax
from torch import Tensor

from featood import losses

CLASSES, SIZE = 4, 3
LABELS = [0, 2, -1, 3, 0, -1, 3, -1]


def batch(seed=0, labels=LABELS):
    generator = torch.Generator().manual_seed(seed)
    draw = [
        torch.randn(len(labels), size, generator=generator, dtype=torch.float64) for size in (CLASSES, SIZE)
    ]
    return 2 * draw[0], 2 * draw[1], torch.tensor(labels)


def centers(seed=1):
    return torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS, FEATURES, Y = batch()
CENTERS = centers()
DISTANCES = losses.distances(FEATURES, CENTERS)
KNOWN = [row for row, label in enumerate(LABELS) if label >= 0]
OUTLIERS = [row for row, label in enumerate(LABELS) if label < 0]


def log_softmax(row):
    return row - logsumexp(row)


def close(found, expected):
    value = found["loss"] if isinstance(found, dict) else found
    np.testing.assert_allclose(
        float(value.detach()), float(torch.as_tensor(expected).detach()), rtol=1e-6, atol=1e-9
    )


# ---- against loops


def naive_cross_entropy():
    return np.mean([-log_softmax(LOGITS[row].numpy())[LABELS[row]] for row in KNOWN])


def naive_uniform():
    return np.mean([-log_softmax(LOGITS[row].numpy()).mean() for row in OUTLIERS])


def test_outlier_exposure_by_rows():
    parts = losses.outlier_exposure(LOGITS, Y, 0.3)
    close(parts["classification"], naive_cross_entropy())
    close(parts["outliers"], naive_uniform())
    close(parts, naive_cross_entropy() + 0.3 * naive_uniform())


def test_objectosphere_by_rows():
    lengths = [math.sqrt(sum(value**2 for value in row)) for row in FEATURES.tolist()]
    pull = np.mean([max(3.0 - lengths[row], 0) ** 2 for row in KNOWN]) + np.mean(
        [lengths[row] ** 2 for row in OUTLIERS]
    )
    found = losses.objectosphere(LOGITS, FEATURES, Y, weight=0.7, radius=3.0)
    close(found, naive_cross_entropy() + naive_uniform() + 0.7 * pull)


def test_background_class_by_rows():
    wide = torch.cat([LOGITS, FEATURES[:, :1]], 1)
    expected = [
        -log_softmax(wide[row].numpy())[label % 5] for row, label in enumerate(LABELS)
    ]  # the label -1 is the fifth class
    close(losses.background_class(wide, Y), np.mean(expected))


def test_mixtures_by_rows():
    seen = []

    def net(rows):
        seen.append(rows)
        return rows @ CENTERS.T

    generator = torch.Generator().manual_seed(3)
    parts = losses.mixture_outlier_exposure(net, FEATURES, Y, generator, weight=2.0)
    expected, shares = [], []
    for mixed, row in zip(seen[1].numpy(), KNOWN, strict=True):
        inside = FEATURES[row].numpy()
        found = []
        for partner in OUTLIERS:  # the mixture is on the line to one of the outliers
            outside = FEATURES[partner].numpy()
            share = (mixed - outside) @ (inside - outside) / ((inside - outside) @ (inside - outside))
            if np.allclose(share * inside + (1 - share) * outside, mixed, atol=1e-6):
                found.append(share)
        (share,) = found
        assert 0 <= share <= 1
        target = share * np.eye(CLASSES)[LABELS[row]] + (1 - share) / CLASSES
        expected.append(-(target * log_softmax(mixed @ CENTERS.numpy().T)).sum())
        shares.append(share)
    assert len(set(np.round(shares, 6))) == len(KNOWN)
    np.testing.assert_allclose(float(parts["mixtures"]), np.mean(expected), rtol=1e-6)
    close(parts, parts["classification"] + 2 * np.mean(expected))


def test_bounded_energy_by_rows():
    energy = -LOGITS.logsumexp(1)
    loss = np.mean([max(float(energy[row]) + 2.5, 0) ** 2 for row in KNOWN]) + np.mean(
        [max(-1.0 - float(energy[row]), 0) ** 2 for row in OUTLIERS]
    )
    close(losses.bounded_energy(energy, Y, -2.5, -1.0), loss)


@pytest.mark.parametrize("shift", [0.0, 5.0, -50.0])
def test_energy_bounds_are_ordered(shift):
    rng = np.random.default_rng(0)
    known, outliers = rng.normal(size=200), rng.normal(size=100) + shift
    energy = torch.tensor(np.concatenate([outliers, known]))
    labels = torch.tensor([-1] * 100 + [2] * 200)
    low, high = (float(bound) for bound in losses.energy_bounds(energy, labels))
    assert low == pytest.approx(np.quantile(known, 0.25))
    assert high == pytest.approx(max(np.quantile(known, 0.75), np.quantile(outliers, 0.75)))
    assert low < high


def test_confidence_by_rows():
    confidence, hinted = FEATURES[:, 0], torch.tensor([True, False] * 4)
    parts = losses.confidence_loss(LOGITS, confidence, Y, 0.3, hinted)
    named = []
    for row in KNOWN:
        c = expit(float(confidence[row])) if hinted[row] else 1.0
        named.append(-math.log(c * softmax(LOGITS[row].numpy())[LABELS[row]] + 1 - c))
    price = np.mean([-math.log(expit(float(confidence[row]))) for row in KNOWN])
    close(parts["classification"], np.mean(named))
    close(parts, np.mean(named) + 0.3 * price)


def test_confidence_loss_is_finite_for_certain_predictions():
    logits, confidence = torch.tensor([[1e4, 0.0]]), torch.tensor([-1e4], requires_grad=True)
    loss = losses.confidence_loss(logits, confidence, torch.tensor([1]))["loss"]
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(confidence.grad).all()


def test_logit_norm_by_rows():
    expected = [
        -log_softmax(row / np.linalg.norm(row) / 0.1)[label]
        for row, label in zip(LOGITS.numpy(), LABELS, strict=True)
        if label >= 0
    ]
    close(losses.logit_norm(LOGITS, Y, 0.1), np.mean(expected))


def test_small_distances_are_accurate():
    point = torch.full((1, 3), 1e4)
    near = point + torch.tensor([[0.0, 0.01, 0.0]])
    assert losses.distances(near, point).item() == pytest.approx(float((near - point).norm()), rel=1e-6)


def test_center_losses_by_rows():
    d = np.array([[math.dist(z, c) for c in CENTERS.tolist()] for z in FEATURES.tolist()])
    np.testing.assert_allclose(DISTANCES, d)
    own = [max(d[row, LABELS[row]] ** 2 - 1.5**2, 0) for row in KNOWN]
    close(losses.center_loss(DISTANCES, Y, 1.5), np.mean(own))
    push = [sum(max(9 - d[row, c] ** 2, 0) for c in range(CLASSES)) for row in OUTLIERS]
    close(losses.center_repulsion(DISTANCES, Y, 3.0), np.mean(push))


def test_class_anchors_by_rows():
    tuplets, own = [], []
    for row in KNOWN:
        d, y = DISTANCES[row].numpy(), LABELS[row]
        tuplets.append(math.log(1 + sum(math.exp(d[y] - d[c]) for c in range(CLASSES) if c != y)))
        own.append(d[y])
    parts = losses.class_anchors(DISTANCES, Y, 0.2)
    close(parts["tuplet"], np.mean(tuplets))
    close(parts, np.mean(tuplets) + 0.2 * np.mean(own))


def test_rejection_by_rows_and_by_its_sign():
    for row, found in zip(DISTANCES.numpy(), losses.rejection(DISTANCES).numpy(), strict=True):
        p = np.exp(-row) / np.exp(-row).sum()
        assert found == pytest.approx(min(row * (1 - p)))
    anchors = 10 * torch.eye(3)
    places = torch.stack([anchors[0], anchors.mean(0), 4 * anchors[0], torch.full((3,), -30.0)])
    at, between, beyond, away = losses.rejection(losses.distances(places, anchors)).tolist()
    assert at < between and at < beyond < away


def test_intra_inter_by_classes():
    groups = {c: FEATURES[c == Y].numpy() for c in set(LABELS) - {-1}}
    means = {c: rows.mean(0) for c, rows in groups.items()}
    spread = sum(((rows - means[c]) ** 2).sum() for c, rows in groups.items()) / len(KNOWN)
    separation = min(math.dist(means[a], means[b]) ** 2 for a in means for b in means if a < b)
    parts = losses.intra_inter(FEATURES, Y, CLASSES, 0.5)
    close(parts["spread"], spread)
    close(parts["separation"], separation)
    close(parts, spread - 0.5 * separation)
    limited = losses.intra_inter(FEATURES, Y, CLASSES, limit=math.sqrt(separation) / 2)
    close(limited["separation"], separation / 4)


def test_class_means_of_absent_classes_are_zero():
    means, count = losses.class_means(FEATURES, Y, CLASSES)
    assert count.tolist() == [2, 0, 1, 2] and means[1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(means[3], FEATURES[[3, 6]].mean(0))


def test_hyperspheres_by_rows():
    squared = ((FEATURES - CENTERS[0]) ** 2).sum(1).numpy()
    close(
        losses.hypersphere(FEATURES, CENTERS[0], Y, 1.5),
        np.mean([max(squared[row] - 2.25, 0) for row in KNOWN]),
    )
    expected = squared[KNOWN].mean() + 0.4 * np.mean(1 / (squared[OUTLIERS] + 1e-6))
    close(losses.deep_sad(FEATURES, CENTERS[0], Y, 0.4), expected)


def test_virtual_outliers_come_from_the_tails():
    factor = torch.tensor([[2.0, 0], [1.5, 0.5]])
    means = torch.tensor([[100.0, 0], [0, 100], [0, 0]])
    generator = torch.Generator().manual_seed(0)
    drawn = losses.virtual_outliers(means, factor, 300, 30_000, generator)
    classes = losses.distances(drawn, means).argmin(1)
    assert (torch.bincount(classes) > 60).all()
    lengths = torch.linalg.solve_triangular(factor, (drawn - means[classes]).T, upper=False).norm(dim=0)
    # the squared length of a normal vector in the plane is exponential with mean 2
    assert lengths.square().min() == pytest.approx(-2 * math.log(0.01), rel=0.05)


def test_energy_odds_by_rows():
    inside, outside = LOGITS[:, 0], FEATURES[:5, 0]
    expected = np.mean([-math.log(1 - expit(u)) for u in inside.tolist()]) + np.mean(
        [-math.log(expit(u)) for u in outside.tolist()]
    )
    close(losses.energy_odds(inside, outside), expected)
    weights = torch.tensor([0.5, 2, 1, 3], dtype=torch.float64)
    expected = [-math.log((np.exp(row) * weights.numpy()).sum()) for row in LOGITS.numpy()]
    np.testing.assert_allclose(losses.weighted_energy(LOGITS, weights.log()), expected)


def test_alarms_by_rows():
    odds = LOGITS[:, 0]
    close(losses.false_alarms(odds, Y), np.mean([expit(float(odds[row])) for row in KNOWN]))
    close(losses.missed_outliers(odds, Y), np.mean([1 - expit(float(odds[row])) for row in OUTLIERS]))


def test_the_multipliers_solve_a_constrained_problem():
    # minimise (x - 3)^2 subject to x <= 1 and x <= 5: x = 1, with multipliers 4 and 0
    multipliers, penalties = torch.zeros(2), torch.ones(2)

    def violations(x):
        return torch.tensor([x - 1, x - 5])

    for _ in range(40):

        def lagrangian(x, *now):
            return (x - 3) ** 2 + float(losses.augmented_lagrangian(violations(x), *now))

        x = minimize_scalar(lagrangian, bounds=(-9, 9), method="bounded", args=(multipliers, penalties)).x
        multipliers, penalties = losses.updated_multipliers(
            violations(x), multipliers, penalties, growth=1.05
        )
    assert x == pytest.approx(1, abs=1e-2)
    assert multipliers.tolist() == pytest.approx([4, 0], abs=3e-2)
    assert penalties[0] > 1 and penalties[1] == 1
    now = losses.updated_multipliers(
        torch.tensor([0.1, 0.3]), multipliers, torch.ones(2), growth=2, tolerance=0.2
    )
    assert now[1].tolist() == [1, 2]


# ---- all losses

TERMS = {
    "cross-entropy": lambda f, z, y: losses.cross_entropy(f, y),
    "uniform": lambda f, z, y: losses.uniform_cross_entropy(f, y),
    "outlier-exposure": lambda f, z, y: losses.outlier_exposure(f, y),
    "objectosphere": lambda f, z, y: losses.objectosphere(f, z, y),
    "mixtures": lambda f, z, y: losses.mixture_outlier_exposure(
        lambda rows: rows @ CENTERS.to(rows).T, z, y, torch.Generator()
    ),
    "bounded-energy": lambda f, z, y: losses.bounded_energy(-f.logsumexp(1), y, -2, -1),
    "confidence": lambda f, z, y: losses.confidence_loss(f, z[:, 0], y),
    "logit-norm": lambda f, z, y: losses.logit_norm(f, y),
    "center": lambda f, z, y: losses.center_loss(losses.distances(z, CENTERS.to(z)), y),
    "repulsion": lambda f, z, y: losses.center_repulsion(losses.distances(z, CENTERS.to(z)), y, 3.0),
    "anchors": lambda f, z, y: losses.class_anchors(losses.distances(z, CENTERS.to(z)), y),
    "intra-inter": lambda f, z, y: losses.intra_inter(z, y, CLASSES),
    "hypersphere": lambda f, z, y: losses.hypersphere(z, CENTERS[0].to(z), y),
    "deep-sad": lambda f, z, y: losses.deep_sad(z, CENTERS[0].to(z), y),
    "odds": lambda f, z, y: losses.energy_odds(f[y >= 0, 0], f[y < 0, 0]),
    "false-alarms": lambda f, z, y: losses.false_alarms(f[:, 0], y),
    "missed": lambda f, z, y: losses.missed_outliers(f[:, 0], y),
}
BLIND = {"uniform": "known", "repulsion": "known", "missed": "known"} | dict.fromkeys(
    [
        "cross-entropy",
        "confidence",
        "logit-norm",
        "center",
        "anchors",
        "intra-inter",
        "hypersphere",
        "false-alarms",
    ],
    "outliers",
)


@pytest.mark.parametrize("labels", [[0, 1, 1], [2], [-1, -1], []], ids=str)
@pytest.mark.parametrize("name", TERMS)
def test_batches_of_one_kind_have_finite_losses_and_gradients(name, labels):
    logits, features, y = batch(5, labels)
    logits.requires_grad_(True)
    features.requires_grad_(True)
    found = TERMS[name](logits, features, y.long())
    parts = found if isinstance(found, dict) else {"loss": found}
    assert all(torch.isfinite(part) and part.shape == () for part in parts.values())
    parts["loss"].backward()
    for values in (logits, features):
        assert values.grad is None or torch.isfinite(values.grad).all()
    kinds = {"outliers" if label < 0 else "known" for label in labels}
    if kinds <= {BLIND.get(name)}:
        assert parts["loss"] == 0


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"mixtures"}))
def test_repeated_rows_do_not_change_the_loss(name):
    def loss(labels_of: Tensor) -> Tensor:
        found = TERMS[name](LOGITS[labels_of], FEATURES[labels_of], Y[labels_of])
        return found["loss"] if isinstance(found, dict) else found

    once = torch.tensor(KNOWN + OUTLIERS)
    torch.testing.assert_close(loss(once), loss(torch.tensor(KNOWN + 3 * OUTLIERS)))
    torch.testing.assert_close(loss(once), loss(torch.tensor(3 * KNOWN + OUTLIERS)))
