"""A short run of benchmarks/mutations.py: no byte of a cache or a head changes what is read without an error."""

import pytest


@pytest.fixture
def mutations(script):
    return script("mutations")


def test_no_byte_changes_what_is_read_unnoticed(mutations, tmp_path):
    found = mutations.trials(tmp_path, count=80, seed=7)
    assert list(found) == ["zarr", "zarr, damaged", "hdf5", "hdf5, damaged", "heads", "heads, damaged"]
    rows = [row for part in found.values() for row in part if row["file"] not in mutations.APART]
    assert not [row for row in rows if row["different"]]
    assert sum(row["refused"] for row in rows) > 400
    kinds = {row["file"] for row in rows}
    assert {"zarr.json", "manifest.json", "commit record", "classifier.safetensors", "head.json"} <= kinds


def test_a_reader_that_believes_the_type_in_zarr_json_is_caught(mutations, tmp_path, monkeypatch):
    """Equal bytes of another type have the same checksum."""
    from featood.cache.reader import BlockReader

    cache = mutations.make_cache(tmp_path / "zarr", "zarr")
    path = cache.folder(*mutations.KEY.split("/")) / "zarr" / "avg" / "zarr.json"
    expected = mutations.read_cache(cache, path)
    path.write_bytes(path.read_bytes().replace(b'"float32"', b'"int32"').replace(b'"NaN"', b"0"))
    read = lambda: mutations.read_cache(cache, path)  # noqa: E731
    assert mutations.outcome(read, expected) == "refused"
    monkeypatch.setattr(BlockReader, "_check_layout", lambda *_: None)
    assert mutations.outcome(read, expected) == "different"
