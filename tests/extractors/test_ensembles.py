import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from featood.cache import FeatureCache, import_arrays
from featood.errors import DataError, Mismatch, UsageError
from featood.heads import create_head
from featood.numerics.mixtures import (
    mean_log_probabilities,
    mutual_information,
    predictive_entropy,
    probability_variance,
)
from featood.pipeline.ensembles import join_backbones, join_sets
from featood.testing.extras import with_extras
from featood.testing.fixture import synthetic_sets

TEST = with_extras(synthetic_sets()[1], 2)


def naive(draws, which):
    """Return the score of one row from the probabilities of each draw ``[S, C]``."""
    mean = draws.mean(0)
    if which == "predictive-entropy":
        return entropy(mean)
    if which == "mutual-information":
        return entropy(mean) - np.mean([entropy(p) for p in draws])
    if which == "variance":
        return np.mean([np.var(draws[:, c], ddof=1) for c in range(draws.shape[1])])
    return -mean.max()


@pytest.mark.parametrize("which", ["predictive-entropy", "mutual-information", "variance", "mean-msp"])
@pytest.mark.parametrize(
    ("head", "column"), [("mc-dropout", "mc.logits"), ("deep-ensemble", "ensemble.logits")]
)
def test_scores(head, column, which):
    logits = np.asarray(TEST.features[column], dtype=float).reshape(len(TEST), -1, 5)
    expected = [naive(softmax(rows, 1), which) for rows in logits]
    np.testing.assert_allclose(create_head(head, which=which).score(TEST), expected, rtol=1e-6, atol=1e-12)


def test_mc_dropout_against_pytorch_ood():
    from featood.extractors.vision import torchvision  # noqa: F401

    detectors = pytest.importorskip("pytorch_ood.detector")

    class Replay(torch.nn.Module):
        def __init__(self, draws):
            super().__init__()
            self.draws = iter(draws)

        def forward(self, x):
            return next(self.draws)

    draws = torch.from_numpy(TEST.features["mc.logits"]).split(5, dim=1)
    for mode, which in (("var", "variance"), ("mean", "mean-msp")):
        expected = detectors.MCD(Replay(draws), samples=len(draws), mode=mode).predict(
            torch.zeros(len(TEST), 1)
        )
        np.testing.assert_allclose(create_head("mc-dropout", which=which).score(TEST), expected, rtol=1e-4)


@given(st.integers(2, 4), st.integers(1, 5), st.floats(0, 1e4), st.integers(0, 99))
def test_bounds(members, classes, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    draws = [scale * torch.randn(3, classes, generator=generator) for _ in range(members)]
    total, epistemic = predictive_entropy(draws), mutual_information(draws)
    assert (
        (epistemic >= 0).all()
        and (epistemic <= total + 1e-9).all()
        and (total <= np.log(classes) + 1e-9).all()
    )
    assert (epistemic <= np.log(members) + 1e-9).all()
    assert (probability_variance(draws) >= 0).all()
    assert torch.allclose(mean_log_probabilities(draws).exp().sum(1), torch.ones(3, dtype=torch.float64))
    same = [draws[0]] * members
    assert (mutual_information(same) < 1e-9).all() and (probability_variance(same) < 1e-18).all()


def test_confident_members_that_disagree():
    draws = [torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])]
    assert predictive_entropy(draws).item() == pytest.approx(np.log(2))
    assert mutual_information(draws).item() == pytest.approx(np.log(2))
    assert probability_variance(draws).item() == pytest.approx(0.5)


def test_a_column_without_draws():
    for column in ("layer1.avg", "odin"):
        with pytest.raises(UsageError, match="two or more predictions of 5 classes"):
            create_head("deep-ensemble", feature=column).score(TEST)


# ---- joining


def members(cache, count=3, dataset="toy", split="test", rows=50, shift=0.0, **run):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, rows)
    sets = []
    for member in range(count):
        logits = rng.normal(0, 1, (rows, 4)) + 3 * np.eye(4)[labels] * (1 - shift)
        sets.append(
            import_arrays(
                cache,
                f"net{member}/{dataset}/{split}",
                {"z": rng.normal(0, 1, (rows, 3))},
                logits,
                labels,
                run=run,
            )
        )
    return sets


def test_joined_sets_contain_all_logits_and_their_mean(tmp_path):
    cache = FeatureCache(tmp_path)
    sets = members(cache)
    joined = join_sets(cache, "all", sets)
    logits = np.stack([np.asarray(features.logits) for features in sets], 1)
    assert joined.name == "all/toy/test" and joined.main == "ensemble.logits"
    np.testing.assert_array_equal(joined.features["ensemble.logits"][:], logits.reshape(50, 12))
    np.testing.assert_allclose(np.exp(joined.logits[:]), softmax(logits, 2).mean(1), rtol=1e-5)
    assert list(joined.ids[:]) == list(sets[0].ids[:]) and (joined.labels[:] == sets[0].labels[:]).all()
    again = join_sets(cache, "all", sets)
    assert again.origin.run["created"] == joined.origin.run["created"]


def reordered(features, order, **changes):
    columns = {name: np.asarray(getattr(features, name)[:])[order] for name in ("logits", "labels", "ids")}
    z = np.asarray(features.features["z"][:])[order]
    return dataclasses.replace(features, features={"z": z}, **columns | changes)


