"""Blocks are read one ahead, in order, and errors are raised in their turn."""

import threading

import numpy as np
import pytest
from test_cache import KEY, STORES, make_rows, write_all

from featood import FeatureSet
from featood.cache.read_ahead import read_ahead
from featood.errors import CacheCorrupt


def test_one_result_is_computed_ahead_and_no_more():
    started, second = [], threading.Event()

    def read(number):
        started.append(number)
        if number == 1:
            second.set()
        return number

    results = read_ahead([lambda number=number: read(number) for number in range(5)])
    assert next(results) == 0 and second.wait(10)
    assert started == [0, 1]
    assert list(results) == [1, 2, 3, 4] and started == [0, 1, 2, 3, 4]
    assert list(read_ahead([])) == []


def test_an_error_is_raised_in_its_turn_and_ends_the_thread():
    before = threading.active_count()

    def broken():
        raise OSError(5, "Input/output error")

    results = read_ahead([lambda: 1, broken, lambda: 3])
    assert next(results) == 1
    with pytest.raises(OSError) as caught:
        next(results)
    assert caught.value.errno == 5 and list(results) == []
    closed = read_ahead([lambda: 1, lambda: 2, lambda: 3])
    assert next(closed) == 1
    closed.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("store", STORES)
def test_blocks_before_a_damaged_one_are_given(tmp_path, store):
    rows = make_rows(1000)
    cache = write_all(tmp_path, store, rows)
    blocks = list(cache[KEY].blocks(256))
    np.testing.assert_array_equal(np.concatenate([block.logits for block in blocks]), rows["logits"])
    name = {"zarr": "avg/c/2/0", "hdf5": "block-00002.h5"}[store]
    path = cache.folder(*KEY.split("/")) / "columns" / name
    path.write_bytes(path.read_bytes().replace(rows["avg"][600:602].tobytes(), bytes(96)))
    found = []
    with pytest.raises(CacheCorrupt, match="block 2"):
        for block in cache[KEY].blocks(256):
            found.append(len(block))
    assert found == [256, 256]


def test_rows_in_memory_are_not_read_in_a_thread(monkeypatch):
    monkeypatch.setattr("featood.cache.feature_set.read_ahead", None)
    assert len(list(FeatureSet({"avg": np.zeros((10, 2))}).blocks(4))) == 3
