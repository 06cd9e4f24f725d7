"""System faults: disk errors are not reported as damage, and no fault gives wrong values."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from test_cache import KEY, STORES, make_manifest, make_rows, write_all

from featood.cache import Classifier, FeatureCache
from featood.cache.reader import LOCK, commit_path
from featood.errors import CacheCorrupt, FeatoodError, Mismatch, MissingPackage, UsageError, advice
from featood.files import lock, unlock

LINEAR = Classifier(np.ones((3, 12)), np.zeros(3))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def records(cache: FeatureCache) -> list[str]:
    return sorted(os.listdir(cache.folder("net", "toy", "test") / "commits"))


def refuse_reading(monkeypatch, code: int) -> None:
    """Make every read of a shard or block fail with the error of the library."""
    import h5py

    def read_bytes(path: Path) -> bytes:
        if path.suffix != ".json" or path.name == "zarr.json":
            raise OSError(code, os.strerror(code), str(path))
        return real(path)

    def opened(source, *args, **options):
        if isinstance(source, str | Path):
            raise OSError(
                f"Unable to synchronously open file (file read failed: errno = {code}, error message = '')"
            )
        return whole(source, *args, **options)

    real, whole = Path.read_bytes, h5py.File
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(h5py, "File", opened)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_disk_errors_are_not_reported_as_damage(tmp_path, monkeypatch, store, code):
    rows = make_rows(600)
    cache = write_all(tmp_path, store, rows)
    there = records(cache)
    opened = cache[KEY]
    with monkeypatch.context() as patch:
        refuse_reading(patch, code)
        with pytest.raises(OSError) as caught:
            opened.features["avg"][:]
        assert caught.value.errno == code and advice(caught.value)
        with pytest.raises(OSError):
            cache.verify(KEY, drop=True)
    assert records(cache) == there and cache.verify(KEY) == []


@pytest.mark.parametrize("store", STORES)
def test_missing_memory_or_packages_are_not_reported_as_damage(tmp_path, monkeypatch, store):
    import sys

    cache = write_all(tmp_path, store, make_rows(600))
    there = records(cache)
    package = {"zarr": "zarr", "hdf5": "h5py"}[store]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        with pytest.raises(MissingPackage, match=f"pip install.*{package}"):
            cache.verify(KEY, drop=True)
        with pytest.raises(ImportError):
            cache[KEY].logits[:]

    def exhausted(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(f"{package}.{'open_array' if store == 'zarr' else 'File'}", exhausted)
        with pytest.raises(MemoryError):
            cache.verify(KEY, drop=True)
    assert records(cache) == there


def test_hdf5_is_read_from_file_systems_without_locks(tmp_path, monkeypatch):
    import h5py

    rows = make_rows(600)
    cache = write_all(tmp_path, "hdf5", rows)
    real = h5py.File

    def unlockable(source, *args, **options):
        if isinstance(source, str | Path):
            raise OSError("Unable to synchronously open file (unable to lock file, errno = 11)")
        return real(source, *args, **options)

    monkeypatch.setattr(h5py, "File", unlockable)
    assert np.array_equal(cache[KEY].features["avg"][:], rows["avg"])


def test_the_command_line_says_what_to_do(featood, tmp_path, monkeypatch):
    write_all(tmp_path / "cache", "zarr", make_rows(600))
    with monkeypatch.context() as patch:
        refuse_reading(patch, errno.EIO)
        code, _, err = featood("cache", "verify", "--drop")
    assert (
        code == 3
        and err.count("\n") == 1
        and "Input/output error" in err
        and "run the same command again" in err
    )
    assert featood("cache", "verify")[0] == 0


def test_a_missing_block_of_the_joined_file_is_nan(tmp_path):
    import h5py

    rows = make_rows(600)
    cache = write_all(tmp_path, "hdf5", rows)
    folder = cache.folder("net", "toy", "test") / "hdf5"
    (folder / "block-00001.h5").unlink()
    with h5py.File(folder / "features.h5") as file:
        assert np.isnan(file["avg"][256:512]).all() and np.isnan(file["std"][256:512]).all()
        assert (file["labels"][256:512] == np.iinfo("i8").min).all()
        assert np.array_equal(file["avg"][:256], rows["avg"][:256])


def test_plain_zarr_reads_the_shards(tmp_path):
    import zarr

    rows = make_rows(600)
    cache = write_all(tmp_path, "zarr", rows)
    folder = cache.folder("net", "toy", "test") / "zarr"
    for name, values in rows.items():
        assert np.array_equal(zarr.open_array(folder / name, mode="r")[:], values)
    (folder / "avg" / "c" / "0" / "0").unlink()
    assert np.isnan(zarr.open_array(folder / "avg", mode="r")[:256]).all()


def at_once(writers: list, broken: bool = True) -> list[int]:
    """Run functions in separate processes that start together, with a lock that is always granted."""
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
def test_concurrent_writers_of_one_set_succeed_without_locks(tmp_path, store):
    rows = make_rows(700)
    assert at_once([lambda: write_all(tmp_path, store, rows)] * 8) == [0] * 8
    cache = FeatureCache(tmp_path)
    assert cache.verify(KEY) == []
    assert all(np.array_equal(cache[KEY].features[name][:], rows[name]) for name in ("avg", "std"))


@needs_fork
@pytest.mark.parametrize("store", STORES)
def test_concurrent_writers_of_different_values_never_mix_them(tmp_path, store):
    """With two recipes at once and a broken lock, a reader gets one set or an error, and a single writer repairs it."""
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


def test_records_of_another_set_are_refused(tmp_path):
    """A record that was copied, or restored by a power cut, belongs to other values than the manifest."""
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


def test_gc_checks_again_before_removing(tmp_path):
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
    with write([1]):  # a writer has started in the meantime
        assert cache.collect(rubbish) == rubbish
        assert records(cache) == ["00000.json", "00001.json"]
    write([2]).__exit__()  # and has finished
    assert cache.collect(rubbish) == rubbish
    assert cache.verify(KEY) == []


def test_gc_keeps_the_folder_of_a_writer_that_has_only_its_lock(tmp_path):
    folder = tmp_path / "net" / "toy" / "test"
    folder.mkdir(parents=True)
    held = lock(folder / LOCK)
    assert FeatureCache(tmp_path).collect([folder]) == [folder] and (folder / LOCK).exists()
    unlock(held)
    assert FeatureCache(tmp_path).collect([folder]) == [] and not folder.exists()


def test_blocks_of_an_active_writer_are_not_dropped(tmp_path):
    rows = make_rows(600)
    cache = write_all(tmp_path, "zarr", rows)
    with cache.writer(KEY, make_manifest(rows, "zarr"), LINEAR):
        with pytest.raises(UsageError, match="is writing"):
            cache.verify(KEY, drop=True)
        assert cache.verify(KEY) == []


@needs_fork
def test_a_killed_export_is_recognisably_incomplete(tmp_path, monkeypatch):
    from featood.cache import export_set, transfer

    rows = make_rows(600)
    cache = write_all(tmp_path / "cache", "zarr", rows)
    real = transfer.create
    for calls in range(1, 6):
        if (child := os.fork()) == 0:
            left = [calls]

            def killed(path, left=left):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), 9)
                return real(path)

            transfer.create = killed
            export_set(cache, KEY, tmp_path / "out", "npy")
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert all(path.name.endswith(".tmp") for path in (tmp_path / "out").iterdir())
    folder = export_set(cache, KEY, tmp_path / "out", "npy")
    assert np.array_equal(np.load(folder / "avg.npy"), rows["avg"])
    with pytest.raises(UsageError, match="not empty"):
        export_set(cache, KEY, tmp_path / "out", "npy")


def test_heads_and_checkpoints_on_a_failing_disk_are_not_reported_as_damaged(tmp_path, monkeypatch):
    import torch

    from featood import FeatureSet, create_head, load_head
    from featood.training.checkpoint import load_checkpoint, save_checkpoint

    rows = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
    create_head("knn", k=3).fit(FeatureSet({"avg": rows})).save(tmp_path / "head")
    save_checkpoint(tmp_path / "training", 1, {"w": torch.zeros(2)}, {})
    real = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.suffix == ".safetensors":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        for load in (
            lambda: load_head(tmp_path / "head"),
            lambda: load_checkpoint(tmp_path / "training", {}),
        ):
            with pytest.raises(OSError) as caught:
                load()
            assert caught.value.errno == errno.EIO
    for file in tmp_path.rglob("*.safetensors"):
        file.unlink()
    for load in (lambda: load_head(tmp_path / "head"), lambda: load_checkpoint(tmp_path / "training", {})):
        with pytest.raises(CacheCorrupt):
            load()


def test_images_on_a_failing_disk_are_not_left_out(featood, script, tmp_path, toy_images, monkeypatch):
    from featood.data import ImageSet

    (tmp_path / "net.py").write_text(script("commands").NET)
    real = ImageSet.read

    def failing(images, row):
        if row == 40:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "40.png")
        return real(images, row)

    line = ("extract", "--backbone", f"python:{tmp_path}/net.py:make", "--dataset", "toy", "--split", "test")
    with monkeypatch.context() as patch:
        patch.setattr(ImageSet, "read", failing)
        for workers in (0, 1):
            code, _, err = featood(*line, "--workers", workers)
            assert code == 3 and "Input/output error: 40.png" in err and "Traceback" not in err
    assert featood(*line, "--workers", 0)[0] == 0


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOSPC, "full"), MemoryError()]
)
def test_only_errors_of_a_file_are_reported_as_such(error):
    from featood.data.images.reading import reading
    from featood.errors import DataError

    with pytest.raises(type(error)), reading(Path("x.png")):
        raise error
    for fault in (OSError("image file is truncated"), PermissionError(errno.EACCES, "Permission denied")):
        with pytest.raises(DataError, match=r"x\.png cannot be read"), reading(Path("x.png")):
            raise fault


@needs_fork
@pytest.mark.parametrize("store", STORES)
def test_a_set_read_before_a_fork_is_readable_in_workers(tmp_path, store):
    """Open handles, and locks held by threads, do not survive a fork."""
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


def test_features_of_other_library_versions_are_a_different_set(tmp_path):
    import dataclasses

    rows, cache = make_rows(300), FeatureCache(tmp_path)
    manifest = dataclasses.replace(make_manifest(rows, "zarr"), versions={"torch": "2.0", "numpy": "2.0"})
    with cache.writer(KEY, manifest, LINEAR) as writer:
        writer.write(0, {name: values[writer.span(0)] for name, values in rows.items()})
    for versions, text in (({"torch": "2.1", "numpy": "2.0"}, r"versions\.torch"), ({}, "not known")):
        with pytest.raises(Mismatch, match=rf"\(differing: {text}\); add --overwrite"):
            cache.writer(KEY, dataclasses.replace(manifest, versions=versions), LINEAR)
    with cache.writer(KEY, manifest, LINEAR) as writer:
        assert writer.pending() == [1]


def test_names_that_differ_only_in_case_do_not_mix_on_case_insensitive_file_systems(tmp_path):
    """Such a file system opens the folder ``net`` for ``Net``, which a link simulates."""
    rows = make_rows(300)
    cache = write_all(tmp_path, "zarr", rows)
    (tmp_path / "Net").symlink_to(tmp_path / "net")
    with pytest.raises(Mismatch, match="holds features made with other settings"):
        cache.writer("Net/toy/test", make_manifest(rows, "zarr", weights="other"), LINEAR)
    with cache.writer("Net/toy/test", make_manifest(rows, "zarr"), LINEAR) as writer:
        assert writer.pending() == []
    assert np.array_equal(cache[KEY].features["avg"][:], rows["avg"]) and cache.verify(KEY) == []


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_refused_write_keeps_committed_blocks_and_leaves_nothing_else(tmp_path, monkeypatch, store, code):
    rows, whole = make_rows(600), write_all(tmp_path / "whole", store, make_rows(600))

    def refused(*_):
        raise OSError(code, os.strerror(code))

    cache = FeatureCache(tmp_path / "cache")
    with cache.writer(KEY, make_manifest(rows, store), LINEAR) as writer:
        blocks = [{name: column[writer.span(block)] for name, column in rows.items()} for block in range(3)]
        writer.write(0, blocks[0])
        for place in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(os, place, refused)
                with pytest.raises(OSError) as caught:
                    writer.write(1, blocks[1])
            assert caught.value.errno == code and advice(caught.value)
        assert writer.pending() == [1, 2] and not list(tmp_path.rglob("*.tmp"))
    again = write_all(tmp_path / "cache", store, rows)
    assert again.verify(KEY) == []
    assert again[KEY].features["avg"][:].tobytes() == whole[KEY].features["avg"][:].tobytes()
