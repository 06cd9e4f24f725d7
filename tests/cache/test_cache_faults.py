"""What the machine does to a cache: faults of the disk are no damage, and no fault gives wrong values."""

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from test_cache import KEY, STORES, make_manifest, make_rows, write_all

from featood.cache import Classifier, FeatureCache
from featood.errors import CacheCorrupt, Mismatch, MissingPackage, UsageError, advice, reading

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"
LINEAR = Classifier(np.ones((3, 12)), np.zeros(3))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def records(cache: FeatureCache) -> list[str]:
    return sorted(os.listdir(cache.folder("net", "toy", "test") / "commits"))


def refuse_reading(monkeypatch, code: int) -> None:
    """Let every read of a chunk or block fail, as the system and HDF5 then put it."""
    import h5py

    def refused(path, *args, **options):
        raise OSError(code, os.strerror(code), str(path))

    def opened(source, *args, **options):
        if isinstance(source, str | Path):
            raise OSError(
                f"Unable to synchronously open file (file read failed: errno = {code}, error message = '')"
            )
        return whole(source, *args, **options)

    whole = h5py.File
    monkeypatch.setattr("featood.files.opened", refused)
    monkeypatch.setattr(h5py, "File", opened)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_faults_of_the_disk_are_not_called_damage(tmp_path, monkeypatch, store, code):
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
@pytest.mark.parametrize("layout", ["earlier", "current"])
def test_want_of_memory_or_of_a_package_is_not_called_damage(tmp_path, monkeypatch, store, layout):
    import sys

    if layout == "earlier":
        cache = FeatureCache(shutil.copytree(GOLDEN / store, tmp_path / "cache"))
    else:
        cache = write_all(tmp_path, store, make_rows(600))
    package, there = {"zarr": "zarr", "hdf5": "h5py"}[store], records(cache)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        if (store, layout) == ("zarr", "current"):
            assert cache.verify(KEY) == []  # without the library
            return
        with pytest.raises(MissingPackage, match=f"pip install.*{package}"):
            cache.verify(KEY, drop=True)
        with pytest.raises(ImportError):
            cache[KEY].logits[:]

    for error in (MemoryError(), RuntimeError("can't start new thread")):
        with monkeypatch.context() as patch:
            patch.setattr(f"{package}.{'open_array' if store == 'zarr' else 'File'}", Mock(side_effect=error))
            with pytest.raises(type(error)):
                cache.verify(KEY, drop=True)
    assert records(cache) == there


def test_hdf5_is_read_where_a_file_system_has_no_locks(tmp_path, monkeypatch):
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


def test_a_lost_block_behind_the_joined_file_reads_as_no_number(tmp_path):
    import h5py

    rows = make_rows(600)
    cache = write_all(tmp_path, "hdf5", rows)
    folder = cache.folder("net", "toy", "test") / "columns"
    (folder / "block-00001.h5").unlink()
    with h5py.File(folder / "features.h5") as file:
        assert np.isnan(file["avg"][256:512]).all() and np.isnan(file["std"][256:512]).all()
        assert (file["labels"][256:512] == np.iinfo("i8").min).all()
        assert np.array_equal(file["avg"][:256], rows["avg"][:256])


def test_plain_zarr_reads_the_shards(tmp_path):
    import zarr

    rows = make_rows(600)
    cache = write_all(tmp_path, "zarr", rows)
    folder = cache.folder("net", "toy", "test") / "columns"
    for name, values in rows.items():
        assert np.array_equal(zarr.open_array(folder / name, mode="r")[:], values)
    (folder / "avg" / "c" / "0" / "0").unlink()
    assert np.isnan(zarr.open_array(folder / "avg", mode="r")[:256]).all()


@needs_fork
def test_an_export_that_is_killed_looks_unfinished(tmp_path, monkeypatch):
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


def test_heads_and_checkpoints_on_a_failing_disk_are_not_called_damaged(tmp_path, monkeypatch):
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
def test_only_what_is_wrong_with_a_file_is_called_so(error):
    from featood.errors import DataError

    with pytest.raises(type(error)), reading(Path("x.png")):
        raise error
    for fault in (OSError("image file is truncated"), PermissionError(errno.EACCES, "Permission denied")):
        with pytest.raises(DataError, match=r"x\.png cannot be read"), reading(Path("x.png")):
            raise fault


def test_features_of_other_library_versions_are_another_set(tmp_path):
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


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_write_that_is_refused_leaves_what_was_committed_and_nothing_else(
    tmp_path, monkeypatch, store, code
):
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
