import dataclasses

import numpy as np
import pytest
import torch

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch, NotFitted, UsageError
from featood.heads import create_head, load_head
from featood.heads.base.fit import FitContext
from featood.heads.compositions.compose import compose, composed_energy
from featood.testing.fixture import synthetic_sets

MEMBERS = ("mahalanobis", "knn k=7", "energy temperature=2.0")


def standardised(heads, train, data):
    columns = []
    for head in heads:
        known = train.rows(np.asarray(train.labels) >= 0)
        scores = head.score(known)
        columns.append((head.score(data) - scores.mean()) / scores.std())
    return np.stack(columns, 1)


BETAS = {
    0.0: lambda u: u.sum(1),
    float("inf"): lambda u: u.max(1),
    float("-inf"): lambda u: u.min(1),
    2.0: lambda u: np.log(np.exp(2 * u).sum(1)) / 2,
    -0.5: lambda u: -2 * np.log(np.exp(-0.5 * u).sum(1)),
}


@pytest.fixture(scope="module")
def sets():
    return synthetic_sets()


@pytest.fixture(scope="module")
def heads(sets):
    made = [create_head("mahalanobis"), create_head("knn", k=7), create_head("energy", temperature=2.0)]
    return [head.fit(sets[0]) if head.card.learns else head for head in made]


@pytest.mark.parametrize("beta", BETAS)
def test_composition_by_hand(sets, heads, beta):
    train, test = sets
    expected = BETAS[beta](standardised(heads, train, test))
    np.testing.assert_allclose(compose(heads, train, beta=beta).score(test), expected, rtol=1e-6)
    fitted = create_head("compose", members=MEMBERS, beta=beta).fit(train)
    np.testing.assert_allclose(fitted.score(test), expected, rtol=1e-6)


def test_soft_maximum_lies_between_its_limits():
    u = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(composed_energy(u, 500.0), composed_energy(u, float("inf")), atol=0.01, rtol=0)
    torch.testing.assert_close(
        composed_energy(u, -500.0), composed_energy(u, -float("inf")), atol=0.01, rtol=0
    )
    small = composed_energy(u, 1e-4) - np.log(4) / 1e-4
    torch.testing.assert_close(4 * small, composed_energy(u, 0.0), atol=0.01, rtol=0)
    assert bool(torch.isfinite(composed_energy(1e6 * u, 3.0)).all())


def test_saved_with_all_that_scoring_needs(sets, heads, tmp_path):
    train, test = sets
    for number, head in enumerate(
        [compose(heads, train, beta=1.5), create_head("compose", members=MEMBERS, beta=-np.inf).fit(train)]
    ):
        head.save(tmp_path / str(number))
        loaded = load_head(tmp_path / str(number))
        assert np.array_equal(loaded.score(test), head.score(test))
        assert loaded.options == head.options


def test_options_of_members_are_written_out():
    head = create_head("compose", members=["knn k=7 feature=std", "odd-one".replace("odd-one", "energy")])
    knn, energy = head.create_members()
    assert knn.options == create_head("knn", k=7, feature="std").options
    assert energy.options == create_head("energy").options
    assert all("=" in text for text in head.members), "later defaults do not change a saved head"
    assert create_head("compose", members=head.members).members == head.members
    preset = create_head("compose", members=["heat-el preset=cifar100"])
    assert preset.create_members()[0].sgld_steps == 200


def test_options_that_need_quotes():
    inner = create_head("compose", members=["knn feature='a b'", "energy"], beta=-np.inf)
    outer = create_head("compose", members=['compose members=\'["knn feature=1", "energy"]\' beta=0.5'])
    assert inner.create_members()[0].feature == "a b"
    nested = outer.create_members()[0]
    assert nested.beta == 0.5 and [head.name for head in nested.create_members()] == ["knn", "energy"]
    assert create_head("compose", members=inner.members).create_members()[0].feature == "a b"


