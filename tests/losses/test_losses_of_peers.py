"""Comparison of the losses with those of pytorch-ood that have the same formula."""

import numpy as np
import pytest
import torch
from test_losses import CENTERS, CLASSES, DISTANCES, FEATURES, LOGITS, OUTLIERS, SIZE, Y, close

from featood import losses


@pytest.fixture
def peer():
    """Return the losses of pytorch-ood."""
    from featood.extractors.vision import torchvision  # noqa: F401  (mends its import)

    return pytest.importorskip("pytorch_ood.loss")


@pytest.mark.filterwarnings("ignore:Discarding samples")
def test_like_pytorch_ood(peer):
    y, known, outliers = Y, Y >= 0, Y < 0
    rows = peer.OutlierExposureLoss(alpha=0.5, reduction=None)(LOGITS.float(), y)
    close(losses.outlier_exposure(LOGITS.float(), y), rows[known].mean() + rows[outliers].mean())
    rows = peer.EntropicOpenSetLoss(reduction=None)(LOGITS.float(), y)
    close(losses.outlier_exposure(LOGITS.float(), y, 1.0), rows[known].mean() + rows[outliers].mean())
    rows = peer.ObjectosphereLoss(alpha=0.7, xi=3.0, reduction=None)(LOGITS.float(), FEATURES.float(), y)
    found = losses.objectosphere(LOGITS.float(), FEATURES.float(), y, 0.7, 3.0)
    close(found, rows[known].mean() + rows[outliers].mean())
    wide = torch.cat([LOGITS, FEATURES[:, :1]], 1)
    close(losses.background_class(wide, y), peer.BackgroundClassLoss(CLASSES)(wide, y))
    bounded = peer.EnergyRegularizedLoss(alpha=0.1, margin_in=-2.5, margin_out=-1.0)(LOGITS, y)
    term = losses.bounded_energy(-LOGITS.logsumexp(1), y, -2.5, -1.0)
    close(losses.cross_entropy(LOGITS, y) + 0.1 * term, bounded)
    close(losses.logit_norm(LOGITS, y, 0.04), peer.LogitNorm(t=0.04)(LOGITS, y))
    confidence = FEATURES[:, :1]
    found = losses.confidence_loss(LOGITS, confidence[:, 0], y, 0.3)
    close(found, peer.ConfidenceLoss(alpha=0.3)(LOGITS, confidence.sigmoid(), y))


@pytest.mark.filterwarnings("ignore:Discarding samples")
def test_distances_like_pytorch_ood(peer):
    y, squared = Y, DISTANCES.square()
    # the centre loss of pytorch-ood is a mean over all classes
    center = CLASSES * peer.CenterLoss(CLASSES, SIZE, radius=2.25)(squared, y)
    close(losses.center_loss(DISTANCES, y, 1.5), center)
    last = Y == CLASSES - 1  # the only class for which its tuplet term leaves out the correct distance
    found = losses.class_anchors(DISTANCES[last], y[last], 0.3)
    close(found, peer.CACLoss(CLASSES, alpha=0.3)(DISTANCES[last], y[last]))
    close(
        losses.intra_inter(FEATURES.float(), y, CLASSES, 0.5),
        peer.IILoss(CLASSES, SIZE, 0.5)(FEATURES.float(), y),
    )
    # it squares its input, so the input is distances that are not squared
    from pytorch_ood.loss.mchad import CenterRegularizationLoss

    push = CenterRegularizationLoss(3.0)(DISTANCES, y)
    close(losses.center_repulsion(DISTANCES, y, 3.0), push / len(OUTLIERS))
    sphere = peer.DeepSVDDLoss(SIZE, radius=1.5, center=CENTERS[0].float())(FEATURES.float(), y)
    close(losses.hypersphere(FEATURES.float(), CENTERS[0].float(), y, 1.5), sphere)
    rows = peer.DeepSADLoss(SIZE, eta=0.4, reduction="none", center=CENTERS[0].float())(FEATURES.float(), y)
    found = losses.deep_sad(FEATURES.float(), CENTERS[0].float(), y, 0.4)
    close(found, rows[Y >= 0].mean() + rows[Y < 0].mean())


def test_learned_odds_like_pytorch_ood(peer):
    torch_linear = torch.nn.Linear(1, 2, dtype=torch.float64)
    weights = torch.nn.Linear(CLASSES, 1, dtype=torch.float64)
    weights.weight.data.abs_()
    even = torch.tensor([0, 1, 3, 2, 5, 7])  # equal numbers of both, as it averages over all rows
    loss = peer.VOSRegLoss(torch_linear, weights, alpha=0.1)(LOGITS[even], Y[even])
    energy = losses.weighted_energy(LOGITS[even], weights.weight.data[0].log())
    slope, offset = (value[0] - value[1] for value in (torch_linear.weight[:, 0], torch_linear.bias))
    odds = slope * energy + offset  # its class 1 is that of known rows
    term = losses.energy_odds(odds[Y[even] >= 0], odds[Y[even] < 0]) / 2
    close(losses.cross_entropy(LOGITS[even], Y[even]) + 0.1 * term, loss)


def test_constraints_like_pytorch_ood(peer):
    theirs = peer.EnergyMarginLoss(full_train_loss=0.3, eta=0.0, ce_tol=2.0)
    linear = torch.nn.Linear(1, 1)
    multipliers, penalties = torch.zeros(2), torch.ones(2)
    loader = [(LOGITS[Y >= 0].float(), Y[Y >= 0])]
    for _ in range(3):
        odds = linear(LOGITS.float().logsumexp(1, keepdim=True)).squeeze(1)
        named = losses.cross_entropy(LOGITS.float(), Y)
        violations = torch.stack([losses.false_alarms(odds, Y) - 0.05, named - 0.6])
        loss = losses.missed_outliers(odds, Y)
        loss = loss + losses.augmented_lagrangian(violations, multipliers, penalties)
        close(loss, theirs(LOGITS.float(), Y, linear))
        theirs.update_hyperparameters(torch.nn.Identity(), loader, linear)
        multipliers, penalties = losses.updated_multipliers(violations.detach(), multipliers, penalties)
        np.testing.assert_allclose(multipliers, [theirs.lam, theirs.lam2], rtol=1e-4)
        np.testing.assert_allclose(
            penalties, [theirs.in_constraint_weight, theirs.ce_constraint_weight], rtol=1e-6
        )
