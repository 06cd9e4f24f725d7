import dataclasses

import numpy as np
import pytest
import torch

from featood.heads import create_head
from featood.heads.base.fit import FitContext
from featood.heads.open_set.opengan import adversarial_losses
from featood.metrics import auroc
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = np.asarray(TEST.labels) >= 0
QUICK = {"epochs": 20, "batch_size": 64, "width": 32, "seed": 3}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_score_is_the_negated_log_odds():
    head = create_head("opengan", **QUICK).fit(TRAIN)
    w = {name: np.asarray(value, float) for name, value in head.state.items()}
    assert not any("generator" in name for name in w)
    x = np.asarray(TEST.features["avg"], float)
    for layer in (0, 2, 4):
        x = x @ w[f"model.discriminator.{layer}.weight"].T + w[f"model.discriminator.{layer}.bias"]
        x = np.where(x < 0, 0.2 * x, x) if layer < 4 else x
    np.testing.assert_allclose(head.score(TEST), -x[:, 0], rtol=1e-9)


def test_losses_and_gradients_of_both_networks():
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(9, 3, dtype=torch.float64, generator=generator)
            for name in ("real", "noise", "outliers")}  # fmt: skip
    d = torch.randn(3, dtype=torch.float64, generator=generator, requires_grad=True)
    g = torch.randn(3, dtype=torch.float64, generator=generator, requires_grad=True)
    found = adversarial_losses(lambda x: x @ d, rows["real"], rows["noise"] * g, rows["outliers"])
    found["loss"].backward()

    p = {name: sigmoid(values.numpy() @ d.detach().numpy()) for name, values in rows.items()}
    fake = rows["noise"].numpy() * g.detach().numpy()
    p["fake"] = sigmoid(fake @ d.detach().numpy())
    parts = [-np.log(p["real"]).mean(), -np.log(1 - p["fake"]).mean(), -np.log(1 - p["outliers"]).mean()]
    assert float(found["loss"].detach()) == pytest.approx(sum(parts) - np.log(p["fake"]).mean())
    of_d = -((1 - p["real"])[:, None] * rows["real"].numpy()).mean(0)
    of_d += (p["fake"][:, None] * fake).mean(0) + (p["outliers"][:, None] * rows["outliers"].numpy()).mean(0)
    np.testing.assert_allclose(d.grad, of_d, rtol=1e-9)
    of_g = -((1 - p["fake"])[:, None] * rows["noise"].numpy() * d.detach().numpy()).mean(0)
    np.testing.assert_allclose(g.grad, of_g, rtol=1e-9)


def test_it_is_selected_on_held_out_rows_alone():
    known = TRAIN.rows(np.asarray(TRAIN.labels) >= 0)
    head = create_head("opengan", validation=0.3, **QUICK).fit(known)
    training = head.record.training
    assert 0 < training["validation"] < 0.5 and training["steps"] % 50 == 0
    last = create_head("opengan", validation=0.0, **QUICK).fit(known)
    assert "validation" not in last.record.training
    unlabelled = dataclasses.replace(known, labels=None)
    assert create_head("opengan", validation=0.3, **QUICK).fit(unlabelled).score(TEST).std() > 0


def test_outliers_are_learned_and_can_select():
    train = TRAIN
    without = train.rows(np.asarray(train.labels) >= 0)
    options = {**QUICK, "epochs": 60, "validation": 0.2}
    found = {}
    for name, rows in (("with", train), ("without", without)):
        scores = create_head("opengan", **options).fit(rows).score(TEST)
        found[name] = auroc(scores[KNOWN], scores[~KNOWN])
    assert found["with"] > max(0.8, found["without"])
    context = FitContext(validate_on=train.rows(np.asarray(train.labels) < 0))
    scores = create_head("opengan", **options).fit(without, context=context).score(TEST)
    assert auroc(scores[KNOWN], scores[~KNOWN]) > 0.6
