"""Heads on numbers of every type, and on numbers that lose precision in float32."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from featood.cache.feature_set import FeatureSet
from featood.heads import create_head, head_class, list_heads
from featood.testing.check import Subject
from featood.testing.fixture import mapped, synthetic_sets

TRAIN, TEST = synthetic_sets()


def scores(name, train, test, **options):
    return create_head(name, **options).fit(train).score(test)


OF_FEATURES = (
    "cosine", "she", "knn", "nnguide", "cfood", "fdbd", "ora", "nci", "norm", "gradnorm", "mcm", "kpca", "neco", "vra",
    "lof", "mean-logits", "relation", "grood", "otod",
)  # fmt: skip


def far(data, wide):
    """Shift rows far from the origin, with the same logits; optionally as float64 with the same values."""
    w, b = (np.asarray(part, dtype=float) for part in data.classifier)
    kind = np.float64 if wide else np.float32
    rows = (np.asarray(data.features["avg"]) + np.float32(1e4)).astype(np.float32)
    bias = b - 1e4 * w.sum(1)
    logits = (rows.astype(float) @ w.T + bias).astype(np.float32)
    return FeatureSet(
        {"avg": rows.astype(kind)}, logits=logits.astype(kind), labels=data.labels, classifier=(w, bias)
    )


@pytest.mark.parametrize("name", OF_FEATURES)
def test_rows_far_from_the_origin_are_ranked_as_in_float64(name):
    options = {"size": 128} if name == "kpca" else {}
    found, exact = (scores(name, far(TRAIN, wide), far(TEST, wide), **options) for wide in (False, True))
    assert spearmanr(found, exact).statistic > 0.9999 and exact.std() > 0


def test_cosine_far_from_the_origin():
    train, test = far(TRAIN, False), far(TEST, False)
    z, x = (np.asarray(data.features["avg"], dtype=np.longdouble) for data in (train, test))
    labels = np.asarray(TRAIN.labels)
    means = [z[labels == c].mean(0) for c in range(TRAIN.num_classes)]
    expected = [-max(row @ m / np.sqrt(row @ row) / np.sqrt(m @ m) for m in means) for row in x]
    assert spearmanr(scores("cosine", train, test), np.array(expected, float)).statistic > 0.9999


@pytest.mark.parametrize("kind", ["int8", "uint8", "float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name, card in list_heads().items() if not head_class(name).trains])
def test_any_type_of_numbers(name, kind):
    subject = Subject.of(name)
    shift = 100 if kind == "uint8" else 0

    def whole(values):
        return np.clip(np.round(8 * np.asarray(values)), -100, 100).astype(np.float32) + shift

    def cast(data):
        if kind == "bfloat16":
            return mapped(data.to_torch(), lambda values: values.bfloat16())
        return mapped(data, lambda values: values.astype(kind))

    train, test = mapped(subject.train, whole), mapped(subject.test, whole)
    found, expected = subject.fit(cast(train)).score(cast(test)), subject.fit(train).score(test)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
