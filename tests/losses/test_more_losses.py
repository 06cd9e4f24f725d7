"""Losses on similarities, discrepancies and random temperatures against loops in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.special import entr, logsumexp, softmax

from featood import losses

CLASSES, SIZE = 4, 5
LABELS = [0, 2, 0, 1, 2, 0, 3]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(values):
    return values / values.norm(dim=1, keepdim=True)


Z, Y = unit(draw(len(LABELS), SIZE)), torch.tensor(LABELS)
P = unit(draw(CLASSES, SIZE, seed=1))


def close(found, expected, **how):
    np.testing.assert_allclose(torch.as_tensor(found).detach().numpy(), expected, rtol=1e-9, **how)


def test_supervised_contrastive_by_rows():
    rows = []
    for i, label in enumerate(LABELS):
        others = [k for k in range(len(LABELS)) if k != i]
        total = logsumexp([float(Z[i] @ Z[k]) / 0.2 for k in others])
        same = [total - float(Z[i] @ Z[k]) / 0.2 for k in others if LABELS[k] == label]
        if same:
            rows.append(np.mean(same))
    assert len(rows) == 5
    close(losses.supervised_contrastive(Z, Y, 0.2), 0.2 / 0.07 * np.mean(rows))


def test_supervised_contrastive_without_a_pair_is_zero():
    close(losses.supervised_contrastive(Z[:2], Y[:2]), 0)


def test_compactness_and_dispersion_by_rows():
    near = [logsumexp((P @ Z[i]).numpy() / 0.3) - float(P[y] @ Z[i]) / 0.3 for i, y in enumerate(LABELS)]
    close(losses.prototype_compactness(Z, P, Y, 0.3), 0.3 / 0.07 * np.mean(near))
    apart = [
        math.log(np.mean([math.exp(float(P[c] @ P[k]) / 0.3) for k in range(CLASSES) if k != c]))
        for c in range(CLASSES)
    ]
    close(losses.prototype_dispersion(P, 0.3), np.mean(apart))
    close(losses.prototype_dispersion(P[:1], 0.3), 0)


def test_prototypes_move_row_by_row():
    expected = P.clone()
    for row, label in zip(Z, LABELS, strict=True):
        moved = 0.8 * expected[label] + 0.2 * row
        expected[label] = moved / moved.norm()
    close(losses.moved_prototypes(P, Z, Y, 0.8), expected)
    still = losses.moved_prototypes(P, Z[:2], Y[:2], 0.8)
    close(still[[1, 3]], P[[1, 3]])


def test_prototypes_pass_the_gradient():
    rows = Z.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: losses.moved_prototypes(P, z, Y, 0.8), (rows,))


def test_reweighted_pairs_by_pairs():
    near, far = [], []
    for i in range(len(LABELS)):
        for j in range(i + 1, len(LABELS)):
            s = float(Z[i] @ Z[j])
            if LABELS[i] == LABELS[j]:
                near.append(-s / (1 + math.exp(2.0 * s - 1.0)) / 0.1)
            else:
                far.append(s / (1 + math.exp(-(5.0 * s - 4.0))) / 0.1)
    value = logsumexp(near) + logsumexp(far)
    close(losses.reweighted_pairs(Z, Y), value if value > 0 else math.expm1(value))


def test_weights_of_pairs_have_no_gradient():
    rows = Z.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(losses.reweighted_pairs(rows, Y), rows)
    similar = Z @ Z.T
    fixed = Z.clone().requires_grad_(True)
    s = fixed @ fixed.T
    same, upper = Y[:, None] == Y, torch.ones(len(Y), len(Y)).triu(1).bool()
    near = (-torch.sigmoid(1 - 2 * similar) * s / 0.1)[same & upper].logsumexp(0)
    far = (torch.sigmoid(5 * similar - 4) * s / 0.1)[~same & upper].logsumexp(0)
    (expected,) = torch.autograd.grad(torch.nn.functional.elu(near + far), fixed)
    close(found, expected, atol=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_pairs_of_one_kind_alone_have_no_loss(labels):
    rows = Z[:3].clone().requires_grad_(True)
    loss = losses.reweighted_pairs(rows, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("margin", [0.0, 1.2])
def test_classifier_discrepancy_by_rows(margin):
    first, second, labels = draw(5, CLASSES, seed=2), 3 * draw(5, CLASSES, seed=3), [1, -1, 3, -1, 0]
    named, apart = [], []
    for one, two, label in zip(first.numpy(), second.numpy(), labels, strict=True):
        if label >= 0:
            named.append(-math.log(softmax(one)[label]) - math.log(softmax(two)[label]))
        else:
            apart.append(entr(softmax(one)).sum() - entr(softmax(two)).sum())
    found = losses.classifier_discrepancy(first, second, torch.tensor(labels), 0.5, margin)
    close(found["classification"], np.mean(named))
    close(found["discrepancy"], max(margin - np.mean(apart), 0))
    close(found["loss"], np.mean(named) + 0.5 * max(margin - np.mean(apart), 0))


def test_random_temperature_by_rows():
    logits, log_v, noise, labels = draw(4, CLASSES), draw(4, 6, seed=4), draw(4, 6, seed=5), [2, -1, 0, 3]
    named, spread = [], []
    for row, label in enumerate(labels):
        if label < 0:
            continue
        v = [math.exp(float(value)) for value in log_v[row]]
        t = sum(a * float(e) ** 2 for a, e in zip(v, noise[row], strict=True)) / 4
        named.append(-math.log(softmax(logits[row].numpy() / t)[label]))
        spread.append(np.mean([(a - math.log(a) - 1) / 2 for a in v]))
    found = losses.random_temperature(logits, log_v, noise, torch.tensor(labels), 0.3)
    close(found["classification"], np.mean(named))
    close(found["divergence"], np.mean(spread))
    close(found["loss"], np.mean(named) + 0.3 * np.mean(spread))


def test_rotations():
    images = draw(2, 3, 4, 4)
    found, turns = losses.rotated(images)
    assert turns.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for row, turn in enumerate(turns.tolist()):
        expected = np.rot90(images[row % 2].numpy(), turn, (1, 2))
        np.testing.assert_array_equal(found[row].numpy(), expected)


def test_mixtures_of_images_are_those_of_flat_rows():
    images, labels = draw(6, 2, 3, 3), torch.tensor([0, -1, 2, -1, 1, 3])
    weights = draw(18, CLASSES, seed=6)

    def loss(rows):
        generator = torch.Generator().manual_seed(3)
        return losses.mixture_outlier_exposure(lambda x: x.flatten(1) @ weights, rows, labels, generator)

    close(loss(images)["loss"], loss(images.flatten(1))["loss"])


def test_boundary_outliers_are_the_farthest_around_the_outermost_rows():
    rows, noise = draw(2, 12, SIZE, seed=7), 0.3 * draw(8, SIZE, seed=8)
    how = {"neighbor": 3, "boundary": 4, "seeds": 2, "kept": 3}
    found = losses.boundary_outliers(rows, noise, torch.Generator().manual_seed(0), **how)
    assert found.shape == (2 * 2 * 3, SIZE)

    def isolation(point, cloud):
        scaled = [row / np.linalg.norm(row) for row in cloud]
        return sorted(np.linalg.norm(point / np.linalg.norm(point) - row) for row in scaled)[2]

    for group, drawn in enumerate(found.reshape(4, 3, SIZE).numpy()):
        cloud = rows[group // 2].numpy()
        outermost = sorted(range(12), key=lambda row: -isolation(cloud[row], cloud))[:4]
        matches = []
        for row in outermost:
            around = sorted(cloud[row] + noise.numpy(), key=lambda point: -isolation(point, cloud))[:3]
            matches.append(np.allclose(around, drawn))
        assert sum(matches) == 1
