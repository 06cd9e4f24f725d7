"""Damaged sets are reported everywhere, and never replaced by another set."""

import json
import os

import numpy as np
import pytest

from featood.cache.manifest import SCHEMA
from featood.sealed import seal

STORES = ("zarr", "hdf5")


def put(featood, tmp_path, key, seed=0, rows=40, store="zarr", *more):
    backbone, dataset, split = key.split("/")
    rng = np.random.default_rng(seed)
    np.save(tmp_path / "x.npy", rng.normal(size=(rows, 6)))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, rows))
    code, _, err = featood(
        "import", "--features", tmp_path / "x.npy", "--labels", tmp_path / "y.npy", "--backbone", backbone,
        "--dataset", dataset, "--split", split, "--store", store, *more,
    )  # fmt: skip
    assert code == 0, err


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(b'"rows"') + 8] ^= 1
    path.write_bytes(content)


def newer(path):
    body = json.loads(path.read_bytes())
    del body["sha256"]
    path.write_text(json.dumps(seal({**body, "schema": SCHEMA + 1})))


def unreadable(path):
    path.write_bytes(b"\0" * 300)


def nested(path):
    path.write_bytes(b"[" * 100_000)


DAMAGES = {flip: 4, newer: 5, unreadable: 4, nested: 4}


@pytest.fixture
def caches(featood, tmp_path):
    """Make an intact older set, and a newer one to damage."""
    for backbone in ("old", "new"):
        for split in ("train", "test"):
            put(featood, tmp_path, f"{backbone}/toy/{split}", len(backbone + split))
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_it_is_listed_and_stops_commands_that_use_the_newest_set(featood, caches, tmp_path, damage):
    damage(caches / "new" / "toy" / "test" / "manifest.json")  # the newest
    code, out, err = featood("cache", "ls")
    assert code == 0 and "damaged" in out and "warning: new/toy/test cannot be read" in err
    rows = {row["key"]: row for row in json.loads(featood("cache", "ls", "--json")[1])}
    assert len(rows) == 4 and rows["new/toy/test"]["state"] == "damaged" and rows["new/toy/test"]["damage"]
    assert rows["new/toy/train"]["state"] == "complete" and not rows["new/toy/train"]["damage"]
    for words in (
        ("fit", "knn"),
        ("fit", "knn", "--backbone", "new"),
        ("score", "--head", "mahalanobis"),
        ("fit", "knn", "--dataset", "toy"),
    ):
        code, out, err = featood(*words)
        assert code == DAMAGES[damage] and err.count("\n") == 1 and "new/toy/test" in err, (words, err)
        assert ("upgrade" in err) is (damage is newer)
    assert featood("fit", "knn", "--backbone", "old", "--dataset", "toy")[0] == 0  # another set was requested
    assert featood("fit", "knn", "--backbone", "new", "--dataset", "toy")[0] == 0  # its train split is intact
    code, _, err = featood("score", "--head", "knn", "--backbone", "new", "--dataset", "toy", "--ood", "x")
    assert code == DAMAGES[damage] and "new/toy/test" in err


def test_verify_names_it_and_rm_removes_it(featood, caches):
    flip(caches / "new" / "toy" / "test" / "manifest.json")
    code, out, _ = featood("cache", "verify")
    assert code == 4 and out.count("good: ") == 3 and out.count("bad: ") == 1 and "new/toy/test" in out
    newer(caches / "old" / "toy" / "train" / "manifest.json")
    code, out, _ = featood("cache", "verify")
    assert code == 4 and out.count("bad: ") == 2 and "upgrade" in out
    code, out, _ = featood("cache", "rm", "new/toy/test", "old/toy/train", "--yes")
    assert code == 0 and not (caches / "new" / "toy" / "test" / "manifest.json").exists()
    assert featood("cache", "verify")[0] == 0
    assert featood("cache", "rm", "new/toy/test")[0] == 3
    assert featood("cache", "rm", "../cache/new/toy")[0] == 3
    assert featood("cache", "rm")[0] == 2


def test_gc_incomplete_removes_it(featood, caches):
    flip(caches / "new" / "toy" / "test" / "manifest.json")
    assert featood("cache", "gc", "--older-than", 0)[0] == 0
    assert (caches / "new" / "toy" / "test").exists()
    assert featood("cache", "gc", "--incomplete", "--older-than", 0)[0] == 0
    assert not (caches / "new" / "toy" / "test" / "manifest.json").exists()