def test_compositions_nest(sets, heads, tmp_path):
    train, test = sets
    pair = compose(heads[:2], train)
    outer = compose([pair, heads[2]], train, beta=float("inf"))
    expected = standardised([pair, heads[2]], train, test).max(1)
    np.testing.assert_allclose(outer.score(test), expected, rtol=1e-6)
    outer.save(tmp_path)
    assert np.array_equal(load_head(tmp_path).score(test), outer.score(test))


def test_needs_and_columns_are_those_of_the_members(sets):
    train, test = sets
    head = create_head("compose", members=["knn", "mahalanobis feature=std"])
    assert head.columns(train) == ["avg", "std"] and head.needs == ("features", "labels")
    head.fit(train)
    bare = FeatureSet({"avg": test.features["avg"], "std": test.features["std"]})
    assert np.array_equal(head.score(bare), head.score(test))
    with pytest.raises(Exception, match="std"):
        head.score(FeatureSet({"avg": test.features["avg"]}))
    logits = create_head("compose", members=["energy", "knn"])
    with pytest.raises(DataError, match="logits"):
        logits.fit(dataclasses.replace(train, logits=None))


def test_the_sample_fixes_the_scale(sets, heads):
    train, _ = sets
    small = compose(heads, train, sample=50, seed=1)
    assert torch.equal(small.state["mean"], compose(heads, train, sample=50, seed=1).state["mean"])
    assert not torch.equal(small.state["mean"], compose(heads, train, sample=50, seed=2).state["mean"])
    head = create_head("mahalanobis").fit(train)
    scores = head.score(train.rows(np.asarray(train.labels) >= 0))
    whole = compose([head], train)
    assert float(whole.state["mean"]) == pytest.approx(scores.mean())
    assert float(whole.state["scale"]) == pytest.approx(scores.std())


def test_a_member_that_scores_all_the_same_is_noted(sets):
    train, test = sets
    flat = dataclasses.replace(train, logits=np.zeros_like(train.logits))
    head = create_head("compose", members=["energy", "knn"]).fit(flat)
    assert any("gives all training rows the same score" in note for note in head.record.notes)
    assert np.isfinite(head.score(test)).all()


def test_members_train_with_checkpoints_of_their_own(sets, tmp_path):
    class Killed(BaseException):
        pass

    train, test = sets
    small = "epochs=4 width=16 depth=1 sgld_steps=1 batch_size=64"
    members = (f"heat-gmm {small}", f"heat-el {small}")
    expected = create_head("compose", members=members).fit(train).score(test)
    calls = []

    def stop(step, total, **values):
        calls.append(step)
        if len(calls) == 28:
            raise Killed

    with pytest.raises(Killed):
        create_head("compose", members=members).fit(train, context=FitContext(stop, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["1-heat-el"]
    resumed = create_head("compose", members=members).fit(train, context=FitContext(None, tmp_path))
    assert np.array_equal(resumed.score(test), expected)


def test_errors(sets, heads):
    train, _ = sets
    with pytest.raises(UsageError, match="lists the heads"):
        create_head("compose", members=())
    with pytest.raises(UsageError, match="lists the heads"):
        create_head("compose", members="knn")
    with pytest.raises(UsageError, match="no head 'knnn'"):
        create_head("compose", members=("knnn",))
    with pytest.raises(UsageError, match="no option 'kk'"):
        create_head("compose", members=("knn kk=3",))
    with pytest.raises(UsageError, match="name=value"):
        create_head("compose", members=("knn 50",))
    with pytest.raises(UsageError, match="beta"):
        create_head("compose", members=("knn",), beta=float("nan"))
    with pytest.raises(NotFitted, match="knn is not fitted"):
        compose([create_head("knn")], train)
    with pytest.raises(Mismatch, match="--force"):
        compose(heads, dataclasses.replace(train, fingerprint="f" * 64))
    with pytest.raises(UsageError, match="lists the heads"):
        compose([], train)
