"""What heads make of drawn sets, and of inputs that are right but unusual."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from featood import extract
from featood.cache import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads import create_head, list_heads
from featood.heads.base.feature_head import StreamingHead
from featood.heads.registry import head_class
from featood.pipeline.scoring import score
from featood.testing import Subject
from featood.testing.check import same
from featood.testing.extras import with_extras
from featood.testing.fixture import mapped, synthetic_sets
from featood.testing.properties import check_properties

QUICK = [name for name in list_heads() if not head_class(name).trains]
LEARNING = [name for name in QUICK if head_class(name).card.learns]
STREAMING = [name for name in QUICK if issubclass(head_class(name), StreamingHead)]
RELATIVE = ("mahalanobis", "relative-mahalanobis", "rmd-pp", "gmm", "pca-reconstruction", "ssd")
"""Heads whose order of rows does not hang on the unit that features are measured in."""
THREADED = ("mahalanobis", "gmm", "knn", "vim", "gram", "kpca", "energy", "isolation-forest")


COMPOSED = ("compose", "fisher", "rank-average", "isolation-forest", "weighted-energy")
"""Made of other heads, or slow."""
WHOLE = [name for name in QUICK if name not in COMPOSED]


@pytest.fixture(scope="module")
def sets():
    return tuple(with_extras(data, seed) for seed, data in enumerate(synthetic_sets(), 1))


@pytest.mark.parametrize("name", [name for name in QUICK if name not in COMPOSED])
def test_drawn_sets(name):
    check_properties(name, examples=5)


def linear_set(rows, classes):
    """A set of rows ``[N, D]`` in float32, with the logits that a random classifier gives them."""
    rng, rows = np.random.default_rng(0), np.array(rows, "f4")
    linear = rng.normal(size=(classes, rows.shape[1])), rng.normal(size=classes)
    logits = np.asarray(rows @ linear[0].T + linear[1], "f4")
    labels = np.arange(len(rows)) % classes
    return FeatureSet({"avg": rows, "layer1.gram": rows}, logits=logits, labels=labels, classifier=linear)


NORMAL = np.random.default_rng(1).normal(size=(20, 2))


@pytest.mark.parametrize("name", ("mahalanobis", "gmm", "relative-mahalanobis", "gem"))
def test_rows_as_far_as_float32_reaches_keep_their_order(name):
    """Their squares are beyond float32, but not beyond the score."""
    subject = Subject.of(name)
    values = [[1e18, -1e18], [5e30, -5e30], [5e36, -5e36], [3e38, -3e38]]
    scores = subject.score(subject.fit(linear_set(NORMAL, 2)), linear_set(values, 2))
    assert (np.diff(scores) > 0).all() and scores[-1] > 1e70


def test_gram_sums_beyond_a_silent_channel():
    """What lies beyond a bound of zero is divided by a millionth."""
    subject, values = Subject.of("gram"), np.array([[1.0, 2.0], [5e36, 1.0], [3e38, 3e38]], "f4")
    scores = subject.score(subject.fit(linear_set(np.zeros((8, 2)), 1)), linear_set(values, 1))
    np.testing.assert_allclose(scores, values.astype("f8").sum(1) / 1e-6, rtol=1e-12)


def test_gradients_beyond_float32_keep_their_order():
    rows = np.array([1e10, 3e18, 1e30, 3e37])[:, None] * np.linspace(0.5, 1, 6)
    data = linear_set(rows, 5)
    scores = Subject.of("gradient-uncertainty").create().score(data)
    expected = []
    for row, logits in zip(data.features["avg"].astype("f8"), data.logits.astype("f8"), strict=True):
        p = np.exp(logits - logits.max())
        expected.append(-((5 * p / p.sum() - 1) ** 2).sum() * ((row**2).sum() + 1))
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    assert (np.diff(scores) < 0).all() and scores[-1] < -1e70


def test_rows_without_a_score_lie_beyond_all_that_have_one():
    head = Subject.of("mahalanobis", nonfinite="drop").fit(linear_set(NORMAL, 2))
    with pytest.warns(UserWarning, match="1 rows hold NaN or infinite values"):
        scores = head.score(FeatureSet({"avg": np.array([[3e38, 0], [np.nan, 0]], "f4")}))
    assert 1e70 < scores[0] < scores[1]
    with pytest.warns(UserWarning, match="1 rows of .* got no finite score"):
        again = head.score(FeatureSet({"avg": np.array([[3e38, 0], [1e200, 0]])}))
    np.testing.assert_allclose(again, scores, rtol=1e-6)


@pytest.mark.parametrize("name", ("temperature-scaling", "margin"))
def test_what_has_no_value_with_one_class_is_refused(name):
    data = linear_set(NORMAL, 1)
    with pytest.raises(DataError, match=rf"^{name} needs logits of at least 2 classes; those of .* have 1$"):
        Subject.of(name).fit(data).score(data)


@pytest.mark.parametrize(
    "name", ("msp", "entropy", "doctor", "gen", "kl-matching", "gradnorm", "mcm", "fdbd", "ora")
)
def test_what_has_one_value_with_one_class_is_given(name):
    """Each row has the same then, and a comparison of heads warns that it detects nothing."""
    data = linear_set(NORMAL, 1)
    found = score({name: Subject.of(name).fit(data)}, data, {"other": linear_set(NORMAL + 3, 1)})
    assert all(len(np.unique(scores)) == 1 for scores in found.scores.values())
    assert f"{name} gives every row the same score, so it detects nothing" in found.results["warnings"]


@pytest.mark.parametrize("name", ("energy", "max-logit"))
def test_the_only_logit_is_the_score(name):
    data = linear_set(NORMAL, 1)
    np.testing.assert_allclose(Subject.of(name).create().score(data), -data.logits[:, 0], rtol=1e-12)


@pytest.mark.parametrize("name", LEARNING)
def test_a_fit_does_not_depend_on_the_memory_layout(name, sets, tmp_path):
    train, test = sets

    def mapped_file(values):
        """Big-endian, Fortran-ordered, read-only, on disk."""
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, np.asfortranarray(values.astype(values.dtype.newbyteorder(">"))))
        return np.load(path, mmap_mode="r")

    subject = Subject.of(name)
    expected = subject.score(subject.fit(train), test)
    head = subject.fit(mapped(train, mapped_file))
    same(subject.score(head, test), expected)
    same(subject.score(head, mapped(test, mapped_file)), expected)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_of_any_type(name, sets):
    """Quantised features are stored as int8."""
    subject = Subject.of(name)
    train, test = (mapped(data, lambda values: np.clip(8 * values, -127, 127).astype("i1")) for data in sets)
    widened = [mapped(data, lambda values: values.astype("f4")) for data in (train, test)]
    same(subject.score(subject.fit(train), test), subject.score(subject.fit(widened[0]), widened[1]))


@pytest.mark.parametrize("name", THREADED)
def test_scores_do_not_depend_on_the_number_of_threads(name, sets):
    subject = Subject.of(name)
    head, threads = subject.fit(sets[0]), torch.get_num_threads()
    one = subject.score(head, sets[1])
    try:
        torch.set_num_threads(2)
        same(subject.score(head, sets[1]), one, 1e-6)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", STREAMING)
def test_a_sum_over_parts_is_associative_and_commutative(name, sets):
    train, test = sets
    parts = [train.rows(slice(start, start + 85)) for start in range(0, len(train), 85)]
    found = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        head: Any = Subject.of(name).create()
        for part in order:
            head.partial_fit(parts[part])
        found.append(head.score(test))
    same(found[1], found[0])


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e18])
@pytest.mark.parametrize("name", RELATIVE)
def test_the_unit_of_the_features_does_not_matter(name, factor, sets):
    train, test = (dataclasses.replace(data, logits=None, classifier=None) for data in sets)
    scaled = [mapped_features(data, lambda values: values * np.float32(factor)) for data in (train, test)]
    plain = Subject.of(name).fit(train).score(test)
    same(ranks(Subject.of(name).fit(scaled[0]).score(scaled[1])), ranks(plain), 0.02)


@pytest.mark.parametrize("name", ("mahalanobis", "relative-mahalanobis", "gmm"))
def test_a_constant_offset_does_not_matter(name, sets):
    """Sums of squares about zero would lose seven of eight digits; float32 itself keeps but three of the values."""
    train, test = (dataclasses.replace(data, logits=None, classifier=None) for data in sets)
    moved = [mapped_features(data, lambda values: values + np.float32(1e4)) for data in (train, test)]
    plain = [mapped_features(data, lambda values: values.astype("f8") - 1e4) for data in moved]
    expected = Subject.of(name).fit(plain[0]).score(plain[1])
    assert np.corrcoef(ranks(Subject.of(name).fit(moved[0]).score(moved[1])), ranks(expected))[0, 1] > 0.999


def mapped_features(data, change):
    return dataclasses.replace(
        data, features={name: change(values) for name, values in data.features.items()}
    )


def ranks(scores):
    return np.argsort(np.argsort(scores)).astype(float)


def test_a_million_rows_in_small_blocks():
    rng = np.random.default_rng(0)
    head = create_head("mahalanobis", space="none").fit(linear_set(NORMAL, 2))
    rows = rng.normal(size=(1_000_000, 2)).astype("f4")
    scores = head.score(FeatureSet({"avg": rows}))
    means = np.stack([NORMAL[c::2].astype("f4").astype("f8").mean(0) for c in (0, 1)])
    away = NORMAL.astype("f4").astype("f8") - means[np.arange(20) % 2]
    precision = np.linalg.inv(away.T @ away / 20)
    squared = [((rows - mean) @ precision * (rows - mean)).sum(1) for mean in means.astype("f8")]
    np.testing.assert_allclose(scores, np.min(squared, 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(head.score(FeatureSet({"avg": rows[7:20]})), scores[7:20])


@pytest.mark.parametrize("device", ("nowhere", "cuda:99"))
def test_a_device_that_is_not_there_is_refused_in_a_line(device, tmp_path):
    with pytest.raises(
        UsageError, match=f"^device '{device}' cannot be used: .*; 'cpu' is always available$"
    ):
        create_head("mahalanobis").fit(linear_set(NORMAL, 2), device=device)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with pytest.raises(UsageError, match=f"^device '{device}' cannot be used"):
        extract(net, [torch.zeros(2, 3, 2, 2)], cache=tmp_path, name="net/toy/test", device=device)


def test_the_usual_device_is_chosen_where_it_is_asked_for():
    head = create_head("mahalanobis").fit(linear_set(NORMAL, 2), device="auto")
    assert torch.device(head.device).type in ("cpu", "cuda", "mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", WHOLE)
def test_rows_on_a_gpu_are_scored_as_elsewhere(name, sets):
    subject = Subject.of(name)
    train, test = (mapped(data.to_torch(), lambda values: values.cuda()) for data in sets)
    head = subject.create().fit(train, device="cuda")
    expected = subject.score(subject.fit(sets[0]), sets[1])
    same(np.asarray(head.score(test)), expected, 1e-4)
