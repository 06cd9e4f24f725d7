"""Untrusted records: for any values of fields, reading raises a typed error or returns valid values."""

import copy
import functools
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_golden import GOLDEN

from featood.cache import FeatureCache, Manifest
from featood.cache.commits import commit_path
from featood.cache.reader import open_set
from featood.errors import CacheCorrupt, Mismatch
from featood.heads import load_head
from featood.sealed import seal
from featood.testing.fixture import synthetic_sets

QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 10**30, 2**53, 2**63, 20000.5, 1e308, float("nan"), float("inf")]),
    st.sampled_from(
        ["", "9", "..", "../../x", "/etc", "C:\\x", "con", "a\0b", "\ud800", "x" * 400, "float32", "zarr"]
    ),
    st.sampled_from(
        [[], {}, [[]], {"a": 1}, [1, 2], [None], {"": {}}, [[12], "object"], [[10**9], "float32"]]
    ),
)


@pytest.fixture
def places(tmp_path):
    """Files of a manifest, a commit record and the records of two heads, with their readers."""
    root = shutil.copytree(GOLDEN / "0.1.0", tmp_path / "golden")
    folder = root / "zarr" / "net" / "toy" / "train"

    def read_set():
        found = open_set(folder)
        assert found.features["avg"][:].shape == (38, 4) and len(found.labels[:]) == 38

    found = {"manifest": (folder / "manifest.json", read_set), "commit": (commit_path(folder, 1), read_set)}
    for name in ("knn", "rank-average"):
        place = root / "heads" / name
        found[name] = (place / "head.json", functools.partial(load_head, place))
    return found


def fields(value, path=()):
    """Return the paths of all fields in a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from fields(part, (*path, key))


def changed(body, path, value, how):
    """Replace, remove or rename a field."""
    body = copy.deepcopy(body)
    if not path:
        return value
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    if how == "replace":
        holder[path[-1]] = value
    elif how == "rename" and isinstance(holder, dict):
        holder[str(value)] = holder.pop(path[-1])
    else:
        del holder[path[-1]]
    return body


@pytest.mark.parametrize("which", ["manifest", "commit", "knn", "rank-average"])
@pytest.mark.parametrize("sealed", [True, False])
def test_changed_records_raise_only_typed_errors(places, which, sealed):
    path, read = places[which]
    whole = json.loads(path.read_bytes())
    body = {key: value for key, value in whole.items() if key != "sha256"}
    everywhere = list(fields(body))

    @QUICK
    @given(st.sampled_from(everywhere), ODD, st.sampled_from(["replace", "replace", "remove", "rename"]))
    def mutate(place, value, how):
        other = changed(body, place, value, how)
        if sealed and isinstance(other, dict):
            try:
                other = seal(other)
            except UnicodeEncodeError:
                return
        elif isinstance(other, dict):
            other["sha256"] = whole["sha256"]
        path.write_text(json.dumps(other), "utf-8", "surrogatepass")
        try:
            read()
        except (CacheCorrupt, Mismatch) as error:
            text = str(error)
            assert "\n" not in text and len(text) < 600
            assert path.name in text or str(path.parent) in text or "golden" in text
        else:
            assert sealed or other == whole or json.loads(json.dumps(other)) == whole

    mutate()
    path.write_text(json.dumps(whole))
    read()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("rows", 20000.5, "rows is not a whole number"),
        ("rows", -1, "rows is not a whole number"),
        ("rows", True, "rows is not a whole number"),
        ("rows", 10**30, "rows is not a whole number"),
        ("block_rows", "9", "block_rows is not a whole number"),
        ("schema", "9", "schema is not a whole number"),
        ("store", "parquet", "store is none of zarr, hdf5"),
        ("versions", {"torch": 2}, "versions.torch is not str"),
        ("run", {"classes": [1]}, r"run.classes\[0\] is not str"),
        ("recipe", {"transform": {"channels": "3"}}, "recipe.transform"),
        ("recipe", {"transform": {"kind": "smells"}}, "recipe.transform"),
        ("recipe", {"transform": {"kind": ["texts"]}}, "recipe.transform"),
        (
            "recipe",
            {"transform": {"kind": "texts", "tokenizer": "words", "max_length": 0}},
            "recipe.transform",
        ),
        ("recipe", {"transform": {"kind": "recordings", "rate": 16000, "seconds": "30"}}, "recipe.transform"),
        ("columns", {"../../x": [[4], "float32"]}, "columns has a column whose name contains '/'"),
        ("columns", {"/x": [[4], "float32"]}, "columns has a column whose name contains '/'"),
        ("columns", {"avg": [[4], "object"]}, "columns of avg has a type"),
        ("columns", [], "columns is not a mapping of columns"),
        ("columns", {"avg": [[4, 4], "float32"]}, "columns of avg has a shape"),
        ("main", "std ", "main is 'std '"),
        ("more", 1, "more is not known"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(places, field, value, text):
    path, _ = places["manifest"]
    body = json.loads(path.read_bytes())
    del body["sha256"]
    path.write_text(json.dumps(seal({**body, field: value})))
    with pytest.raises(CacheCorrupt, match=text) as caught:
        Manifest.load(path.parent)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null", b'"x"', b"1" * 5000]
)
@pytest.mark.parametrize("which", ["manifest", "commit", "knn"])
def test_deeply_nested_and_other_json_is_damage(places, which, content):
    path, read = places[which]
    path.write_bytes(content)
    with pytest.raises(CacheCorrupt, match=str(path.parent)):
        read()


def test_a_set_that_declares_too_many_rows_needs_no_memory(places):
    import tracemalloc

    path, read = places["manifest"]
    body = json.loads(path.read_bytes())
    del body["sha256"]
    path.write_text(json.dumps(seal({**body, "rows": 2**45, "block_rows": 2**45})))
    record = json.loads(commit_path(path.parent, 0).read_bytes())
    del record["sha256"]
    commit_path(path.parent, 0).write_text(json.dumps(seal({**record, "rows": [0, 2**45]})))
    tracemalloc.start()
    with pytest.raises(CacheCorrupt, match="too small for"):
        read()
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    path.write_text(
        json.dumps(seal({**body, "rows": 2**50, "block_rows": 1}))
    )  # so many blocks are not iterated over
    with pytest.raises(CacheCorrupt, match="is incomplete"):
        read()
    assert FeatureCache(path.parents[3]).entries()


def test_a_wrong_option_of_a_head_is_damage_even_with_a_valid_checksum(tmp_path):
    from featood.heads import create_head

    train, _ = synthetic_sets()
    folder = create_head("knn").fit(train.rows(np.asarray(train.labels) >= 0)).save(tmp_path / "knn")
    body = json.loads((folder / "head.json").read_bytes())
    del body["sha256"]
    for value in (8.5, True, "9", [3], {}, None):
        edited = {**body, "options": {**body["options"], "k": value}}
        (folder / "head.json").write_text(json.dumps(seal(edited)))
        with pytest.raises(CacheCorrupt, match=r"options\.k has the wrong type"):
            load_head(folder)
