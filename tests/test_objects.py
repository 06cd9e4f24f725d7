import os
import pickle
import random
import sys
from pathlib import Path

import obstore
import pytest

from featood import objects, storage
from featood.errors import MissingPackage, UsageError
from featood.objects import location
from featood.sealed import read_json


@pytest.fixture
def root():
    return location(f"memory:///{random.random()}")


def test_paths_name_objects_and_never_local_files():
    place = location("s3://bucket/cache/") / "a" / "b.json"
    assert str(place) == "s3://bucket/cache/a/b.json" and place.name == "b.json" and place.stem == "b"
    assert place.parent.parent == location("s3://bucket/cache") == place.parent.parent.parent
    assert place.relative_to(location("s3://bucket/cache")).as_posix() == "a/b.json"
    assert place.relative_to(location("s3://bucket")).parts == ("cache", "a", "b.json")
    with pytest.raises(ValueError, match="is not below"):
        place.relative_to(location("s3://bucket/cac"))
    assert pickle.loads(pickle.dumps(place)) == place == place.resolve()
    for use in (Path, os.stat, open):
        with pytest.raises(TypeError):
            use(place)


def test_local_paths_stay_paths(tmp_path):
    assert location(str(tmp_path)) == tmp_path and location("C:/x") == Path("C:/x")


@pytest.mark.parametrize(
    "url, text",
    [
        ("s3://key:secret@bucket/x", "contains no credentials"),
        ("s3://key@bucket/x", "contains no credentials"),
        ("az://account/container/x?sig=secret", "contains no credentials"),
        ("hf://user/name", "is no address of a cache"),
        ("nonsense://x/y", "is no address of a cache"),
        ("file:///tmp/x", "give a local folder"),
        ("https://host/x", "give a local folder"),
    ],
)
def test_other_addresses_are_refused(url, text):
    with pytest.raises(UsageError, match=text) as caught:
        location(url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_operations_are_those_of_files(root, tmp_path):
    for place in (root, tmp_path / "x"):
        assert storage.size_of(place / "a") is None and storage.children(place) == []
        assert storage.folders_below(place, 2) == [] and storage.size_below(place) == 0
        with pytest.raises(FileNotFoundError):
            (place / "a").read_bytes()
        with pytest.raises(FileNotFoundError):
            storage.opened(place / "a")
        storage.remove(place / "a")
        storage.atomic_write(place / "a" / "b" / "c", b"0123456789")
        storage.atomic_write(place / "a" / "d", b"xyz")
        assert storage.size_of(place / "a" / "d") == 3 and storage.size_of(place / "a" / "b") is None
        assert [path.name for path in storage.children(place / "a")] == ["b", "d"]
        assert storage.folders_below(place, 2) == [place / "a" / "b"] and storage.size_below(place) == 13
        assert storage.modified(place / "a") > 1e9 < storage.modified(place / "a" / "d")
        with storage.opened(place / "a" / "b" / "c") as file:
            assert file.read() == b"0123456789"
        out = bytearray(4)
        assert storage.read_ranges(place / "a" / "b" / "c", [(0, 1), (5, 8)], memoryview(out)) == 4
        assert out == b"0567"
        assert storage.read_ranges(place / "a" / "b" / "c", [(0, 1), (9, 12)], memoryview(out)) == 2
        assert storage.each(place, len, ["", "ab"]) == [0, 2]
        storage.remove(place / "a" / "b")
        assert storage.folders_below(place, 2) == [] and (place / "a" / "d").read_bytes() == b"xyz"
        storage.remove(place / "a" / "d")
        assert storage.size_below(place) == 0


def test_a_record_is_created_once_and_replaced_only_as_it_was_read(root, monkeypatch):
    path = root / "record.json"
    storage.write_json(path, {"a": 1})
    storage.write_json(path, {"a": 1})
    storage.write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}

    put, others = obstore.put, iter(range(10, 20))

    def late(store, key, content, **options):
        put(store, key, f'{{"other": {next(others)}}}'.encode())
        return put(store, key, content, **options)

    monkeypatch.setattr(obstore, "put", late)
    with pytest.raises(UsageError, match="another process is writing"):
        storage.write_json(path, {"a": 3})


def test_a_repeated_request_finds_its_own_record(root, monkeypatch):
    put = obstore.put

    def twice(*args, **options):
        put(*args, **options)
        return put(*args, **options)

    monkeypatch.setattr(obstore, "put", twice)
    for value in (1, 2):
        storage.write_json(root / "record.json", {"a": value})
        assert read_json(root / "record.json") == {"a": value}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    objects._store.cache_clear()
    with pytest.raises(MissingPackage, match=r"featood\[objects\]"):
        location("memory:///x")


def test_signed_queries_are_not_shown():
    error = Exception("Error performing GET https://host/x?sig=secret in 1ms - reset\n\nDebug source: secret")
    assert objects._reason(error) == "Error performing GET https://host/x in 1ms - reset"
