"""Memory of fits and scores does not depend on the number of rows, except for the heads that keep rows."""

import dataclasses
import functools
import threading
import weakref

import numpy as np
import pytest
from helpers.live_memory import CopiedBlocks, LiveTensors

from featood.cache import FeatureCache, FeatureSet
from featood.cache.feature_set import ROWS
from featood.cache.transfer import import_arrays
from featood.heads import create_head, head_class, list_heads
from featood.heads.base import trained_head
from featood.speed.synthetic import clustered
from featood.testing import Subject
from featood.testing.extras import example_sets

BLOCK = dataclasses.replace(example_sets()[0], ids=None)
SMALL, LARGE = 4, 8
"""Numbers of blocks of the sets that are compared."""
SAMPLE = 200
SAMPLES = {
    "cfood": {"rows": SAMPLE},
    "adascale-a": {"sample": SAMPLE},
    "adascale-l": {"sample": SAMPLE},
    "compose": {"sample": SAMPLE},
    "fisher": {"sample": SAMPLE, "members": ("energy", "mahalanobis")},
    "isolation-forest": {"rows": SAMPLE},
    "lof": {"rows": SAMPLE},
    "one-class-svm": {"rows": SAMPLE},
    "rank-average": {"sample": SAMPLE, "members": ("energy", "mahalanobis")},
}
"""Options of heads that keep a sample, to make it smaller than the sets."""
KEEP_ROWS = {"combood", "grood", "knn", "nnguide", "relation"}
"""Heads that keep all rows, by their definition. So do heads that train, and `compose`, of which a member trains."""
KEEP_OUTLIERS = {"csp", "neglabel", "negrefine"}
"""Heads that keep a share of the outliers: words, whose number does not depend on the number of images."""
FITTING = 2
"""Most bytes by which a further row may increase the peak of a fit: less than one number for each row."""
SCORING = 17
"""Most bytes in scoring: the scores of the blocks, and once more when they are joined."""
FLAT = [name for name in list_heads() if not head_class(name).trains and name not in {*KEEP_ROWS, "compose"}]


@functools.cache
def repeated(blocks):
    """A set of equal blocks, so that the peak can grow only by what is kept of them."""

    def tiled(values):
        return np.concatenate([values.astype("f2") if values.dtype.kind == "f" else values] * blocks)

    features = {name: tiled(values) for name, values in BLOCK.features.items()}
    data = dataclasses.replace(
        BLOCK, features=features, logits=tiled(BLOCK.logits), labels=tiled(BLOCK.labels)
    )
    return dataclasses.replace(CopiedBlocks.of(data), most=len(BLOCK))


def growth(run):
    """Bytes by which the peak grows for each further row."""
    peaks = []
    for blocks in (SMALL, LARGE):
        with LiveTensors() as tensors:
            run(repeated(blocks))
        peaks.append(tensors.peak)
    return (peaks[1] - peaks[0]) / ((LARGE - SMALL) * len(BLOCK))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FLAT)
def test_memory_is_flat(name):
    subject = Subject.of(name, **SAMPLES.get(name, {}))
    if subject.create().learns and name not in KEEP_OUTLIERS:
        assert growth(subject.fit) < FITTING
    head = subject.fit(repeated(SMALL))
    assert growth(head.score) < SCORING


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(KEEP_ROWS))
def test_heads_that_keep_rows_keep_them_once(name):
    data = repeated(SMALL)
    head = Subject.of(name).fit(data)
    stored = head.state["rows"]
    assert str(stored.dtype).endswith(str(data.features["avg"].dtype))
    others = sum(values.nbytes for key, values in head.state.items() if key not in ("rows", "logits"))
    assert others <= 8 * (len(data) + data.features["avg"].shape[1])
    assert growth(head.score) < SCORING


def test_a_training_keeps_rows_in_float32(monkeypatch):
    monkeypatch.setattr(trained_head, "ROWS", len(BLOCK))
    size = BLOCK.features["avg"].shape[1]
    numbers = 4 * 8  # labels and row numbers
    assert growth(Subject.of("mlp").fit) < (2 + 4) * size + numbers  # for a moment, also as they are stored


@pytest.mark.parametrize(("keep", "expected"), [
    (lambda block: block, BLOCK.features["avg"].shape[1] * 2),
    (lambda block: block.feature("avg")[:, :1].double(), 8),
    (lambda block: block.feature("avg").numpy(), BLOCK.features["avg"].shape[1] * 2),
])  # fmt: skip
def test_what_is_kept_of_each_block_is_found(keep, expected):
    found = growth(lambda data: [keep(block) for block in data.select("avg").blocks()])
    assert found == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("name", ["energy", "mahalanobis"])
def test_few_blocks_of_a_stored_set_are_alive(name, monkeypatch, tmp_path):
    made = clustered(9 * ROWS + 5, 3, 2, seed=0)
    cache = FeatureCache(tmp_path)
    data = import_arrays(cache, "net/known/train", made.features, made.logits, made.labels, made.classifier)
    lock, alive, most = threading.Lock(), 0, 0

    def change(by):
        nonlocal alive, most
        with lock:
            alive += by
            most = max(most, alive)

    def read(source, start, size, original=FeatureSet._block):
        block = original(source, start, size)
        values = (
            block.logits if block.logits is not None else next(iter(block.features.values()), block.labels)
        )
        change(1)
        weakref.finalize(values.untyped_storage(), change, -1)
        return block

    monkeypatch.setattr(FeatureSet, "_block", read)
    scores = create_head(name).fit(data).score(data)
    assert len(scores) == len(data) and alive == 0
    assert 1 < most <= 3  # of the last step, of this one, and the one that is read ahead
