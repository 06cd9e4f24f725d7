"""A short run of benchmarks/mutations.py: every changed byte of a cache or a head is harmless or detected."""

import pytest


@pytest.fixture
def mutations(script):
    return script("mutations")


def test_every_changed_byte_is_detected(mutations, tmp_path):
    found = mutations.trials(tmp_path, count=80, seed=7)
    assert list(found) == ["zarr", "zarr, damaged", "hdf5", "hdf5, damaged", "heads", "heads, damaged"]
    rows = [row for part in found.values() for row in part if row["file"] not in mutations.APART]
    assert not [row for row in rows if row["different"]]
    assert sum(row["refused"] for row in rows) > 400
    kinds = {row["file"] for row in rows}
    assert {"zarr.json", "manifest.json", "commit record", "classifier.safetensors", "head.json"} <= kinds


def test_another_type_in_zarr_json_is_refused(mutations, tmp_path):
    """Equal bytes of another type have the same checksum."""
    cache = mutations.make_cache(tmp_path / "zarr", "zarr")
    path = cache.folder(*mutations.KEY.split("/")) / "columns" / "avg" / "zarr.json"
    expected = mutations.read_cache(cache, path)
    path.write_bytes(path.read_bytes().replace(b'"float32"', b'"int32"').replace(b'"NaN"', b"0"))
    read = lambda: mutations.read_cache(cache, path)  # noqa: E731
    assert mutations.outcome(read, expected) == "refused"


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_a_reader_without_checks_is_detected(mutations, tmp_path, monkeypatch, store):
    import json

    from featood.cache import manifest

    cache = mutations.make_cache(tmp_path / store, store)
    path = cache.folder(*mutations.KEY.split("/")) / "manifest.json"
    expected = mutations.read_cache(cache, path)
    path.write_bytes(path.read_bytes().replace(b'"classes": [\n   "a"', b'"classes": [\n   "z"'))
    read = lambda: mutations.read_cache(cache, path)  # noqa: E731
    assert mutations.outcome(read, expected) == "refused"

    def believe(path):
        body = json.loads(path.read_bytes())
        del body["sha256"]
        return body

    monkeypatch.setattr(manifest, "read_json", believe)
    assert mutations.outcome(read, expected) == "different"
