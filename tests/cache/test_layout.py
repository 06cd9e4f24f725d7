"""The files of the stores are what zarr and HDF5 say they are, and rows are read from them."""

import json
import zlib

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cache import KEY, STORES, make_manifest, make_rows, write_all

from featood.cache import FeatureCache
from featood.cache.byte_ranges import Place, crc32c, read_runs
from featood.cache.commits import commit_path
from featood.cache.reader import make_store
from featood.errors import CacheCorrupt
from featood.sealed import read_json

ROWS = 600


@pytest.fixture(params=STORES)
def stored(request, tmp_path):
    rows = make_rows(ROWS)
    cache = write_all(tmp_path, request.param, rows)
    return cache, rows, cache.folder(*KEY.split("/"))


@pytest.mark.parametrize("rows", [100, 256, 600])
def test_the_metadata_are_those_that_zarr_writes(tmp_path, rows):
    import zarr

    values = make_rows(rows)
    folder = write_all(tmp_path, "zarr", values).folder(*KEY.split("/")) / "columns"
    for name, column in values.items():
        held = {}
        kind = make_manifest(values, "zarr").columns[name]
        zarr.create_array(
            zarr.storage.MemoryStore(held),
            shape=column.shape,
            dtype=column.dtype,
            chunks=(min(256, rows), *column.shape[1:]),
            compressors=[zarr.codecs.Crc32cCodec()],
            fill_value=kind.lost,
        )
        assert json.loads((folder / name / "zarr.json").read_bytes()) == json.loads(
            held["zarr.json"].to_bytes()
        )
        array = zarr.open_array(folder / name, mode="r")
        np.testing.assert_array_equal(array[:], column)


def test_zarr_itself_notices_a_flipped_bit(tmp_path):
    import zarr

    folder = write_all(tmp_path, "zarr", make_rows(ROWS)).folder(*KEY.split("/")) / "columns"
    path = folder / "avg" / "c" / "2" / "0"
    content = bytearray(path.read_bytes())
    content[9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(folder / "avg", mode="r")[512:]


def test_the_chunk_of_the_last_block_is_checked_to_its_end(tmp_path):
    cache = write_all(tmp_path, "zarr", make_rows(ROWS))
    path = cache.folder(*KEY.split("/")) / "columns" / "avg" / "c" / "2" / "0"
    content = path.read_bytes()
    assert len(content) == 256 * 12 * 4 + 4
    for place in (88 * 48, len(content) - 5, len(content) - 1):  # padding, and zarr's checksum
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CacheCorrupt, match=r"block 2 \(rows 512-599\), column avg"):
            cache[KEY].features["avg"][:]


def test_datasets_are_contiguous_and_unfiltered(tmp_path):
    import h5py

    rows = make_rows(ROWS)
    folder = write_all(tmp_path, "hdf5", rows).folder(*KEY.split("/")) / "columns"
    for block in range(3):
        with h5py.File(folder / f"block-{block:05d}.h5") as file:
            for name, values in rows.items():
                assert file[name].chunks is None and file[name].id.get_offset() > 0
                np.testing.assert_array_equal(file[name][:], values[256 * block : 256 * (block + 1)])


def test_records_have_both_checksums(stored):
    _, rows, folder = stored
    record = read_json(commit_path(folder, 1))
    part = {name: values[256:512].tobytes() for name, values in rows.items()}
    assert record["columns"] == {name: zlib.crc32(content) for name, content in part.items()}
    assert record["crc32c"] == {name: google_crc32c.value(content) for name, content in part.items()}


def test_both_stores_have_the_same_content(tmp_path):
    first, second = (write_all(tmp_path / store, store, make_rows(ROWS))[KEY] for store in STORES)
    assert first.content == second.content


