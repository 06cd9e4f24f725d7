"""Rows written next to those of a set replace them in one step, from which a kill or a reader sees one or the other."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
from test_cache import KEY, STORES, make_manifest, make_rows, write_all

from featood.cache import Classifier, FeatureCache, export_set
from featood.cache.manifest import ROWS
from featood.errors import CacheCorrupt, FeatoodError, Mismatch
from featood.sealed import seal

LINEAR = Classifier(np.full((3, 12), 2.0), np.zeros(3))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def values(features):
    columns = {**features.features, "logits": features.logits, "labels": features.labels}
    classifier = tuple(part.tobytes() for part in features.classifier)
    return {name: column[:].tobytes() for name, column in columns.items()} | {"classifier": classifier}


def replace(root, store, rows, blocks=None):
    """Write all blocks, or some, next to those that are there."""
    cache = FeatureCache(root)
    earlier = None if cache.entry(KEY) is None else cache.entry(KEY).manifest
    with cache.writer(KEY, make_manifest(rows, store), LINEAR, earlier=earlier) as writer:
        for block in writer.pending() if blocks is None else blocks:
            writer.write(block, {name: column[writer.span(block)] for name, column in rows.items()})
        return writer.finish(KEY)


def names(cache):
    return {path.name for path in cache.entry(KEY).folder.iterdir()}


@pytest.mark.parametrize("store", STORES)
def test_new_rows_are_the_set_that_is_written_at_once(tmp_path, store):
    rows = make_rows(700)
    cache = write_all(tmp_path / "c", store, make_rows(300))
    reader = cache[KEY]
    at_once = replace(tmp_path / "other", store, rows)  # there is nothing to replace
    assert at_once.origin.rows_folder == ""
    found = replace(tmp_path / "c", store, rows)
    assert values(found) == values(at_once) and (found.content, found.fingerprint) == (
        at_once.content,
        at_once.fingerprint,
    )
    assert found.origin.fingerprint == at_once.origin.fingerprint
    assert cache.verify(KEY) == [] and len(cache) == 1 and cache.entry(KEY).complete
    assert names(cache) == {".lock", "manifest.json", found.origin.rows_folder}
    with pytest.raises(Mismatch, match="replaced or removed after it was opened; open it again"):
        reader.features["avg"][:]
    assert values(replace(tmp_path / "c", store, rows)) == values(at_once)  # as they are there already
    for form in STORES:
        export_set(cache, KEY, tmp_path / form, form)
        assert values(FeatureCache(tmp_path / form)[KEY]) == values(at_once)
    cache.remove([KEY])
    assert len(cache) == 0


def test_damage_of_replaced_rows_is_found_and_repaired(tmp_path):
    rows = make_rows(700)
    cache = write_all(tmp_path, "zarr", make_rows(300))
    folder = cache.entry(KEY).folder
    place = folder / replace(tmp_path, "zarr", rows).origin.rows_folder
    chunk = place / "columns" / "avg" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"x" + chunk.read_bytes()[-8:])
    assert len(cache.verify(KEY, drop=True)) == 1 and not cache.entry(KEY).complete
    expected = values(replace(tmp_path / "other", "zarr", rows))
    with cache.writer(KEY, make_manifest(rows, "zarr"), LINEAR) as writer:
        assert writer.pending() == [1]
        writer.write(1, {name: column[writer.span(1)] for name, column in rows.items()})
        assert values(writer.finish(KEY)) == expected
    (folder / "manifest.json").unlink()
    with pytest.raises(CacheCorrupt, match=r"manifest\.json is missing"):
        cache[KEY]
    assert values(write_all(tmp_path, "zarr", rows)[KEY])["avg"] == expected["avg"]


def test_incomplete_rows_do_not_replace_a_set_nor_rows_of_another(tmp_path):
    cache = write_all(tmp_path, "zarr", make_rows(300))
    before = values(cache[KEY])
    with pytest.raises(CacheCorrupt, match="1 of 3 blocks"):
        replace(tmp_path, "zarr", make_rows(700), [0])
    assert values(cache[KEY]) == before
    rows = make_rows(900)
    earlier = cache[KEY].origin
    with cache.writer(KEY, make_manifest(rows, "zarr"), LINEAR, earlier=earlier) as writer:
        for block in writer.pending():
            writer.write(block, {name: column[writer.span(block)] for name, column in rows.items()})
        manifest = dataclasses.replace(cache.entry(KEY).manifest, data={**writer.manifest.data, "split": "x"})
        manifest.save(cache.entry(KEY).folder)
        with pytest.raises(Mismatch, match=r"replaced .* in the meantime; run the same command again"):
            writer.finish(KEY)
    with pytest.raises(Mismatch, match=r"replaced .* in the meantime"):
        cache.writer(KEY, make_manifest(rows, "zarr"), LINEAR, earlier=earlier)


def test_gc_removes_rows_that_were_never_completed_or_were_replaced(tmp_path):
    cache = write_all(tmp_path, "zarr", make_rows(300))
    before = values(cache[KEY])
    with pytest.raises(CacheCorrupt):
        replace(tmp_path, "zarr", make_rows(700), [0])
    (left,) = cache.garbage(incomplete=True, older_than=0)
    assert left.name.startswith(ROWS) and cache.garbage(older_than=0) == []
    assert cache.garbage(incomplete=True, older_than=60) == []
    with cache.writer(KEY, cache[KEY].origin):
        assert cache.collect([left]) == [left]
    assert cache.collect([left]) == [] and not left.exists() and values(cache[KEY]) == before
    # rows that have replaced those of the set since they were listed are kept
    with pytest.raises(CacheCorrupt):
        replace(tmp_path, "zarr", make_rows(700), [0])
    listed = cache.garbage(incomplete=True, older_than=0)
    found = values(replace(tmp_path, "zarr", make_rows(700)))
    assert cache.collect(listed) == listed and values(cache[KEY]) == found
    (cache.entry(KEY).folder / "manifest.json").write_bytes(b"{}")
    assert cache.collect(listed) == listed


@needs_fork
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("store", STORES)
def test_a_kill_leaves_the_set_before_or_after(tmp_path, store, earlier):
    base = write_all(tmp_path / "base", store, make_rows(300))
    if earlier:
        replace(base.root, store, make_rows(400))
    rows = make_rows(600)
    before, after = values(base[KEY]), values(replace(tmp_path / "whole", store, rows))
    calls, killed, seen = 0, True, set()
    while killed:
        calls += 13 if store == "zarr" else 5
        cache = FeatureCache(shutil.copytree(base.root, tmp_path / str(calls)))
        if (child := os.fork()) == 0:
            left = [calls]

            def counted(real, left=left):
                def call(*arguments, **options):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*arguments, **options)

                return call

            os.replace, os.unlink, os.rmdir, os.fsync = map(
                counted, (os.replace, os.unlink, os.rmdir, os.fsync)
            )
            try:
                replace(cache.root, store, rows)
            finally:
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        there = values(cache[KEY])
        assert there in (before, after), calls
        with cache.writer(KEY, make_manifest(rows, store), LINEAR, earlier=cache[KEY].origin) as writer:
            seen.add((there == after, len(writer.pending())))
        assert values(replace(cache.root, store, rows)) == after and cache.verify(KEY) == []
        cache.collect(cache.garbage(incomplete=True, older_than=0))
        assert names(cache) == {".lock", "manifest.json", cache[KEY].origin.rows_folder}
        assert values(cache[KEY]) == after
    assert {(False, 3), (False, 1), (True, 0)} <= seen


@needs_fork
def test_a_kill_while_replaced_rows_are_overwritten_leaves_nothing_that_looks_complete(tmp_path):
    base = write_all(tmp_path / "base", "zarr", make_rows(300))
    before = values(replace(base.root, "zarr", make_rows(400)))
    calls, killed = 0, True
    while killed:
        calls += 3
        cache = FeatureCache(shutil.copytree(base.root, tmp_path / str(calls)))
        if (child := os.fork()) == 0:
            left = [calls]

            def counted(path, *arguments, real=os.unlink, left=left, **options):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(path, *arguments, **options)

            os.unlink = counted
            try:
                cache.remove([KEY])
            finally:
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        with contextlib.suppress(FeatoodError):
            assert values(cache[KEY]) == before
        if killed and len(cache):
            cache.remove([KEY])
        assert len(write_all(cache.root, "zarr", make_rows(200))[KEY]) == 200


@pytest.mark.parametrize("name", ["../other", "rows-0", "rows-0123456789AB", "/tmp", "columns", 3, None])
def test_a_manifest_names_no_other_folder(tmp_path, name):
    cache = write_all(tmp_path, "zarr", make_rows(300))
    path = cache.entry(KEY).folder / "manifest.json"
    body = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "sha256"}
    path.write_text(json.dumps(seal({**body, "rows_folder": name})))
    with pytest.raises(CacheCorrupt, match="rows_folder"):
        cache[KEY]