def test_members_are_aligned_by_their_ids(tmp_path):
    cache = FeatureCache(tmp_path)
    sets = members(cache)
    plain = join_sets(cache, "a", sets)
    order = np.random.default_rng(0).permutation(50)
    shuffled = join_sets(cache, "b", [sets[0], reordered(sets[1], order), sets[2]])
    np.testing.assert_array_equal(
        shuffled.features["ensemble.logits"][:], plain.features["ensemble.logits"][:]
    )


def test_members_of_different_sets_are_refused(tmp_path):
    cache = FeatureCache(tmp_path)
    first, second, third = members(cache)
    all_rows = np.arange(50)
    with pytest.raises(Mismatch, match="different inputs"):
        join_sets(cache, "x", [first, reordered(second, all_rows[:49])])
    with pytest.raises(Mismatch, match="different inputs"):
        join_sets(
            cache, "x", [first, reordered(second, all_rows, ids=np.array([f"other{i}" for i in range(50)]))]
        )
    with pytest.raises(Mismatch, match="different labels"):
        join_sets(cache, "x", [first, reordered(second, all_rows, labels=np.zeros(50, int))])
    with pytest.raises(Mismatch, match="3 classes"):
        join_sets(cache, "x", [first, reordered(second, all_rows, logits=np.zeros((50, 3)))])
    with pytest.raises(DataError, match="no logits"):
        join_sets(cache, "x", [first, dataclasses.replace(second, logits=None)])
    for few in ([first], [first, first]):
        with pytest.raises(UsageError, match="two different members"):
            join_sets(cache, "x", few)
    assert not any(key.startswith("x/") for key in cache)
    join_sets(cache, "x", [first, second])
    with pytest.raises(Mismatch, match="--overwrite"):
        join_sets(cache, "x", [first, third])
    assert join_sets(cache, "x", [first, third], overwrite=True).origin.run["members"] == ["net0", "net2"]


def test_all_splits_shared_by_the_members_are_joined(tmp_path):
    cache = FeatureCache(tmp_path)
    members(cache, 3, split="test")
    members(cache, 2, split="train")
    joined = join_backbones(cache, "all", ["net0", "net1", "net2"])
    assert [features.name for features in joined] == ["all/toy/test"]
    assert len(join_backbones(cache, "two", ["net0", "net1"])) == 2
    members(cache, 3, dataset="odd", split="val")
    with pytest.raises(DataError, match="odd"):
        members(cache, 1, dataset="only", split="val")
        join_backbones(cache, "y", ["net0", "net1"], dataset="only")


def test_an_ensemble_from_the_command_line(featood, toy_images):
    for seed in (0, 1):
        code, _, err = featood(
            "extract", "--backbone", "lenet", "--weights", "random", "--dataset", "toy", "--seed", seed,
            "--name", f"run{seed}", "--split", "test",
        )  # fmt: skip
        assert code == 0, err
    code, out, err = featood("cache", "join", "both", "run0", "run1")
    assert code == 0 and "both/toy/test: 60 rows of 2 members; ensemble.logits " in out, err
    code, out, err = featood(
        "score", "--head", "deep-ensemble", "--head", "msp", "--ood", "odd", "--json", "-"
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["backbone"] == "both" and [row["head"] for row in result["rows"]] == [
        "deep-ensemble",
        "msp",
    ]
    assert "random" in result["warnings"][0]
    code, out, _ = featood("cache", "ls", "--json")
    roles = {row["key"]: row["role"] for row in json.loads(out)}
    assert sorted(key for key in roles if roles[key] == "ood") == [
        "both/odd/test",
        "run0/odd/test",
        "run1/odd/test",
    ]
    code, _, err = featood("cache", "join", "both", "run0")
    assert code == 2 and "two different members" in err


def densities(cache, name, values, logits=None, rows=20):
    columns = {column: np.asarray(given, "f4") for column, given in values.items()}
    return import_arrays(cache, f"{name}/toy/test", columns, logits, np.arange(rows) % 3)


def test_densities_are_joined_where_all_members_have_one(tmp_path):
    cache, rng = FeatureCache(tmp_path), np.random.default_rng(0)
    values, logits = rng.normal(-900, 5, (2, 3, 20, 1)), rng.normal(0, 1, (3, 20, 4)).astype("f4")
    both = [
        densities(
            cache,
            f"n{m}",
            {"energy": values[0, m], "log-density": values[1, m], "other": values[0, m]},
            logits[m],
        )
        for m in range(3)
    ]
    order = rng.permutation(20)
    joined = join_sets(cache, "all", [both[0], shuffled(both[1], order), both[2]])
    assert set(joined.features) == {"ensemble.logits", "ensemble.energy", "ensemble.log-density"}
    for column, of_members in zip(("energy", "log-density"), values, strict=True):
        expected = np.concatenate(list(of_members), 1).astype("f4")
        np.testing.assert_array_equal(joined.features[f"ensemble.{column}"][:], expected)
    plain = [densities(cache, f"p{m}", {"log-density": values[1, m]}) for m in range(2)]
    joined = join_sets(cache, "plain", plain)
    assert joined.logits is None and joined.main == "ensemble.log-density"
    assert set(join_sets(cache, "mixed", [both[0], plain[1]]).features) == {"ensemble.log-density"}
    with pytest.raises(DataError, match="no logits to join"):
        join_sets(cache, "none", [both[0], densities(cache, "q", {"z": values[1, 0]})])


def shuffled(features, order):
    columns = {name: np.asarray(getattr(features, name)[:])[order] for name in ("logits", "labels", "ids")}
    rows = {name: np.asarray(values[:])[order] for name, values in features.features.items()}
    return dataclasses.replace(features, features=rows, **columns)
