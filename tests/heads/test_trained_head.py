import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch, UsageError
from featood.heads import create_head
from featood.heads.base.fit import FitContext
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.registry import Card
from featood.training import train

CARD = Card("probe", "Probe", "Nobody, Nowhere", 2020, "", ("features", "labels"), True, "A probe.")


class Net(nn.Module):
    def __init__(self, body, size, classes):
        super().__init__()
        self.body = body
        self.register_buffer("counts", torch.zeros(classes))
        self.scratch = nn.Linear(size, 1000)


@dataclasses.dataclass(kw_only=True, eq=False)
class Probe(PerceptronHead):
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


SMALL = {"validation": 0.0, "width": 8, "depth": 1, "epochs": 30, "batch_size": 16, "lr": 0.02}


def data(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    values = 50 + 7 * (rng.normal(size=(rows, 4)) + 3 * np.eye(3, 4)[labels])
    return FeatureSet({"avg": values.astype(np.float32)}, labels=labels)


def test_learns_on_standardised_rows_and_scores_with_the_same_scaling():
    train_set, test = data(), data(seed=1)
    head = Probe(**SMALL).fit(train_set)
    values = train_set.features["avg"].astype(np.float64)
    np.testing.assert_allclose(head.state["space.center"], values.mean(0))
    np.testing.assert_allclose(head.state["space.scale"], values.std(0))
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
    state = Probe(**SMALL, space="none").fit(data()).state
    assert not any(name.startswith("space.") for name in state) and int(state["inputs"]) == 4


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_an_interrupted_fit_ends_the_same(tmp_path, validation):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 110:
            raise Killed

    head = Probe(**SMALL | {"validation": validation}).fit(data())
    context = FitContext(checkpoint=tmp_path / "fit")
    with pytest.raises(Killed):
        Probe(**SMALL | {"validation": validation}).fit(data(), context=FitContext(stop, tmp_path / "fit"))
    with pytest.raises(Mismatch, match="data"):
        Probe(**SMALL | {"validation": validation}).fit(data(seed=5), context=context)
    resumed = Probe(**SMALL | {"validation": validation}).fit(data(), context=context)
    for name, value in head.state.items():
        assert torch.equal(resumed.state[name], value), name
    assert not (tmp_path / "fit").exists()


def test_held_out_rows_are_not_learnt_from():
    seen = []

    class Watching(Probe):
        def losses(self, model, rows, labels, generator):
            seen.append((model.training, rows))
            return super().losses(model, rows, labels, generator)

    Watching(**SMALL | {"epochs": 2, "validation": 0.25}).fit(data())
    held = {row for training, rows in seen if not training for row in map(tuple, rows.tolist())}
    used = {row for training, rows in seen if training for row in map(tuple, rows.tolist())}
    assert len(held) == 30 and not held & used
    np.testing.assert_allclose(np.mean([*used], 0), 0, atol=1e-5)  # nor scaled by


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


def test_few_rows_are_passed_over_until_the_minimum_number_of_updates():
    rows = data(200)  # three batches

    def steps(**options):
        return Probe(**{**SMALL, "batch_size": 64, "epochs": 3, **options}).fit(rows).record.training["steps"]

    assert [steps(), steps(updates=9), steps(updates=10)] == [9, 9, 12]
    # phases within the training are those of as many passes
    options = {"training": "sequential", "width": 8, "depth": 1, "latent": 2, "layers": 1, "batch_size": 64}
    heads = [
        create_head("postnet", **options, **more) for more in ({"epochs": 2, "updates": 9}, {"epochs": 3})
    ]
    np.testing.assert_array_equal(*(head.fit(rows).score(rows) for head in heads))


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
    with pytest.warns(UserWarning, match="state after step 4 is used"):
        result, point = run([3.0, 2.0, 4.0], poison=9)
    assert result.diverged and result.steps == 4 and point.weight.item() == -4


def test_divergence_is_noted():
    with pytest.warns(UserWarning, match="diverged"):
        head = Probe(**SMALL | {"lr": 1e30}).fit(data())
    assert "diverged" in head.record.notes[0] and np.isfinite(head.score(data())).all()


def test_outliers_alone_are_refused():
    alone = dataclasses.replace(data(), labels=np.full(120, -1))
    with pytest.raises(DataError, match="no row"):
        Probe(**SMALL).fit(alone)


def test_outliers_stand_behind_the_rows_of_each_batch():
    batches = []

    class Exposed(Probe):
        card: ClassVar[Any] = dataclasses.replace(CARD, uses=("outliers",))

        def initialize(self, model, rows, labels):
            assert (labels[:-10] >= 0).all() and labels[-10:].tolist() == [-1] * 10

        def losses(self, model, rows, labels, generator):
            batches.append((rows, labels))
            return super().losses(model, rows[labels >= 0], labels[labels >= 0], generator)

    source = data()
    mixed = dataclasses.replace(source, labels=np.where(np.arange(120) % 12 == 0, -1, source.labels))
    head = Exposed(**SMALL | {"epochs": 2}).fit(mixed)
    known = mixed.labels >= 0
    np.testing.assert_allclose(head.state["space.center"], mixed.features["avg"][known].astype(float).mean(0))
    assert len(batches) == 2 * (110 // 16)
    for _, labels in batches:
        assert (labels[:16] >= 0).all() and labels[16:].tolist() == [-1] * 10  # all ten, in every batch
    seen = {tuple(row) for rows, labels in batches for row in rows[labels < 0].tolist()}
    assert len(seen) == 10
    unexposed = Probe(**SMALL | {"epochs": 2}).fit(mixed)
    assert torch.equal(unexposed.state["space.center"], head.state["space.center"])


def test_a_state_can_be_chosen_by_outliers_to_validate_on(tmp_path):
    far = FeatureSet({"avg": data(50, seed=3).features["avg"] + 40})
    plain = Probe(**SMALL | {"validation": 0.2}).fit(data())
    chosen = Probe(**SMALL | {"validation": 0.2}).fit(data(), context=FitContext(validate_on=far))
    assert 0 <= chosen.record.training["validation"] <= 1 < plain.record.training["steps"]
    with pytest.raises(UsageError, match="set validation above 0"):
        Probe(**SMALL).fit(data(), context=FitContext(validate_on=far))

    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 110:
            raise Killed

    with pytest.raises(Killed):
        Probe(**SMALL | {"validation": 0.2}).fit(
            data(), context=FitContext(stop, tmp_path / "fit", validate_on=far)
        )
    with pytest.raises(Mismatch, match="data"):
        Probe(**SMALL | {"validation": 0.2}).fit(data(), context=FitContext(checkpoint=tmp_path / "fit"))

    rows = (far.features["avg"] - chosen.state["space.center"].numpy()) / chosen.state["space.scale"].numpy()
    shuffled = torch.randperm(120, generator=torch.Generator().manual_seed(0))[:24]
    held = data().rows(shuffled.numpy())
    kept = [chosen.score(part) for part in (held, far)]
    expected = np.mean(kept[1][:, None] > kept[0]) + np.mean(kept[1][:, None] == kept[0]) / 2
    assert chosen.record.training["validation"] == pytest.approx(1 - expected, abs=1e-3) and len(rows) == 50


def test_the_average_of_the_weights_takes_their_place():
    states = []

    class Watching(Probe):
        def losses(self, model, rows, labels, generator):
            states.append(model.body[0].bias.detach().double().clone())
            return super().losses(model, rows, labels, generator)

    head = Watching(**SMALL | {"epochs": 4}, ema=0.5).fit(data())
    last = Watching(**SMALL | {"epochs": 4}).fit(data()).state["model.body.0.bias"].double()
    states = [*states[1 : len(states) // 2], last]  # after each update, of the first fit
    expected = Probe(**SMALL).build(4, 3, torch.Generator().manual_seed(0)).body[0].bias.detach().double()
    for count, state in enumerate(states, 1):
        decay = min(0.5, count / (count + 9))
        expected = decay * expected + (1 - decay) * state
    torch.testing.assert_close(head.state["model.body.0.bias"].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"ema": 0.9}, {"schedule": "step"}, {"warmup": 7, "clip": 0.1}])
def test_an_interrupted_fit_with_options_ends_the_same(tmp_path, options):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 110:
            raise Killed

    options = {**SMALL, "validation": 0.25, **options}
    head = Probe(**options).fit(data())
    with pytest.raises(Killed):
        Probe(**options).fit(data(), context=FitContext(stop, tmp_path / "fit"))
    resumed = Probe(**options).fit(data(), context=FitContext(checkpoint=tmp_path / "fit"))
    for name, value in head.state.items():
        assert torch.equal(resumed.state[name], value), name


def test_reduced_precision_still_learns():
    kinds = set()

    class Watching(Probe):
        def losses(self, model, rows, labels, generator):
            kinds.add(model.body(rows).dtype)
            return super().losses(model, rows, labels, generator)

    head = Watching(**SMALL, precision="bfloat16").fit(data())
    assert kinds == {torch.bfloat16} and head.state["model.body.0.weight"].dtype == torch.float32
    assert head.record.training["loss"] < 0.3
    with pytest.raises(UsageError, match="precision"):
        Probe(precision="float16")


@pytest.mark.parametrize(
    "options, text",
    [
        ({"lr": math.inf}, "lr must be finite, not inf"),
        ({"lr": math.nan}, "lr must be at least 0, not nan"),
        ({"ema": 2}, "ema must be at least 0 and at most 0.99999, not 2"),
        ({"seed": "x"}, "seed must be a number, not 'x'"),
        ({"activation": "sine"}, "activation must be one of"),
    ],
)
def test_options_are_held_against_their_bounds(options, text):
    with pytest.raises(UsageError, match=text):
        Probe(**options)
