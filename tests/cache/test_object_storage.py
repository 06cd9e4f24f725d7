import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import object_writer
import obstore
import pytest
import zarr
from object_server import caches, content_of, environment, serving
from object_writer import BLOCK_ROWS, KEY, write
from obstore.store import from_url

from featood.cache import FeatureCache, Manifest
from featood.errors import CacheCorrupt, UsageError

NET = ("--backbone", "cifar-resnet20", "--weights", "random")
HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.fixture(scope="module")
def server():
    with serving() as port:
        yield port


@pytest.fixture
def objects(server, monkeypatch):
    """A proxy before a local server, and the URL of an empty folder."""
    with caches(server) as (proxy, root):
        for name, value in environment(proxy).items():
            monkeypatch.setenv(name, value)
        yield proxy, root


def in_another_process(root, proxy):
    """Start a process that writes the set."""
    path = os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS)])
    env = {**os.environ, **environment(proxy), "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, object_writer.__file__, root], env=env, stderr=subprocess.PIPE)


def flip(root, name):
    """Change one bit of an object."""
    store = from_url(root)
    content = bytearray(obstore.get(store, name).bytes())
    content[len(content) // 2] ^= 8
    obstore.put(store, name, bytes(content))


def test_commands_give_the_results_of_a_local_cache(objects, featood, toy_images, tmp_path):
    _, root = objects
    found = {}
    for place in (root, str(tmp_path / "local")):
        cache = ("--cache", place)
        for words in (
            ("extract", *NET, "--dataset", "toy"),
            ("fit", "knn"),
            ("fit", "mahalanobis"),
            ("score", "--ood", "odd", "--json", tmp_path / "r.json"),
            ("verify", tmp_path / "r.json"),
            ("cache", "verify"),
            ("cache", "export", "cifar-resnet20@random/toy/test", f"{place}-copy", "--format", "zarr"),
        ):
            code, _, err = featood(*words, *cache)
            assert code == 0, (words, err)
        body = json.loads((tmp_path / "r.json").read_text())
        del body["run"]
        for row in body["rows"]:
            del row["fit_s"], row["score_s"]
        listed = json.loads(featood("cache", "ls", "--json", *cache)[1])
        facts = [{name: row[name] for name in ("key", "state", "rows")} for row in listed]
        files = content_of(root if place == root else Path(place))
        found[place] = body, facts, files
        assert featood("cache", "rm", "cifar-resnet20@random/odd", "--yes", *cache)[0] == 0
        assert len(FeatureCache(place)) == 2
    ours, theirs = found.values()
    assert ours[:2] == theirs[:2] and sorted(ours[2]) == sorted(theirs[2])
    timed = ("manifest.json", "head.json")
    different = {name for name, content in ours[2].items() if content != theirs[2][name]}
    assert all(name.endswith(timed) for name in different), different
    assert not [name for name, content in ours[2].items() if b"AWS" in content or b"127.0.0.1" in content]


def test_a_killed_process_loses_at_most_the_current_block(objects, tmp_path):
    proxy, root = objects
    write(tmp_path / "local")
    for last in (0, 3):
        process, seen = in_another_process(root, proxy), threading.Event()

        def kill(request, last=last, process=process, seen=seen):
            if request.startswith("PUT") and f"commits/{last:05d}" in request:
                process.send_signal(signal.SIGKILL)
                seen.set()

        proxy.watch = kill
        process.communicate()
        assert seen.is_set() and process.returncode == -signal.SIGKILL
        proxy.watch = lambda request: None
        with pytest.raises(CacheCorrupt, match="is incomplete"):
            FeatureCache(root)[KEY]
        (entry,) = FeatureCache(root).entries()
        assert entry.committed in (last, last + 1)
    write(root)
    assert content_of(root) == content_of(tmp_path / "local")


def test_rows_are_removed_after_others_have_replaced_them(objects, tmp_path):
    proxy, root = objects
    local = tmp_path / "local"
    for place in (root, local):
        write(place, 5, write(place, 3).origin)
    assert content_of(root) == content_of(local)
    before, seen = FeatureCache(root)[KEY], []
    proxy.watch = seen.append
    found = write(root, 6, before.origin)
    proxy.watch = lambda request: None
    replaced = max(
        at for at, request in enumerate(seen) if request.startswith("PUT") and "manifest.json" in request
    )
    earlier = [
        at for at, request in enumerate(seen) if before.origin.rows_folder in request and "GET" not in request
    ]
    removed = [at for at, request in enumerate(seen) if "delete" in request.lower()]
    assert removed and min(removed) > replaced and not [at for at in earlier if at < replaced]
    assert found.content != before.content and FeatureCache(root).verify(KEY) == []
    assert {name.split("/")[3] for name in content_of(root)} == {"manifest.json", found.origin.rows_folder}


def test_requests_that_fail_for_a_moment_change_nothing(server, monkeypatch, tmp_path):
    write(tmp_path / "local")
    with caches(server, share=0.05, seed=1) as (proxy, root):
        for name, value in environment(proxy).items():
            monkeypatch.setenv(name, value)
        write(root)
        found = FeatureCache(root)[KEY]
        for name, values in object_writer.columns().items():
            column = found.features.get(name, getattr(found, name, None))
            np.testing.assert_array_equal(column[:], values)
        assert FeatureCache(root).verify(KEY) == []
        assert sum(proxy.faults.values()) > 2
        proxy.share = 0
        assert content_of(root) == content_of(tmp_path / "local")


def test_two_writers_write_the_same_set(objects, tmp_path):
    proxy, root = objects
    write(tmp_path / "local")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [root, root]))
    assert sum(request.startswith("PUT") and "commits/" in request for request in proxy.requests) >= 5
    assert content_of(root) == content_of(tmp_path / "local")


