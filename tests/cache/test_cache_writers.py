"""Several processes at one cache: writers, readers and the removal of sets never disturb one another."""

import os

import numpy as np
import pytest
from test_cache import KEY, STORES, make_manifest, make_rows, write_all
from test_cache_faults import records

from featood.cache import Classifier, FeatureCache, Manifest, garbage
from featood.cache.commits import commit_path
from featood.cache.reader import LOCK
from featood.errors import CacheCorrupt, FeatoodError, Mismatch, UsageError
from featood.files import lock, remove, temporary, unlock
from featood.sealed import write_json

LINEAR = Classifier(np.ones((3, 12)), np.zeros(3))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def at_once(writers: list, broken: bool = True) -> list[int]:
    """Run functions in processes of their own that begin together; with a broken lock, which everybody gets."""
    import fcntl

    waiting, start = os.pipe()
    children = []
    for writer in writers:
        if (child := os.fork()) == 0:
            code = 1
            try:
                if broken:
                    fcntl.flock = lambda *_: None
                os.close(start)
                os.read(waiting, 1)
                writer()
                code = 0
            except FeatoodError as error:
                code = error.exit_code
            finally:
                os._exit(code)
        children.append(child)
    os.close(waiting), os.close(start)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@needs_fork
@pytest.mark.parametrize("store", STORES)
def test_writers_of_one_set_all_end_well_where_locks_are_broken(tmp_path, store):
    rows = make_rows(700)
    assert at_once([lambda: write_all(tmp_path, store, rows)] * 8) == [0] * 8
    cache = FeatureCache(tmp_path)
    assert cache.verify(KEY) == []
    assert all(np.array_equal(cache[KEY].features[name][:], rows[name]) for name in ("avg", "std"))


@needs_fork
@pytest.mark.parametrize("store", STORES)
def test_writers_of_different_values_never_mix_them(tmp_path, store):
    """Two recipes at once, the lock broken: a reader gets one set or is refused, and a writer alone mends it."""
    makings = [
        (make_rows(700, seed), make_manifest(make_rows(700), store, seed=str(seed))) for seed in (1, 2)
    ]
    cache = FeatureCache(tmp_path)

    def write(rows, manifest):
        with cache.writer(KEY, manifest, LINEAR) as writer:
            for block in writer.pending():
                writer.write(block, {name: values[writer.span(block)] for name, values in rows.items()})
            writer.finish(KEY)

    codes = at_once([lambda making=making: write(*making) for making in makings * 2])
    assert set(codes) <= {0, 4, 5}
    try:
        found = cache[KEY].features["avg"][:]
        assert any(np.array_equal(found, rows["avg"]) for rows, _ in makings)
    except CacheCorrupt:
        pass
    there = cache.entries()[0].manifest.recipe["seed"]
    rows, manifest = makings[int(there) - 1]
    write(rows, manifest)
    if cache.verify(KEY, drop=True):
        write(rows, manifest)
    assert cache.verify(KEY) == [] and np.array_equal(cache[KEY].features["avg"][:], rows["avg"])


def test_records_of_another_set_are_not_believed(tmp_path):
    """A record that a power cut brought back, or that was copied, vouches for other values than the manifest's."""
    rows = make_rows(600)
    cache = write_all(tmp_path / "cache", "zarr", rows)
    other = FeatureCache(tmp_path / "other")
    with other.writer(KEY, make_manifest(rows, "zarr", weights="other"), LINEAR) as writer:
        for block in writer.pending():
            writer.write(block, {name: values[writer.span(block)] for name, values in rows.items()})
    paths = [commit_path(where.folder("net", "toy", "test"), 1) for where in (cache, other)]
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(CacheCorrupt, match="fingerprint is not that of block 1"):
        cache[KEY]
    assert np.array_equal(write_all(tmp_path / "cache", "zarr", rows)[KEY].features["avg"][:], rows["avg"])


def test_gc_looks_again_before_it_removes(tmp_path):
    rows = make_rows(600)
    cache, manifest = FeatureCache(tmp_path), make_manifest(rows, "zarr")

    def write(blocks):
        writer = cache.writer(KEY, manifest)
        for block in blocks:
            writer.write(block, {name: values[writer.span(block)] for name, values in rows.items()})
        return writer

    write([0]).__exit__()
    rubbish = cache.garbage(incomplete=True, older_than=0)
    assert rubbish == [cache.folder("net", "toy", "test")]
    with write([1]):  # a writer has begun since
        assert cache.collect(rubbish) == rubbish
        assert records(cache) == ["00000.json", "00001.json"]
    write([2]).__exit__()  # and has finished
    assert cache.collect(rubbish) == rubbish
    assert cache.verify(KEY) == []


