import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from featood.cache import (
    Classifier,
    ColumnSpec,
    FeatureCache,
    FeatureSet,
    Manifest,
    export_set,
    import_arrays,
)
from featood.cache.reader import decode_ids, encode_ids
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError

KEY = "net/toy/test"
STORES = ("zarr", "hdf5")


def make_rows(n: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "avg": rng.normal(size=(n, 12)).astype("f4"),
        "std": rng.random((n, 5)).astype("f2"),
        "logits": rng.normal(size=(n, 3)).astype("f4"),
        "labels": rng.integers(0, 3, n),
        "ids": encode_ids([f"row-{row}.png" for row in range(n)], 12),
    }


def make_manifest(rows: dict[str, np.ndarray], store: str, block_rows: int = 256, **recipe: str) -> Manifest:
    return Manifest(
        recipe={"backbone": "net", **recipe},
        data={"dataset": "toy", "split": "test", "inputs_sha256": "x"},
        columns={name: ColumnSpec(values.shape[1:], str(values.dtype)) for name, values in rows.items()},
        rows=len(rows["labels"]),
        store=store,
        main="avg",
        block_rows=block_rows,
    )


def write_all(
    root: Path, store: str, rows: dict[str, np.ndarray], failed: tuple[int, ...] = ()
) -> FeatureCache:
    cache = FeatureCache(root)
    with cache.writer(KEY, make_manifest(rows, store), Classifier(np.ones((3, 12)), np.zeros(3))) as writer:
        for block in writer.pending():
            span = writer.span(block)
            lost = [row for row in failed if span.start <= row < span.stop]
            writer.write(block, {name: values[span] for name, values in rows.items()}, lost)
        writer.finish(KEY)
    return cache


@pytest.mark.parametrize("store", STORES)
def test_values_for_any_slice(tmp_path, store):
    rows = make_rows()
    features = write_all(tmp_path, store, rows)[KEY]
    for name in ("avg", "std"):
        for part in (slice(0, 1000), slice(250, 260), slice(255, 770), slice(990, 2000), slice(5, 5)):
            assert np.array_equal(features.features[name][part], rows[name][part])
    assert np.array_equal(features.logits[:], rows["logits"])
    assert np.array_equal(features.labels[10:300], rows["labels"][10:300])
    assert list(features.ids[254:258]) == [f"row-{row}.png" for row in range(254, 258)]
    blocks = list(features.select("std", "labels").blocks(300))
    assert [len(block) for block in blocks] == [300, 300, 300, 100]
    assert np.array_equal(np.concatenate([block.features["std"].numpy() for block in blocks]), rows["std"])


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("label", [0, -1, np.iinfo("i8").min])
def test_blocks_of_one_value_and_empty_blocks(tmp_path, store, label):
    rows = make_rows(600)
    rows["labels"][:300] = label
    rows["avg"][300:512] = 0
    cache = write_all(tmp_path, store, rows, failed=tuple(range(256, 512)))
    kept = np.r_[0:256, 512:600]
    assert np.array_equal(cache[KEY].labels[:], rows["labels"][kept])
    assert np.array_equal(cache[KEY].features["avg"][:], rows["avg"][kept])
    cache.verify(KEY)


def test_both_stores_give_identical_sets_and_fingerprints(tmp_path):
    rows = make_rows()
    first, second = (write_all(tmp_path / store, store, rows)[KEY] for store in STORES)
    assert first.fingerprint == second.fingerprint
    for name in ("avg", "std"):
        assert first.features[name][:].tobytes() == second.features[name][:].tobytes()


def test_the_joined_hdf5_file_has_every_row(tmp_path):
    import h5py

    rows = make_rows()
    cache = write_all(tmp_path, "hdf5", rows)
    with h5py.File(cache.folder("net", "toy", "test") / "columns" / "features.h5") as file:
        assert np.array_equal(file["avg"][:], rows["avg"])
        assert file["labels"].shape == (1000,)


@pytest.mark.parametrize("store", STORES)
def test_failed_rows_are_left_out_everywhere(tmp_path, store):
    rows = make_rows()
    rows["avg"][[3, 256, 999]] = np.nan
    features = write_all(tmp_path, store, rows, failed=(3, 256, 999))[KEY]
    kept = np.setdiff1d(np.arange(1000), [3, 256, 999])
    assert len(features) == 997
    assert np.array_equal(features.features["avg"][:], rows["avg"][kept])
    assert np.array_equal(features.labels[200:300], rows["labels"][kept][200:300])
    assert features.ids[3] == "row-4.png"


def data_files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "features.h5")
    )