def test_an_older_damaged_set_does_not_interfere(featood, caches):
    path = caches / "old" / "toy" / "train" / "manifest.json"
    flip(path)
    os.utime(path, (1, 1))
    assert featood("fit", "knn")[0] == 0
    assert featood("fit", "knn", "--backbone", "old", "--dataset", "toy")[0] == 4


def test_a_cache_with_only_damaged_sets_is_not_reported_as_empty(featood, caches):
    for path in caches.glob("*/*/*/manifest.json"):
        unreadable(path)
    code, _, err = featood("fit", "knn")
    assert code == 4 and "empty" not in err


def test_a_damaged_out_of_distribution_set_is_not_replaced_by_another_split(featood, caches, tmp_path):
    put(featood, tmp_path, "new/odd/val", 7, 40, "zarr", "--ood")
    put(featood, tmp_path, "new/odd/test", 8, 40, "zarr", "--ood")
    assert featood("fit", "knn", "--backbone", "new")[0] == 0
    assert featood("score", "--backbone", "new", "--dataset", "toy", "--ood", "odd")[0] == 0
    flip(caches / "new" / "odd" / "test" / "manifest.json")
    code, _, err = featood("score", "--backbone", "new", "--dataset", "toy", "--ood", "odd")
    assert code == 4 and "new/odd/test" in err


def test_classes_are_not_numbered_without_the_split_that_is_damaged(featood, caches, tmp_path):
    flip(caches / "new" / "toy" / "train" / "manifest.json")
    np.save(tmp_path / "y.npy", np.array(["b", "c", "b"] * 10))
    np.save(tmp_path / "x.npy", np.zeros((30, 6)))
    words = ("--backbone", "new", "--dataset", "toy", "--split", "val")
    code, _, err = featood("import", "--features", tmp_path / "x.npy", "--labels", tmp_path / "y.npy", *words)
    assert code == 4 and "new/toy/train" in err


@pytest.mark.parametrize("store", STORES)
def test_the_newest_set_is_not_skipped_if_it_lost_a_commit_record(featood, tmp_path, store):
    put(featood, tmp_path, "old/toy/train", 1, 40, store)
    put(featood, tmp_path, "new/toy/train", 2, 40, store)
    (tmp_path / "cache" / "new" / "toy" / "train" / "commits" / "00000.json").unlink()
    code, _, err = featood("fit", "knn")
    assert code == 4 and "new/toy/train" in err and "0 of 1 blocks" in err and "--backbone" in err
    assert featood("fit", "knn", "--backbone", "old")[0] == 0


@pytest.mark.parametrize("store", STORES)
def test_files_of_another_block_or_set_are_detected(tmp_path, store):
    from test_cache import KEY, make_rows, write_all

    from featood.errors import CacheCorrupt

    first = write_all(tmp_path / "a", store, make_rows(600, 0)).folder("net", "toy", "test")
    second = write_all(tmp_path / "b", store, make_rows(600, 1)).folder("net", "toy", "test")
    from featood.cache import FeatureCache

    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    cache = FeatureCache(tmp_path / "a")
    same_kind = [(one, two) for one in files for two in files if one != two and one.suffix == two.suffix]
    swaps = [(first / one, second / one) for one in files] + [
        (first / one, first / two) for one, two in same_kind
    ]
    for one, two in swaps:
        before, other = one.read_bytes(), two.read_bytes()
        if before == other or one.name in (".lock", "features.h5"):
            continue
        one.write_bytes(other)
        problems = cache.verify(KEY)
        values = None if problems else cache[KEY].features["avg"][:].tobytes()
        assert problems or values == make_rows(600, 0)["avg"].tobytes(), (one, two)
        one.write_bytes(before)
    assert cache.verify(KEY) == []
    with pytest.raises(CacheCorrupt):  # intact records and blocks of a set with the manifest of another
        (first / "manifest.json").write_bytes((first / "manifest.json").read_bytes().replace(b'"x"', b'"y"'))
        cache[KEY]


def test_a_manifest_of_another_set_of_the_same_shape_is_detected(featood, tmp_path):
    put(featood, tmp_path, "net/toy/train", 1)
    put(featood, tmp_path, "net/toy/test", 2)
    folder = tmp_path / "cache" / "net" / "toy"
    (folder / "train" / "manifest.json").write_bytes((folder / "test" / "manifest.json").read_bytes())
    code, out, _ = featood("cache", "verify", "net/toy/train")
    assert code == 4 and "fingerprint is not that" in out
    assert featood("fit", "knn", "--backbone", "net", "--dataset", "toy")[0] == 4
