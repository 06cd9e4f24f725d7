import pytest
from test_cache import KEY, STORES, make_manifest, make_rows, write_all

from featood.cache import FeatureCache
from featood.cache.reader import make_store
from featood.errors import CacheCorrupt


def test_a_set_is_never_a_mixture_of_two_recipes(tmp_path, monkeypatch):
    """Without locks, a writer may continue in a set that another writer has started again."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    cache, rows = FeatureCache(tmp_path), [make_rows(300, seed) for seed in (0, 1)]
    writers = [
        cache.writer(KEY, make_manifest(values, "hdf5", variant=str(number)), overwrite=True)
        for number, values in enumerate(rows)
    ]
    for number, block in ((1, 0), (0, 1)):
        values = {name: column[writers[number].span(block)] for name, column in rows[number].items()}
        writers[number].write(block, values)
    with pytest.raises(CacheCorrupt, match="block 1"):
        cache[KEY]
    assert writers[1].pending() == [1]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" + content]
)
def test_extracting_again_repairs_a_last_block_with_fewer_rows(tmp_path, store, damage):
    """A block of 256 rows is followed by one of 44, which a store may mistake for part of an existing block."""
    import numpy as np

    rows = make_rows(300)
    cache = write_all(tmp_path, store, rows)
    for file in make_store(cache.folder(*KEY.split("/")), make_manifest(rows, store)).files(1):
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CacheCorrupt, match="block 1"):
        cache[KEY]
    again = write_all(tmp_path, store, rows)
    np.testing.assert_array_equal(again[KEY].features["avg"][:], rows["avg"])