def test_a_flipped_bit_is_reported_with_its_block_and_can_be_repaired(objects, featood):
    _, root = objects
    whole = write(root).features["avg"][:]
    before = content_of(root)
    flip(root, f"{KEY}/columns/avg/c/1/0")
    with pytest.raises(CacheCorrupt, match=rf"{KEY}: block 1 \(rows 32-63\), column avg: unreadable"):
        FeatureCache(root)[KEY].features["avg"][40:41]
    code, out, err = featood("cache", "verify", "--drop", "--cache", root)
    assert code == 4 and "block 1 (rows 32-63)" in out and err.count("\n") == 1
    np.testing.assert_array_equal(write(root).features["avg"][:], whole)
    assert content_of(root) == before
    flip(root, f"{KEY}/commits/00002.json")
    with pytest.raises(CacheCorrupt, match=r"00002\.json"):
        FeatureCache(root)[KEY]
    write(root)
    assert content_of(root) == before
    obstore.delete(from_url(root), f"{KEY}/columns/labels/c/0")
    with pytest.raises(CacheCorrupt, match=r"block 0 .* is missing"):
        FeatureCache(root)[KEY]


def test_single_rows_of_a_checked_block_are_read_alone(objects, monkeypatch):
    monkeypatch.setattr("featood.cache.reader.CALL", 64)
    proxy, root = objects
    write(root)
    column = FeatureCache(root)[KEY].features["avg"]
    column[:]
    before = proxy.sent
    rows = np.array([33, 35, 36, 63])
    np.testing.assert_array_equal(column[rows], object_writer.columns()["avg"][rows])
    assert 0 < proxy.sent - before < BLOCK_ROWS * object_writer.WIDTH * 4


def test_blocks_are_read_by_parallel_requests(objects, monkeypatch):
    monkeypatch.setattr("featood.objects.PIECE", 1000)
    proxy, root = objects
    write(root)
    column = FeatureCache(root)[KEY].features["avg"]
    proxy.requests.clear()
    np.testing.assert_array_equal(column[:BLOCK_ROWS], object_writer.columns()["avg"][:BLOCK_ROWS])
    assert sum("columns/avg/c/0/0" in request and "GET" in request for request in proxy.requests) == 4


def test_zarr_reads_the_objects(objects):
    _, root = objects
    write(root)
    store = zarr.storage.ObjectStore(from_url(f"{root}/{KEY}/columns"), read_only=True)
    for name, values in object_writer.columns().items():
        np.testing.assert_array_equal(zarr.open_array(store, path=name, mode="r")[:], values)


def test_lasting_errors_have_one_line(objects, featood, monkeypatch):
    proxy, root = objects

    def line(place):
        code, out, err = featood("cache", "ls", "--cache", place)
        assert code == 3 and not out and err.count("\n") == 1, err
        return err

    assert "s3://nowhere/x: there is no such bucket; create it" in line("s3://nowhere/x")
    proxy.status = 403
    assert "access is denied (403 Forbidden, Refused); check the credentials" in line(root)
    proxy.status = 404
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", proxy.url)
    assert "there are no credentials; set those of the provider" in line(f"{root}/without")


def test_what_makes_no_sense_on_objects_is_refused(objects, featood, tmp_path):
    _, root = objects
    write(root)
    before = content_of(root)
    for words, text in (
        (("cache", "gc"), "remove incomplete sets with featood cache rm"),
        (("cache", "ls"), "contains no credentials"),
        (("cache", "export", KEY, root, "--format", "zarr"), "into the cache itself"),
    ):
        place = root if "ls" not in words else "s3://user:secret@bucket/x"
        code, out, err = featood(*words, "--cache", place)
        assert code == 2 and not out and err.count("\n") == 1 and text in err and "secret" not in err
    manifest = dataclasses.replace(Manifest.load(FeatureCache(root).folder(*KEY.split("/"))), store="hdf5")
    with pytest.raises(UsageError, match="leave out --store hdf5"):
        FeatureCache(root).writer(KEY, manifest, overwrite=True)
    assert content_of(root) == before


@pytest.mark.parametrize("store", ("zarr", "hdf5"))
def test_sets_of_an_earlier_version_are_read_and_migrated(store, featood):
    golden = Path(__file__).parents[1] / "golden" / "0.1.0" / store
    cache = FeatureCache(f"memory:///{random.random()}-{store}")
    from featood.storage import atomic_write

    for name, content in content_of(golden).items():
        atomic_write(cache.root / name, content)
    (first, *_) = cache
    expected = FeatureCache(golden)[first]
    np.testing.assert_array_equal(cache[first].feature()[:], expected.feature()[:])
    code, out, err = featood("cache", "migrate", "--cache", str(cache.root))
    if store == "zarr":
        assert code == 0 and f"migrated: {first}" in out, err
    assert cache[first].content == expected.content and cache.verify(first) == []
