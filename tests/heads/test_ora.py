"""Angles to the decision boundaries, against points found on the boundaries themselves."""

import dataclasses

import numpy as np
import pytest

from featood.cache.feature_set import FeatureSet
from featood.heads import create_head
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
W, B = (np.asarray(part, dtype=float) for part in TRAIN.classifier)
MEAN = np.asarray(TRAIN.features["avg"], dtype=float)[np.asarray(TRAIN.labels) >= 0].mean(0)
X = np.asarray(TEST.features["avg"], dtype=float)


def angles(x):
    """Angles to the boundaries of the predicted class with each other one."""
    y = int((W @ x + B).argmax())
    found = []
    for c in set(range(len(B))) - {y}:
        normal, level = W[y] - W[c], B[y] - B[c]
        foot = x - (normal @ x + level) / (normal @ normal) * normal
        assert abs(normal @ foot + level) < 1e-9  # on the boundary
        one, other = x - MEAN, foot - MEAN
        found.append(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
    return found


@pytest.mark.parametrize(("over", "of"), [("max", np.max), ("mean", np.mean)])
def test_ora(over, of):
    found = create_head("ora", over=over).fit(TRAIN).score(TEST)
    np.testing.assert_allclose(found, [-of(angles(x)) for x in X], rtol=1e-5)


def test_the_paper_takes_the_maximum():
    assert create_head("ora").over == "max"


@pytest.mark.parametrize("over", ["max", "mean"])
def test_twin_classes_and_a_row_on_the_mean(over):
    weight, bias = np.concatenate([W, W[:1]]), np.append(B, B[0])
    twins = dataclasses.replace(
        TRAIN, logits=None, classifier=(weight.astype(np.float32), bias.astype(np.float32))
    )
    head, alone = create_head("ora", over=over).fit(twins), create_head("ora", over=over).fit(TRAIN)
    if over == "max":  # a boundary with a twin has no angle, and one with both twins the same
        np.testing.assert_allclose(head.score(TEST), alone.score(TEST), rtol=1e-6)
    assert (np.abs(head.score(TEST)) <= np.pi).all()
    assert head.score(FeatureSet({"avg": head.state["mean"][None].numpy()}))[0] == 0


def test_the_angle_does_not_depend_on_the_unit_of_the_features():
    """A boundary is as far as before if the weights are divided by the unit, so the angle stays."""
    factor = np.float32(64)
    weight, bias = TRAIN.classifier
    scaled = dataclasses.replace(
        TRAIN,
        features={"avg": TRAIN.features["avg"] * factor},
        logits=None,
        classifier=(weight / factor, bias),
    )
    test = FeatureSet({"avg": TEST.features["avg"] * factor})
    plain = create_head("ora").fit(TRAIN).score(TEST)
    np.testing.assert_allclose(create_head("ora").fit(scaled).score(test), plain, rtol=1e-6)
