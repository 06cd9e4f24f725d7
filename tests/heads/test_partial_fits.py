"""Fits by parts: a part that comes again, one that is refused, one that is too small."""

import dataclasses

import numpy as np
import pytest

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, Mismatch, UsageError
from featood.heads import create_head
from featood.testing.fixture import Blockwise, mapped, synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = TRAIN.rows(np.asarray(TRAIN.labels) >= 0)
HALF = len(KNOWN) // 2


def halves():
    return KNOWN.rows(slice(0, HALF)), KNOWN.rows(slice(HALF, None))


@pytest.mark.parametrize("name", ["mahalanobis", "gmm", "cosine", "neco"])
def test_a_part_that_comes_again_is_refused_and_leaves_the_fit(name):
    first, second = halves()
    head = create_head(name).partial_fit(first)
    for again in (first, Blockwise.of(first), mapped(first, lambda values: values.astype(np.float64))):
        with pytest.raises(UsageError, match="allow_repeat=True"):
            head.partial_fit(again)
    head.partial_fit(second)
    assert head.record.rows == len(KNOWN)
    np.testing.assert_allclose(head.score(TEST), create_head(name).fit(KNOWN).score(TEST), rtol=1e-6)


def test_a_repeat_that_is_meant_counts_twice():
    first, second = halves()
    head = create_head("mahalanobis").partial_fit(first).partial_fit(second)
    head.partial_fit(first, allow_repeat=True)
    twice = KNOWN.rows(np.concatenate([np.arange(len(KNOWN)), np.arange(HALF)]))
    assert head.record.rows == len(twice)
    np.testing.assert_allclose(head.score(TEST), create_head("mahalanobis").fit(twice).score(TEST), rtol=1e-6)


def test_what_differs_in_labels_or_in_a_value_is_another_part():
    first, _ = halves()
    other = dataclasses.replace(first, labels=(np.asarray(first.labels) + 1) % 5)
    nudged = mapped(first, lambda values: np.where(np.arange(len(values))[:, None] == 7, values + 1, values))
    head = create_head("mahalanobis").partial_fit(first).partial_fit(other).partial_fit(nudged)
    assert head.record.rows == 3 * len(first)


def test_columns_that_the_head_does_not_read_do_not_matter():
    first, _ = halves()
    head = create_head("mahalanobis").partial_fit(first)
    with pytest.raises(UsageError, match="added before"):
        head.partial_fit(
            FeatureSet({"avg": first.features["avg"]}, labels=first.labels, classifier=first.classifier)
        )


def test_a_part_that_is_refused_adds_nothing():
    first, second = halves()
    spoilt = mapped(
        second, lambda values: np.where(np.arange(len(values))[:, None] == len(second) - 1, np.nan, values)
    )
    head = create_head("mahalanobis").partial_fit(first)
    with pytest.raises(DataError, match="NaN"):
        head.partial_fit(Blockwise.of(spoilt))
    head.partial_fit(second)
    np.testing.assert_allclose(head.score(TEST), create_head("mahalanobis").fit(KNOWN).score(TEST), rtol=1e-6)


def test_rows_too_few_to_fit_on_count_when_more_come():
    head = create_head("mahalanobis")
    one, rest = KNOWN.rows(slice(0, 1)), KNOWN.rows(slice(1, None))
    with pytest.raises(DataError, match="more rows"):
        head.partial_fit(one)
    with pytest.raises(UsageError, match="added before"):
        head.partial_fit(one)
    head.partial_fit(rest)
    np.testing.assert_allclose(head.score(TEST), create_head("mahalanobis").fit(KNOWN).score(TEST), rtol=1e-6)
    assert head.record.rows == len(KNOWN)


def test_empty_parts_may_come_as_often_as_they_like():
    first, _ = halves()
    empty = first.rows(slice(0, 0))
    head = create_head("mahalanobis").partial_fit(first).partial_fit(empty).partial_fit(empty)
    assert head.record.rows == len(first)


def test_what_was_added_to_make_a_covariance_sound_is_noted():
    few = KNOWN.rows(slice(0, 15))
    with pytest.warns(UserWarning, match="singular"):
        head = create_head("mahalanobis").partial_fit(few)
    assert any("singular" in note for note in head.record.notes)
    assert not create_head("mahalanobis").partial_fit(KNOWN).record.notes