@pytest.mark.parametrize("store", STORES)
def test_errors_name_each_damaged_file(tmp_path, store):
    """Flip one bit, delete and truncate each file of the set."""
    rows = make_rows(600)
    cache = write_all(tmp_path, store, rows)
    folder = cache.folder("net", "toy", "test")
    rng = np.random.default_rng(0)
    for path in data_files(folder):
        content = path.read_bytes()
        at = int(rng.integers(len(content)))
        flipped = content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
        for damaged in (flipped, None, content[:-1], content[: len(content) // 2], b""):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            problems = cache.verify(KEY)
            if damaged is not flipped:
                assert problems, (
                    f"{path.name} with {damaged if damaged is None else len(damaged)} bytes went unnoticed"
                )
                assert str(folder) in str(problems[0])
            else:  # an unused bit may flip, but then the values must be right
                assert problems or np.array_equal(cache[KEY].features["avg"][:], rows["avg"]), path.name
            path.write_bytes(content)
        assert cache.verify(KEY) == []


@pytest.mark.parametrize("store", STORES)
def test_a_flipped_bit_in_the_values_names_block_and_column(tmp_path, store):
    rows = make_rows(600)
    cache = write_all(tmp_path, store, rows)
    folder = cache.folder("net", "toy", "test")
    needle = rows["avg"][300:304].tobytes()
    (path,) = [file for file in data_files(folder) if needle in file.read_bytes()]
    content = bytearray(path.read_bytes())
    content[content.index(needle) + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(CacheCorrupt, match=r"block 1 \(rows 256-511\), column avg"):
        cache[KEY].features["avg"][:]
    cache[KEY].features["avg"][:256]  # other blocks are intact
    assert len(cache.verify(KEY, drop=True)) == 1
    with cache.writer(KEY, make_manifest(rows, store), Classifier(np.ones((3, 12)), np.zeros(3))) as writer:
        assert writer.pending() == [1]
        writer.write(1, {name: values[256:512] for name, values in rows.items()})
        assert np.array_equal(writer.finish(KEY).features["avg"][:], rows["avg"])


def test_the_error_of_an_incomplete_set_names_the_missing_block(tmp_path):
    rows = make_rows()
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, make_manifest(rows, "zarr")) as writer:
        for block in (0, 2):
            writer.write(block, {name: values[writer.span(block)] for name, values in rows.items()})
    with pytest.raises(CacheCorrupt, match="2 of 4 blocks are committed, block 1 is the first"):
        cache[KEY]


def write_until_killed(root: Path, store: str, rows: dict[str, np.ndarray], calls: int) -> None:
    """Write the set in a child process that is killed (-9) at its `calls`-th rename or flush."""
    child = os.fork()
    if child == 0:
        left = calls

        def counted(real):
            def call(*args, **kwargs):
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        os.replace, os.fsync = counted(os.replace), counted(os.fsync)
        try:
            write_all(root, store, rows)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("store", STORES)
def test_kill_minus_nine_anywhere_then_resume_is_bit_identical(tmp_path, store):
    rows = make_rows(700)
    whole = write_all(tmp_path / "whole", store, rows)[KEY]
    for calls in range(1, 24, 2):
        root = tmp_path / f"killed-{calls}"
        write_until_killed(root, store, rows, calls)
        cache = FeatureCache(root)
        if (cache.folder("net", "toy", "test") / "manifest.json").exists():
            for key in cache:  # a reader gets an error or correct values
                try:
                    assert np.array_equal(cache[key].features["avg"][:], rows["avg"])
                except CacheCorrupt as error:
                    assert "incomplete" in str(error)
        resumed = write_all(root, store, rows)[KEY]
        for name in ("avg", "std"):
            assert resumed.features[name][:].tobytes() == whole.features[name][:].tobytes()
        assert cache.verify(KEY) == []


def test_another_recipe_is_refused_with_its_difference(tmp_path):
    rows = make_rows(300)
    cache = write_all(tmp_path, "zarr", rows)
    with pytest.raises(Mismatch, match=r"recipe\.weights"):
        cache.writer(KEY, make_manifest(rows, "zarr", weights="other"))
    with cache.writer(KEY, make_manifest(rows, "zarr", weights="other"), overwrite=True) as writer:
        assert writer.pending() == [0, 1]


def test_a_second_writer_has_to_wait(tmp_path):
    rows = make_rows(300)
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, make_manifest(rows, "zarr")):
        with pytest.raises(UsageError, match="another process is writing"):
            cache.writer(KEY, make_manifest(rows, "zarr"))
    cache.writer(KEY, make_manifest(rows, "zarr")).__exit__()


def test_values_that_are_not_finite_or_overflow_are_refused(tmp_path):
    rows = make_rows(300)
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, make_manifest(rows, "zarr")) as writer:
        block = {name: values[:256].copy() for name, values in rows.items()}
        block["std"] = block["std"].astype("f4")
        block["std"][7] = 1e5
        with pytest.raises(DataError, match=r"row 7.*float32"):
            writer.write(0, block)
        block["std"][7] = np.nan
        with pytest.raises(DataError, match="not finite"):
            writer.write(0, block)
        block["std"] = np.where(np.arange(block["std"].size) % 4, 3e-5, 1).reshape(block["std"].shape)
        with pytest.raises(DataError, match="too small for float16; extract with --dtype float32"):
            writer.write(0, block)
        tiny, block["std"] = block["std"].astype("f2"), np.where(block["std"] < 1, 0, block["std"])
        writer.write(0, block)  # zeros lose nothing
        block = {name: values[256:300].copy() for name, values in rows.items()}
        writer.write(1, {**block, "std": tiny[:44]})  # nor does what was float16 before


