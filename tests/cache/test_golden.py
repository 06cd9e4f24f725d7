"""Caches and heads of earlier versions are readable, with the same listing and the same scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.heads import load_head
from featood.heads.artefacts import earlier
from featood.heads.artefacts.artefact import migrate_head
from featood.pipeline.migration import migrate_cache
from featood.sealed import read_json, seal

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir() and path.name[0].isdigit())
STORES = ("zarr", "hdf5")
FLOAT32 = {"0.1.0": ("mahalanobis", "rank-average")}
"""Heads that a version computed in float32, by themselves or in a member, and this one does not."""


def tolerance(golden, name):
    return 5e-6 if name in FLOAT32.get(golden.name, ()) else 1e-9


LISTING = {"net/toy/train": 40, "net/toy/test": 20, "net/odd/test": 12}


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


def heads_of(golden):
    return json.loads((golden / "scores.json").read_text())


def scores(cache, folder):
    head = load_head(folder)
    return np.concatenate([head.score(cache[key]) for key in ("net/toy/test", "net/odd/test")])


def test_there_are_golden_files():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("store", STORES)
def test_the_listing_is_the_same(golden, store):
    cache = FeatureCache(golden / store)
    rows = {entry.key: entry.manifest.rows for entry in cache.entries() if entry.backbone == "net"}
    assert rows == LISTING and all(entry.complete for entry in cache.entries())
    assert not [problem for key in cache for problem in cache.verify(key)]
    train = cache["net/toy/train"]
    assert len(train) == 38 and train.left_out == 2 and train.classes == ("a", "b", "c")
    assert np.array_equal(train.classifier.weight, (np.arange(12).reshape(3, 4) / 10).astype("f4"))
    assert train.ids[3] == "net/toy/train/4.png"  # the fourth was unreadable


def test_both_stores_contain_the_same_values(golden):
    first, second = (FeatureCache(golden / store)["net/toy/train"] for store in STORES)
    assert first.fingerprint == second.fingerprint
    for name in ("avg", "std"):
        assert first.features[name][:].tobytes() == second.features[name][:].tobytes()
    assert np.array_equal(first.labels[:], second.labels[:]) and list(first.ids[:]) == list(second.ids[:])


@pytest.mark.parametrize("store", STORES)
def test_the_scores_are_the_same(golden, store):
    cache = FeatureCache(golden / store)
    for name, expected in heads_of(golden).items():
        found = scores(cache, golden / "heads" / name)
        np.testing.assert_allclose(found, expected, rtol=tolerance(golden, name), atol=1e-12, err_msg=name)


@pytest.mark.parametrize("store", STORES)
def test_migration_changes_no_value(golden, store):
    cache = FeatureCache(golden / store)
    before = {key: cache[key].features["avg"][:].tobytes() for key in cache}
    prints = {entry.key: entry.manifest.fingerprint for entry in cache.entries()}
    migration = migrate_cache(cache)
    assert not migration.problems and sorted(migration.changed) == sorted(before)
    for entry in cache.entries():
        records = [read_json(path) for path in entry.folder.glob("commits/*.json")]
        assert {record["fingerprint"] for record in records} == {prints[entry.key]}
    assert {key: cache[key].features["avg"][:].tobytes() for key in cache} == before
    again = migrate_cache(cache)
    assert not again.changed and again.current == len(before)


def test_a_damaged_set_is_not_migrated(golden):
    cache = FeatureCache(golden / "zarr")
    (shard,) = golden.glob("zarr/net/toy/test/zarr/avg/c/0/0")
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    migration = migrate_cache(cache)
    assert "net/toy/test" not in migration.changed and len(migration.problems) == 1
    record = read_json(golden / "zarr/net/toy/test/commits/00000.json")
    assert "fingerprint" not in record


def unsealed(folder):
    """Write a record like the first version, without a checksum."""
    body = json.loads((folder / "head.json").read_bytes())
    del body["sha256"]
    (folder / "head.json").write_text(json.dumps(body))


def test_heads_without_a_checksum_get_one(golden, featood, tmp_path):
    folder = tmp_path / "cache" / "net" / "toy" / "heads" / "knn"
    shutil.copytree(golden / "zarr", tmp_path / "cache")
    shutil.copytree(golden / "heads" / "knn", folder)
    unsealed(folder)
    code, _, err = featood("score", "--backbone", "net", "--ood", "odd")
    assert code == 4 and "featood cache migrate" in err
    code, out, err = featood("cache", "migrate")
    assert code == 0 and str(folder) in out, err
    found = scores(FeatureCache(golden / "zarr"), folder)
    np.testing.assert_allclose(found, heads_of(golden)["knn"], rtol=1e-9)
    assert "0 migrated" in featood("cache", "migrate")[2]


def test_renamed_options_are_read_under_their_current_names(golden, monkeypatch):
    """Simulate that ``k`` of knn was named ``neighbours`` and counted halves, and another option was removed."""
    table = {"neighbours": lambda value: {"k": int(2 * value)}, "gone": lambda value: {}}
    monkeypatch.setattr(earlier, "RENAMED", {"knn": {**earlier.RENAMED["*"], **table}})

    def older(options):
        if "k" in options:
            del options["k"]
            options |= {"neighbours": 1.5, "gone": True}
        else:
            options["members"] = [text.replace("k=3", "neighbours=1.5") for text in options["members"]]

    for name in ("knn", "rank-average"):
        folder = golden / "heads" / name
        body = json.loads((folder / "head.json").read_bytes())
        del body["sha256"]
        older(body["options"])
        (folder / "head.json").write_text(json.dumps(seal(body)))
        cache = FeatureCache(golden / "zarr")
        np.testing.assert_allclose(
            scores(cache, folder), heads_of(golden)[name], rtol=tolerance(golden, name)
        )
        assert migrate_head(folder) and not migrate_head(folder)
        assert "neighbours" not in (folder / "head.json").read_text()
        np.testing.assert_allclose(
            scores(cache, folder), heads_of(golden)[name], rtol=tolerance(golden, name)
        )