def test_parts_of_whole_blocks_give_the_same_bits_as_one_fit():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 5, 9000)
    rows = rng.normal(size=(9000, 7)).astype(np.float32) + labels[:, None].clip(0)
    for name, options in (("mahalanobis", {}), ("gmm", {}), ("gmm", {"covariance": "diag"}), ("cosine", {})):
        whole = create_head(name, **options).fit(rows, labels)
        parts = create_head(name, **options).partial_fit(rows[:8192], labels[:8192])
        parts.partial_fit(rows[8192:], labels[8192:])
        for key, values in whole.state.items():
            assert values.numpy().tobytes() == parts.state[key].numpy().tobytes(), (name, key)


@pytest.mark.parametrize(
    "name", ["mahalanobis", "gmm", "neco", "kpca", "pnml", "kl-matching", "dice", "cosine"]
)
def test_merged_heads_are_fitted_to_the_rows_of_both(name):
    first, second = halves()
    options = {"size": 32} if name == "kpca" else {}
    one, other = (create_head(name, **options).partial_fit(part) for part in (second, first))
    before = other.score(TEST)
    assert one.merge(other) is one and one.record.rows == len(KNOWN)
    np.testing.assert_allclose(
        one.score(TEST), create_head(name, **options).fit(KNOWN).score(TEST), rtol=1e-6
    )
    assert np.array_equal(other.score(TEST), before)
    one.partial_fit(TEST)  # continues
    assert one.record.rows == len(KNOWN) + len(TEST) and np.array_equal(other.score(TEST), before)


def test_too_few_rows_in_each_of_two_heads_may_suffice_in_both():
    parts = [KNOWN.rows(slice(row, row + 1)) for row in range(2)] + [KNOWN.rows(slice(2, None))]
    heads = [create_head("mahalanobis") for _ in parts]
    for head, part in zip(heads[:2], parts[:2], strict=True):
        with pytest.raises(DataError, match="more rows"):
            head.partial_fit(part)
    heads[2].partial_fit(parts[2]).merge(heads[0]).merge(heads[1])
    np.testing.assert_allclose(
        heads[2].score(TEST), create_head("mahalanobis").fit(KNOWN).score(TEST), rtol=1e-6
    )


def test_heads_that_cannot_be_merged_say_why():
    first, second = halves()
    head = create_head("mahalanobis").partial_fit(first)
    state = {key: values.clone() for key, values in head.state.items()}
    for other, reason in (
        (create_head("cosine").partial_fit(second), "one kind with the same options"),
        (create_head("mahalanobis", ridge=0.1).partial_fit(second), "one kind with the same options"),
        (create_head("mahalanobis").fit(second), "fitted by partial_fit"),
        (create_head("mahalanobis"), "fitted by partial_fit"),
        (create_head("mahalanobis").partial_fit(first), "both heads contain the same part"),
    ):
        with pytest.raises(UsageError, match=reason):
            head.merge(other)
    elsewhere = create_head("mahalanobis").partial_fit(dataclasses.replace(second, fingerprint="b" * 64))
    here = create_head("mahalanobis").partial_fit(dataclasses.replace(first, fingerprint="a" * 64))
    with pytest.raises(Mismatch, match="extracted differently"):
        here.merge(elsewhere)
    assert all(np.array_equal(head.state[key], values) for key, values in state.items())
    twice = head.merge(create_head("mahalanobis").partial_fit(first), allow_repeat=True)
    assert twice.record.rows == 2 * len(first)


def test_two_passes_have_no_parts():
    with pytest.raises(UsageError, match="ledoit-wolf needs two passes"):
        create_head("mahalanobis", shrinkage="ledoit-wolf").partial_fit(KNOWN)
    first, second = halves()
    for name in ("relative-mahalanobis", "gmm"):
        parts = create_head(name, shrinkage="oas").partial_fit(first).partial_fit(second)
        whole = create_head(name, shrinkage="oas").fit(KNOWN)
        np.testing.assert_allclose(parts.score(TEST), whole.score(TEST), rtol=1e-6)