@pytest.mark.parametrize("failed", [(), (0, 17, 255, 256, 599)])
@pytest.mark.parametrize("store", STORES)
def test_index_arrays(tmp_path, store, failed):
    rows = make_rows(ROWS)
    opened = write_all(tmp_path, store, rows, failed)[KEY]
    n = ROWS - len(failed)
    index = st.one_of(
        st.lists(st.integers(-n, n - 1), max_size=20).map(lambda places: np.array(places, int)),
        st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random(n) < 0.03),
        st.just(np.array([[1, 2], [n - 1, 0]])),
        st.slices(n),
    )

    @settings(deadline=None, max_examples=60)
    @given(index)
    def check(wanted):
        for name in ("avg", "labels"):
            column = opened.labels if name == "labels" else opened.features[name]
            np.testing.assert_array_equal(column[wanted], np.delete(rows[name], failed, 0)[wanted])
        part = opened.rows(wanted) if np.ndim(wanted) < 2 else opened.rows(slice(0, 5))
        assert len(part) == len(part.features["avg"]) == len(part.ids)

    check()
    assert opened.ids[3] == opened.ids[:][3] and opened.labels[np.int64(-1)] == opened.labels[:][-1]
    with pytest.raises(IndexError):
        opened.labels[[0, n]]


@pytest.mark.parametrize("store", STORES)
def test_rows_are_read_alone_only_after_their_block_was_checked(tmp_path, store, monkeypatch):
    rows = {
        "avg": np.random.default_rng(1).normal(size=(512, 2048)).astype("f4"),
        "labels": np.zeros(512, int),
    }
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, make_manifest(rows, store)) as writer:
        for block in writer.pending():
            writer.write(block, {name: values[writer.span(block)] for name, values in rows.items()})
    column, wanted, alone = cache[KEY].features["avg"], np.array([300, 2, 1, 511]), []
    monkeypatch.setattr(
        "featood.cache.reader.read_runs", lambda *args: alone.append(args[1]) or read_runs(*args)
    )
    for _ in range(2):
        np.testing.assert_array_equal(column[wanted], rows["avg"][wanted])
    assert alone == [[(1, 3)]]  # the other block was still in memory
    name = {"zarr": "avg/c/0/0", "hdf5": "block-00000.h5"}[store]
    path = cache.folder(*KEY.split("/")) / "columns" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4] + bytes(8) + content[len(content) // 4 + 8 :])
    with pytest.raises(CacheCorrupt, match="block 0"):
        cache[KEY].features["avg"][wanted]
    path.write_bytes(content[:5000])
    with pytest.raises(CacheCorrupt, match=r"block 0 .*truncated"):
        column[wanted]
    path.unlink()
    with pytest.raises(CacheCorrupt, match=r"block 0 .*missing"):
        column[wanted]


def test_a_disk_that_returns_less_than_was_asked_for_is_asked_again(tmp_path, monkeypatch):
    class Slow:
        def __init__(self, path, *_, **__):
            self.file = open(path, "rb")  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, place):
            self.file.seek(place)

        def readinto(self, out):
            return self.file.readinto(out[:7])

    (tmp_path / "x").write_bytes(bytes(range(200)))
    monkeypatch.setattr("featood.cache.byte_ranges.open", Slow, raising=False)
    out = np.empty((3, 10), np.uint8)
    read_runs(Place(tmp_path / "x", 5), [(0, 1), (4, 6)], out)
    np.testing.assert_array_equal(out.ravel(), [*range(5, 15), *range(45, 65)])


def test_the_checksum_is_the_castagnoli_one():
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283
    halves = np.arange(6, dtype="f4").reshape(3, 2)
    assert crc32c(halves[1:], crc32c(halves[:1])) == crc32c(halves)


def test_values_in_several_pieces_are_not_read_as_bytes(tmp_path):
    import h5py

    rows = {"avg": np.ones((4, 3), "f4"), "labels": np.zeros(4, int)}
    store = make_store(tmp_path, make_manifest(rows, "hdf5"))
    (path,) = store.files(0)
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.create_dataset("avg", data=rows["avg"], chunks=(2, 3))
    with pytest.raises(ValueError, match="not adjacent"):
        store.locate("avg", 0)