def test_gc_removes_temporary_files_but_not_those_being_written(tmp_path):
    rows = make_rows(600)
    cache = write_all(tmp_path, "zarr", rows)
    folder = cache.folder("net", "toy", "test")
    scratch = folder / "columns" / "avg" / "c" / "0.abc.partial"
    scratch.parent.mkdir(exist_ok=True, parents=True)
    scratch.write_bytes(b"half")
    assert cache.garbage() == []  # young
    assert cache.garbage(older_than=0) == [scratch]
    cache.collect(cache.garbage(older_than=0))
    assert not scratch.exists()
    with cache.writer("net/toy/train", make_manifest(rows, "zarr")):
        assert cache.garbage(incomplete=True, older_than=0) == []
    assert cache.garbage(incomplete=True, older_than=0) == [cache.folder("net", "toy", "train")]
    cache.collect(cache.garbage(incomplete=True, older_than=0))
    assert list(cache) == [KEY]


def test_a_newer_schema_needs_an_upgrade(tmp_path):
    from featood.sealed import seal

    cache = write_all(tmp_path, "zarr", make_rows(300))
    path = cache.folder("net", "toy", "test") / "manifest.json"
    body = json.loads(path.read_text())
    body.pop("sha256")
    path.write_text(json.dumps(seal({**body, "schema": 99})))
    with pytest.raises(Mismatch, match="upgrade"):
        cache[KEY]


@pytest.mark.parametrize("store", STORES)
def test_import_then_export_keeps_every_value(tmp_path, store):
    rows = make_rows(500)
    cache = FeatureCache(tmp_path / "cache")
    weight, bias = np.ones((3, 12), "f4"), np.arange(3, dtype="f4")
    features = import_arrays(
        cache,
        KEY,
        {"avg": rows["avg"].astype("f8")},
        None,
        rows["labels"],
        Classifier(weight, bias),
        store=store,
    )
    assert np.allclose(features.logits[:], rows["avg"] @ weight.T + bias, atol=1e-5)
    folder = export_set(cache, KEY, tmp_path / "out", "npy")
    assert np.array_equal(np.load(folder / "avg.npy"), rows["avg"])
    for form in STORES:
        export_set(cache, KEY, tmp_path / form, form)
        copy = FeatureCache(tmp_path / form)[KEY]
        assert copy.features["avg"][:].tobytes() == rows["avg"].tobytes()
        assert copy.fingerprint == features.fingerprint
        assert np.array_equal(copy.classifier.weight, weight)


def test_ids_of_any_script_survive():
    names = ["a.png", "ünïcode/日本.png", ""]
    assert list(decode_ids(encode_ids(names, 40))) == names


def test_the_error_of_a_feature_set_names_the_wrong_column():
    with pytest.raises(DataError, match="avg 4, labels 3"):
        FeatureSet({"avg": np.zeros((4, 2))}, labels=np.zeros(3, int))
    with pytest.raises(DataError, match="'avg' has shape"):
        FeatureSet({"avg": np.zeros(4)})
    with pytest.raises(DataError, match="not classes"):
        FeatureSet({"avg": np.zeros((4, 2))}, labels=np.full(4, 0.5))
    with pytest.raises(UsageError, match="it has: avg"):
        FeatureSet({"avg": np.zeros((4, 2))}).feature("std")


@pytest.mark.parametrize("store", STORES)
def test_a_full_disk_is_an_ordinary_error_and_can_be_resumed(tmp_path, store):
    import resource

    rows = make_rows(3000)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            write_all(tmp_path, store, rows)
        except OSError as error:
            os._exit(7 if "large" in str(error) else 8)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not list(tmp_path.rglob("*.tmp"))
    assert np.array_equal(write_all(tmp_path, store, rows)[KEY].features["avg"][:], rows["avg"])
