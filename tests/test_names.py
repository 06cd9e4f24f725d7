"""Validation of names that become part of a path, from all sources."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featood.cache import FeatureCache, export_set, import_arrays, slug
from featood.errors import CacheCorrupt, UsageError
from featood.files import atomic_write
from featood.heads import create_head
from featood.names import LONGEST, check_name, local_path, name_problem, safe_text
from featood.pipeline.variant_labels import matching, variant_label
from featood.sealed import seal

BAD = [
    "", ".", "..", "../x", "/x", "a/b", "a\\b", "C:x", "C:\\x", "a\0b", "a\nb", "a\x1b[31m", "a\u202eb", "con", "NUL",
    "nul.txt", "Com1.avg", "LPT9",
    "a.", "a ", " a", "a:b", "a*", "a?", 'a"b', "a<b", "a>b", "a|b", "x" * 201, "é" * 101, "\ud800",
]  # fmt: skip
GOOD = [
    "avg",
    "layer3.0.conv.avg",
    "timm-resnet50.a1_in1k",
    "日本",
    "a b",
    "x" * 200,
    "console",
    "a-b+c@d=1,e",
    "-x",
    ".x",
]


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_not_portable_or_leave_the_folder_are_refused(name):
    assert name_problem(name)
    with pytest.raises(UsageError, match="cannot be called") as caught:
        check_name(name, "a column")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names_are_accepted(name):
    assert check_name(name, "a column") == name


@given(st.text(max_size=60))
def test_an_accepted_name_is_one_file_in_its_folder(name):
    if not name_problem(name):
        assert os.path.basename(name) == name and os.path.normpath(f"/root/{name}") == f"/root/{name}"
        assert len(name.encode()) <= LONGEST
    text = safe_text(name)
    assert len(text) <= 60 and not set(text) & set('/\\:*?"<>|\0') and text.isascii()


@given(st.text(max_size=300))
def test_names_converted_by_the_cache_are_valid_or_refused(name):
    with contextlib.suppress(UsageError):
        assert not name_problem(slug(name))


def vectors(seed=0):
    return {"avg": np.random.default_rng(seed).normal(size=(6, 3)).astype("f4")}


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", "con", "x" * 300])
def test_a_column_name_that_leaves_the_folder_is_never_written(tmp_path, name):
    cache = FeatureCache(tmp_path / "cache")
    with pytest.raises(UsageError, match="column"):
        import_arrays(cache, "net/toy/test", {name: vectors()["avg"]})
    import_arrays(cache, "net/toy/test", vectors())
    path = cache.folder("net", "toy", "test") / "manifest.json"
    body = json.loads(path.read_bytes())
    del body["sha256"]
    body["columns"][name] = body["columns"].pop("avg")
    path.write_text(json.dumps(seal({**body, "main": name})))
    for form in ("npy", "zarr", "hdf5"):
        with pytest.raises(CacheCorrupt, match="a column whose name"):
            export_set(cache, "net/toy/test", tmp_path / "out" / "deep", form)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["cache"]


@pytest.mark.parametrize("split", ["heads", "Heads", "HEADS", "/heads/"])
def test_no_split_replaces_the_fitted_heads(featood, tmp_path, split):
    np.save(tmp_path / "x.npy", vectors()["avg"])
    words = ("import", "--features", tmp_path / "x.npy", "--backbone", "net", "--dataset", "toy")
    assert featood(*words, "--split", "train")[0] == 0
    assert featood("fit", "knn", "--k", 2)[0] == 0
    code, _, err = featood(*words, "--split", split, "--overwrite")
    assert code == 2 and "heads" in err and err.count("\n") == 1
    assert (tmp_path / "cache" / "net" / "toy" / "heads" / "knn" / "head.json").exists()
    assert featood(*words, "--dataset", "heads")[0] == 0  # the folder of a dataset contains no heads
    assert featood("fit", "knn", "--k", 2, "--dataset", "heads", "--split", "test")[0] == 0


def test_gc_keeps_fitted_heads(featood, tmp_path):
    np.save(tmp_path / "x.npy", vectors()["avg"])
    words = ("import", "--features", tmp_path / "x.npy", "--backbone", "net", "--dataset", "toy")
    assert featood(*words, "--split", "train")[0] == 0
    assert featood("fit", "knn", "--k", 2)[0] == 0
    assert featood("cache", "gc", "--incomplete", "--older-than", 0)[0] == 0
    assert (tmp_path / "cache" / "net" / "toy" / "heads" / "knn" / "head.json").exists()
    assert featood("cache", "ls")[1].count("net/toy") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--backbone", "con", "--dataset", "toy"),
        ("--backbone", "..", "--dataset", "toy"),
        ("--backbone", "net", "--dataset", "nul.x"),
        ("--backbone", "net", "--dataset", "a", "--split", "x" * 300),
        ("--backbone", "net", "--dataset", "...", "--split", "test"),
    ],
)
def test_names_that_cannot_be_folders_are_usage_errors(featood, tmp_path, words):
    np.save(tmp_path / "x.npy", vectors()["avg"])
    code, _, err = featood("import", "--features", tmp_path / "x.npy", *words)
    assert code == 2 and err.count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_names_with_shell_syntax_and_paths_stay_inside_the_cache(featood, tmp_path):
    np.save(tmp_path / "x.npy", vectors()["avg"])
    for name in ("../../up", "/abs", "$(touch x)", "a;rm -rf b", "a\nb", "%2e%2e/x"):
        words = (
            "import",
            "--features",
            tmp_path / "x.npy",
            "--backbone",
            name,
            "--dataset",
            name,
            "--overwrite",
        )
        assert featood(*words)[0] == 0
    assert sorted(child.name for child in tmp_path.iterdir()) == ["cache", "x.npy"]
    assert all(
        not name_problem(part)
        for path in (tmp_path / "cache").rglob("*")
        for part in path.relative_to(tmp_path).parts
    )


def test_labels_of_variants_are_valid_folder_names():
    for value in ("../../x", "a/b", "C:\\x", "nul", "x" * 500, "é\n"):
        label = variant_label("knn", {"feature": value, "seed": 3})
        assert not name_problem(label) and label.endswith(",seed=3")
        assert matching([label, "knn@seed=3"], label) == [label]
    assert variant_label("knn", {"feature": "x" * 500}) != variant_label("knn", {"feature": "x" * 501})
    many = {f"option{number}": number for number in range(60)}
    assert not name_problem(variant_label("knn", many)) and variant_label("knn", many) != variant_label(
        "knn", {**many, "option59": 0}
    )


def test_a_checkpoint_refers_only_to_its_own_folder(tmp_path):
    import torch

    from featood.sealed import read_json, write_json
    from featood.training.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "a" / "b", 3, {"x": torch.zeros(2)}, {})
    record = read_json(tmp_path / "a" / "b" / "checkpoint.json")
    for name in ("../../secret.safetensors", str(tmp_path / "secret.safetensors"), 7, None):
        (tmp_path / "secret.safetensors").write_bytes((tmp_path / "a" / "b" / record["file"]).read_bytes())
        write_json(tmp_path / "a" / "b" / "checkpoint.json", {**record, "file": name})
        with pytest.raises(CacheCorrupt, match="damaged"):
            load_checkpoint(tmp_path / "a" / "b", {})


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "a/b", "", 7, None])
def test_a_data_set_refers_only_to_its_own_folder(tmp_path, name):
    from featood.errors import DataError
    from featood.readers import read_columns

    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match="lists a file outside itself"):
        read_columns(folder)
    (folder / "state.json").unlink()
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(DataError, match="lists a file outside itself"):
        read_columns(folder)


@pytest.mark.parametrize("address", ("s3://bucket/cache", "gs://bucket/x", "https://host/x", "file:///tmp/x"))
def test_addresses_are_not_used_as_folders(featood, tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    caches = (
        ("extract", "--cache", address, "--dataset", "noise:uniform"),
        ("cache", "ls", "--cache", address),
        ("cache", "export", "a/b/c", address, "--format", "zarr"),
    )
    on_objects = address.startswith(("s3:", "gs:"))
    for words in (
        *(() if on_objects else caches),
        ("score", "--ood", "x", "--json", address),
        ("report", "--ood", "x", "--out", address),
        ("fit", "knn", "--out", address),
        ("demo", "--out", address),
    ):
        code, out, err = featood(*words)
        assert code == 2 and not out and err.count("\n") == 1, err
        assert f"error: {address} is an address" in err and "give a local folder" in err
    for action in (*(() if on_objects else (FeatureCache,)), lambda place: create_head("energy").save(place)):
        with pytest.raises(UsageError, match="is an address"):
            action(address)
    with pytest.raises(UsageError, match="is an address"):
        atomic_write(address, b"")
    assert not list(tmp_path.iterdir())


def test_a_drive_is_not_an_address():
    for path in ("C:/x", "c:\\x", "a:b", "x/s3://y", "./s3:", "http"):
        assert local_path(path) == Path(path)
