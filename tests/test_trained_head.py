import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch
from featood.heads.base import FitContext
from featood.heads.registry import Card
from featood.heads.trained_head import TrainedHead
from featood.training import train

CARD = Card("probe", "Probe", "Nobody, Nowhere", 2020, "", ("features", "labels"), True, "A probe.")


class Net(nn.Module):
    def __init__(self, body, size, classes):
        super().__init__()
        self.body = body
        self.register_buffer("counts", torch.zeros(classes))
        self.scratch = nn.Linear(size, 1000)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Probe(TrainedHead):
    card: ClassVar[Any] = CARD
    transient: ClassVar[tuple[str, ...]] = ("scratch",)

    def build(self, size, classes, generator):
        return Net(self.mlp(size, classes, generator), size, classes)

    def initialize(self, model, rows, labels):
        model.counts += torch.bincount(labels, minlength=len(model.counts))

    def losses(self, model, rows, labels, generator):
        noisy = rows + 0.01 * torch.randn(rows.shape, generator=generator)
        return {"loss": F.cross_entropy(model.body(noisy), labels)}

    def score_rows(self, model, rows):
        return -model.body(rows).logsumexp(1)


SMALL = {"width": 8, "depth": 1, "epochs": 30, "batch_size": 16, "lr": 0.02}


def data(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    values = 50 + 7 * (rng.normal(size=(rows, 4)) + 3 * np.eye(3, 4)[labels])
    return FeatureSet({"avg": values.astype(np.float32)}, labels=labels)


def test_learns_on_standardised_rows_and_scores_with_the_same_scaling():
    train_set, test = data(), data(seed=1)
    head = Probe(**SMALL).fit(train_set)
    values = train_set.features["avg"].astype(np.float64)
    np.testing.assert_allclose(head.state["mean"], values.mean(0))
    np.testing.assert_allclose(head.state["spread"], values.std(0))
    assert head.state["model.counts"].tolist() == np.bincount(train_set.labels).tolist()
    scaled = (test.features["avg"] - values.mean(0)) / values.std(0)
    weights = {name: np.asarray(value, dtype=np.float64) for name, value in head.state.items()}
    inner = scaled @ weights["model.body.0.weight"].T + weights["model.body.0.bias"]
    inner = inner / (1 + np.exp(-inner))
    logits = inner @ weights["model.body.2.weight"].T + weights["model.body.2.bias"]
    np.testing.assert_allclose(head.score(test), -np.log(np.exp(logits).sum(1)), rtol=1e-10)
    assert (logits.argmax(1) == test.labels).mean() > 0.9


def test_transient_children_are_not_saved():
    head = Probe(**SMALL).fit(data())
    assert not any("scratch" in name for name in head.state)


def test_without_standardising_the_rows_are_as_they_are():
    state = Probe(**SMALL, standardize=False).fit(data()).state
    assert state["mean"].tolist() == [0] * 4 and state["spread"].tolist() == [1] * 4


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_an_interrupted_fit_ends_the_same(tmp_path, validation):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 110:
            raise Killed

    head = Probe(**SMALL, validation=validation).fit(data())
    context = FitContext(checkpoint=tmp_path / "fit")
    with pytest.raises(Killed):
        Probe(**SMALL, validation=validation).fit(data(), context=FitContext(stop, tmp_path / "fit"))
    with pytest.raises(Mismatch, match="data"):
        Probe(**SMALL, validation=validation).fit(data(seed=5), context=context)
    resumed = Probe(**SMALL, validation=validation).fit(data(), context=context)
    for name, value in head.state.items():
        assert torch.equal(resumed.state[name], value), name
    assert not (tmp_path / "fit").exists()


def test_held_out_rows_are_not_learnt_from():
    seen = []

    class Watching(Probe):
        def losses(self, model, rows, labels, generator):
            seen.append((model.training, rows))
            return super().losses(model, rows, labels, generator)

    Watching(**SMALL | {"epochs": 2}, validation=0.25).fit(data())
    held = {row for training, rows in seen if not training for row in map(tuple, rows.tolist())}
    used = {row for training, rows in seen if training for row in map(tuple, rows.tolist())}
    assert len(held) == 30 and not held & used


def test_early_stopping_keeps_the_best_state():
    curve = [5.0, 3.0, math.nan, 2.0, 2.5, 2.0, 9.0]
    point = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(point.weight)
    values = iter(curve)
    result = train(
        lambda number: {"loss": point.weight.sum()},
        point,
        torch.optim.SGD(point.parameters(), lr=1.0),
        100,
        every=4,
        validate=lambda: next(values),
        patience=2,
    )
    assert result.history["validation"] == pytest.approx(curve[:6], nan_ok=True)
    assert result.steps == 12 and point.weight.item() == -12 and not result.diverged
    assert len(result.losses) == 20


def test_early_stopping_counts_the_end_and_survives_divergence():
    def run(curve, poison=None):
        point = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(point.weight)
        values = iter(curve)

        def losses(number):
            return {"loss": point.weight.sum() * (math.nan if number == poison else 1)}

        optimizer = torch.optim.SGD(point.parameters(), lr=1.0)
        return train(losses, point, optimizer, 10, every=4, validate=lambda: next(values)), point

    result, point = run([3.0, 2.0, 4.0, 1.0])
    assert result.steps == 10 and point.weight.item() == -10
    result, point = run([3.0, 2.0, 4.0, 5.0])
    assert result.steps == 4 and point.weight.item() == -4
    with pytest.warns(UserWarning, match="state after step 4 kept"):
        result, point = run([3.0, 2.0, 4.0], poison=9)
    assert result.diverged and result.steps == 4 and point.weight.item() == -4


def test_divergence_is_noted():
    with pytest.warns(UserWarning, match="diverged"):
        head = Probe(**SMALL | {"lr": 1e30}).fit(data())
    assert "diverged" in head.meta["notes"][0] and np.isfinite(head.score(data())).all()


def test_outliers_alone_are_refused():
    alone = dataclasses.replace(data(), labels=np.full(120, -1))
    with pytest.raises(DataError, match="no row"):
        Probe(**SMALL).fit(alone)
