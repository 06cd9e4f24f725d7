"""Which extraction is used: the newest that was not made only to be scored against."""

import numpy as np
import pytest

from featood.cache import FeatureCache, import_arrays
from featood.errors import DataError
from featood.pipeline.selection import select


def put(cache, key, role=""):
    rows = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
    import_arrays(cache, key, {"avg": rows}, rows, np.arange(8) % 3, run={"role": role})


@pytest.fixture
def cache(tmp_path):
    """Two networks; the training set of one is scored against by the other, later."""
    cache = FeatureCache(tmp_path)
    for split in ("train", "test"):
        put(cache, f"first/cats/{split}")
    put(cache, "second/dogs/train")
    put(cache, "second/cats/test", "ood")
    put(cache, "second/birds/test", "ood")
    return cache


def found(cache, *names):
    selection = select(cache, *names)
    return f"{selection.backbone}/{selection.dataset}", list(selection.entries)


def test_a_set_to_score_against_does_not_hide_the_training_set_of_another_network(cache):
    assert found(cache, "", "cats") == ("first/cats", ["train", "test"])


def test_a_set_to_score_against_is_used_if_it_is_the_only_one_of_its_name(cache):
    assert found(cache, "", "birds") == ("second/birds", ["test"])
    assert found(cache, "second", "cats") == ("second/cats", ["test"])


def test_without_a_dataset_the_newest_in_distribution_set_is_used(cache):
    assert found(cache) == found(cache, "second") == ("second/dogs", ["train"])
    cache.remove(["second/dogs/train"])
    assert found(cache)[0] == "first/cats"
    with pytest.raises(DataError, match="second is not in the cache"):
        select(cache, "second")
