"""Near duplicates of training rows, planted in other sets; the oracle compares all pairs in float64."""

import dataclasses
import json

import numpy as np
import pytest

from featood.cache import FeatureSet
from featood.errors import DataError, Mismatch, UsageError
from featood.pipeline.duplicates import find_duplicates

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 16)).astype("f4")
OTHER = RNG.normal(size=(150, 16)).astype("f4")
OTHER[7], OTHER[20] = 3 * ROWS[11], ROWS[300]  # the length of a row does not matter
OTHER[90] = ROWS[5] + 1e-3 * RNG.normal(size=16)


def named(prefix, rows):
    ids = np.array([f"{prefix}{number}" for number in range(len(rows))])
    return FeatureSet({"avg": rows}, ids=ids, name=f"net/{prefix}/test")


TRAIN, SET = named("train", ROWS), named("odd", OTHER)


def cosines(left, right):
    left, right = (
        rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (left.astype(float), right.astype(float))
    )
    return left @ right.T


def usual(rows, share):
    among = cosines(rows, rows)
    np.fill_diagonal(among, -1)
    distances = np.sqrt(np.maximum(0, 2 - 2 * among.max(1)))
    return 1 - np.quantile(distances, share) ** 2 / 2


@pytest.mark.parametrize("share", [0.001, 0.05])
def test_planted_duplicates_are_found_with_their_rows(share):
    threshold, (found,) = find_duplicates(TRAIN, [SET], share=share)
    assert threshold == pytest.approx(usual(ROWS, share), abs=1e-6)
    pairs = {(pair.id, pair.train_id) for pair in found.pairs}
    nearest = cosines(OTHER, ROWS)
    rows = np.flatnonzero(nearest.max(1) >= threshold)
    assert pairs == {(f"odd{row}", f"train{nearest[row].argmax()}") for row in rows}
    assert {("odd7", "train11"), ("odd20", "train300"), ("odd90", "train5")} <= pairs
    assert [pair.cosine for pair in found.pairs] == sorted(
        (pair.cosine for pair in found.pairs), reverse=True
    )
    assert found.rows == 150 and found.largest == pytest.approx(1, abs=1e-9)


def test_a_set_without_duplicates_has_none():
    clean = named("clean", RNG.normal(size=(150, 16)).astype("f4"))
    _, (found,) = find_duplicates(TRAIN, [clean])
    assert found.pairs == () and found.largest == pytest.approx(
        cosines(clean.feature()[:], ROWS).max(), abs=1e-6
    )


def test_a_given_threshold_overrules_that_of_the_training_rows():
    threshold, (found,) = find_duplicates(TRAIN, [SET], 0.6)
    assert threshold == pytest.approx(0.6)
    assert len(found.pairs) == (cosines(OTHER, ROWS).max(1) >= 0.6).sum() > 3


def test_duplicates_among_the_training_rows_do_not_hide_others():
    threshold, (found,) = find_duplicates(named("train", np.concatenate([ROWS, ROWS[:100]])), [SET])
    assert threshold == pytest.approx(1 - 5e-7)  # not 1, which equal rows of other lengths do not quite reach
    near = np.flatnonzero(cosines(OTHER, ROWS).max(1) >= threshold)
    assert {pair.id for pair in found.pairs} == {f"odd{row}" for row in near} >= {"odd7", "odd20"}


def test_half_precision_is_compared_as_it_is_stored():
    half = [FeatureSet({"avg": np.asarray(one.feature()[:]).astype("f2")}) for one in (TRAIN, SET)]
    _, (found,) = find_duplicates(half[0], [half[1]])
    assert {(pair.id, pair.train_id) for pair in found.pairs} == {("7", "11"), ("20", "300"), ("90", "5")}


def test_what_cannot_be_compared():
    with pytest.raises(Mismatch, match="another backbone"):
        find_duplicates(TRAIN, [dataclasses.replace(SET, fingerprint="f" * 64)])
    with pytest.raises(DataError, match="NaN"):
        find_duplicates(TRAIN, [named("odd", np.full((2, 16), np.nan, "f4"))])
    with pytest.raises(DataError, match="need two"):
        find_duplicates(named("train", ROWS[:1]), [SET])
    with pytest.raises(UsageError, match="cosine is between"):
        find_duplicates(TRAIN, [SET], 2.0)
    with pytest.raises(UsageError, match="no feature column"):
        find_duplicates(TRAIN, [SET], feature="std")


def test_command(featood, tmp_path):
    for name, split, rows in (("toy", "train", ROWS), ("odd", "test", OTHER)):
        np.save(tmp_path / f"{name}.npy", rows)
        place = ("--backbone", "x", "--dataset", name, "--split", split)
        assert featood("import", "--features", tmp_path / f"{name}.npy", *place)[0] == 0
    words = ("cache", "duplicates", "--backbone", "x", "--dataset", "toy")
    code, out, err = featood(*words, "--json")
    body = json.loads(out)
    assert code == 0 and body["train"] == "x/toy/train" and body["share"] == 0.001, err
    (found,) = body["sets"]
    assert found["set"] == "x/odd/test" and found["near"] == 3 == len(found["pairs"])
    code, out, err = featood(*words, "x/odd", "--cosine", "0.5", "--pairs", "1")
    assert (
        code == 0
        and out.count(" is near ") == 1
        and "cosine of at least 0.500000" in err
        and "as given" in err
    )


def test_sets_that_cannot_be_compared_are_named(featood, tmp_path):
    np.save(tmp_path / "toy.npy", ROWS)
    for name, split in (("toy", "train"), ("odd", "test"), ("cut", "test")):
        place = ("--backbone", "x", "--dataset", name, "--split", split)
        assert featood("import", "--features", tmp_path / "toy.npy", *place)[0] == 0
    words = ("cache", "duplicates", "--backbone", "x", "--dataset", "toy")
    next((tmp_path / "cache" / "x" / "cut" / "test" / "commits").iterdir()).unlink()
    code, out, err = featood(*words, "--pairs", "0")
    assert code == 0 and "x/odd/test" in out and "x/cut/test is left out: it is incomplete" in err
    code, _, err = featood(*words, "x/toy/train")
    assert code == 2 and "no set to compare with x/toy/train" in err
