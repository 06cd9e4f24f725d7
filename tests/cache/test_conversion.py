"""Sets of the earlier layout are converted without a moment at which a kill would lose one."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from featood.cache import FeatureCache, export_set
from featood.cache.commits import commit_path
from featood.cache.conversion import convert_set
from featood.cache.manifest import SCHEMA
from featood.cache.reader import LOCK
from featood.errors import CacheCorrupt, UsageError
from featood.files import lock, unlock
from featood.heads import load_head
from featood.pipeline.migration import migrate_cache
from featood.sealed import read_json

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"
KEY = "net/toy/train"
STORES = ("zarr", "hdf5")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(params=STORES)
def cache(request, tmp_path):
    return FeatureCache(shutil.copytree(GOLDEN / request.param, tmp_path / "cache"))


def values(features):
    columns = {**features.features, "logits": features.logits, "labels": features.labels}
    return {name: column[:].tobytes() for name, column in columns.items()} | {"ids": list(features.ids[:])}


def test_a_converted_set_is_the_same_set(cache):
    before, score = cache[KEY], load_head(GOLDEN / "heads" / "knn").score
    scores, expected = score(before), values(before)
    assert before.origin.schema == 1
    folder = cache.folder(*KEY.split("/"))
    assert convert_set(folder) and not convert_set(folder)
    after = cache[KEY]
    assert after.origin.schema == SCHEMA and values(after) == expected
    assert (after.content, after.fingerprint) == (before.content, before.fingerprint)
    assert after.origin.fingerprint == before.origin.fingerprint
    np.testing.assert_array_equal(score(after), scores)
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert names == {LOCK, "manifest.json", "classifier.safetensors", "commits", "columns"}
    files = {
        path.relative_to(folder).as_posix() for path in (folder / "columns").rglob("*") if path.is_file()
    }
    recorded = {name for block in (0, 1) for name in read_json(commit_path(folder, block))["files"]}
    assert {name for name in files if not name.endswith(("zarr.json", "features.h5"))} == recorded


def test_a_new_extraction_of_the_same_values_has_the_same_content(cache, tmp_path):
    before = cache[KEY]
    for form in STORES:
        export_set(cache, KEY, tmp_path / form, form)
        copy = FeatureCache(tmp_path / form)[KEY]
        assert copy.origin.schema == SCHEMA and copy.content == before.content


@needs_fork
def test_a_kill_loses_nothing(cache, tmp_path):
    expected, root = values(cache[KEY]), tmp_path / "killed"
    calls, killed = 0, True
    while killed:
        calls += 3
        shutil.rmtree(root, ignore_errors=True)
        folder = Path(shutil.copytree(cache.root, root)).joinpath(*KEY.split("/"))
        if (child := os.fork()) == 0:
            left = [calls]

            def counted(real, left=left):
                def call(*arguments, **options):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*arguments, **options)

                return call

            os.replace, os.fsync, shutil.rmtree = map(counted, (os.replace, os.fsync, shutil.rmtree))
            try:
                convert_set(folder)
            finally:
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert values(FeatureCache(root)[KEY]) == expected, calls
        convert_set(folder)
        assert values(FeatureCache(root)[KEY]) == expected and not (folder / "zarr").exists()
        assert FeatureCache(root)[KEY].origin.schema == SCHEMA and not (folder / "hdf5").exists()
    assert calls > 20


def test_an_interrupted_extraction_of_the_earlier_layout_is_continued_in_the_current_one(cache):
    whole, folder = cache[KEY], cache.folder(*KEY.split("/"))
    expected, manifest = values(whole), whole.origin
    with cache.writer(KEY, manifest) as writer:
        assert writer.pending() == [] and writer.manifest.schema == 1
    rows = {name: whole.features[name][31:] for name in ("avg", "std")}
    rows |= {"logits": whole.logits[31:], "labels": whole.labels[31:]}
    rows["ids"] = np.array([name.encode().ljust(20, b"\0") for name in whole.ids[31:]], "S20").view(np.uint8)
    assert (
        len(rows["avg"]) == 7
    )  # of the 8 rows of the second block, because the first has two that are left out
    commit_path(folder, 1).unlink()
    with pytest.raises(CacheCorrupt, match="incomplete"):
        cache[KEY]
    block = {
        name: np.concatenate([whole_rows(values)[:1], whole_rows(values)]) for name, values in rows.items()
    }
    with cache.writer(KEY, manifest) as writer:
        assert writer.pending() == [1] and writer.manifest.schema == SCHEMA
        writer.write(1, block)
        found = writer.finish(KEY)
    assert values(found)["avg"][: 30 * 16] == expected["avg"][: 30 * 16]


def whole_rows(values):
    return values.reshape(7, -1) if values.dtype == np.uint8 else values


def test_a_damaged_block_is_extracted_again_and_not_lost_in_silence(cache):
    folder = cache.folder(*KEY.split("/"))
    path = next(path for path in folder.rglob("*") if path.name in ("0", "block-00000.h5"))
    path.write_bytes(path.read_bytes()[:-1])
    migration = migrate_cache(cache)
    assert [KEY in str(problem) for problem in migration.problems] == [True]
    assert not (folder / "columns").exists()
    convert_set(folder)  # as a writer does
    with pytest.raises(CacheCorrupt, match="1 of 2 blocks are committed, block 0 is the first"):
        cache[KEY]


def test_a_set_that_is_being_written_is_not_converted(cache):
    held = lock(cache.folder(*KEY.split("/")) / LOCK)
    migration = migrate_cache(cache)
    assert [type(problem) for problem in migration.problems] == [UsageError]
    assert cache[KEY].origin.schema == 1
    unlock(held)