def test_gc_leaves_the_folder_of_a_writer_that_has_but_its_lock(tmp_path):
    folder = tmp_path / "net" / "toy" / "test"
    folder.mkdir(parents=True)
    held = lock(folder / LOCK)
    assert FeatureCache(tmp_path).collect([folder]) == [folder] and (folder / LOCK).exists()
    unlock(held)
    assert FeatureCache(tmp_path).collect([folder]) == [] and not folder.exists()


def test_blocks_are_not_dropped_from_under_a_writer(tmp_path):
    rows = make_rows(600)
    cache = write_all(tmp_path, "zarr", rows)
    with cache.writer(KEY, make_manifest(rows, "zarr"), LINEAR):
        with pytest.raises(UsageError, match="is writing"):
            cache.verify(KEY, drop=True)
        assert cache.verify(KEY) == []


@needs_fork
@pytest.mark.parametrize("store", STORES)
def test_a_set_that_was_read_before_a_fork_is_read_in_the_workers(tmp_path, store):
    """Handles that are open, and locks that threads hold, do not survive a fork."""
    from torch.utils.data import DataLoader, Dataset

    rows = make_rows(600)
    opened = write_all(tmp_path, store, rows)[KEY]
    assert np.array_equal(opened.features["avg"][:256], rows["avg"][:256])

    class Rows(Dataset):
        def __len__(self):
            return 600

        def __getitem__(self, row):
            return opened.features["avg"][row : row + 1], opened.features["std"][row : row + 1]

    loader = DataLoader(Rows(), 50, num_workers=2, multiprocessing_context="fork", timeout=120)
    found = [[part.numpy()[:, 0] for part in batch] for batch in loader]
    for name, parts in zip(("avg", "std"), zip(*found, strict=True), strict=True):
        assert np.array_equal(np.concatenate(parts), rows[name])
        assert np.array_equal(opened.features[name][:], rows[name])


def test_names_that_differ_in_case_alone_do_not_mix_where_the_file_system_takes_them_for_one(tmp_path):
    """Such a file system opens the folder ``net`` when asked for ``Net``, as a link does."""
    rows = make_rows(300)
    cache = write_all(tmp_path, "zarr", rows)
    (tmp_path / "Net").symlink_to(tmp_path / "net")
    with pytest.raises(Mismatch, match="holds features made with other settings"):
        cache.writer("Net/toy/test", make_manifest(rows, "zarr", weights="other"), LINEAR)
    with cache.writer("Net/toy/test", make_manifest(rows, "zarr"), LINEAR) as writer:
        assert writer.pending() == []
    assert np.array_equal(cache[KEY].features["avg"][:], rows["avg"]) and cache.verify(KEY) == []


def test_a_set_that_is_removed_while_sets_are_listed_is_not_listed(tmp_path, monkeypatch):
    cache = write_all(tmp_path, "hdf5", make_rows(3))

    def load(folder):
        remove(folder)
        raise FileNotFoundError

    monkeypatch.setattr(Manifest, "load", load)
    assert cache.entries() == []


def test_a_set_that_is_being_written_is_not_removed(tmp_path):
    cache = write_all(tmp_path, "hdf5", make_rows(3))
    folder = cache.folder(*KEY.split("/"))
    held = lock(folder / LOCK)
    with pytest.raises(UsageError, match="another process is writing"):
        cache.remove([KEY])
    unlock(held)
    assert cache.keys() == [KEY]


def test_a_folder_that_is_filled_again_while_its_set_is_removed_stays(tmp_path, monkeypatch):
    cache = write_all(tmp_path, "hdf5", make_rows(3))
    folder = cache.folder(*KEY.split("/"))

    def next_writer(held):
        unlock(held)
        write_json(folder / "manifest.json", {})

    monkeypatch.setattr(garbage, "unlock", next_writer)
    cache.remove([KEY])
    assert (folder / "manifest.json").exists()


def test_scratch_that_changes_while_its_age_is_read_is_kept(tmp_path):
    cache = write_all(tmp_path, "hdf5", make_rows(3))
    scratch = temporary(cache.folder(*KEY.split("/")) / "x")
    scratch.mkdir()
    assert cache.garbage(older_than=-1.0) == [scratch]
    (scratch / "gone").symlink_to(scratch / "nowhere")
    assert cache.garbage(older_than=1.0) == []
