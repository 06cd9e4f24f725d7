"""Untrusted caches and heads: no code from them is run, and their content is validated."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
from test_cache import KEY, make_rows, write_all
from test_golden import GOLDEN

from featood.cache import FeatureCache
from featood.errors import CacheCorrupt
from featood.heads import load_head
from featood.sealed import seal


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_zarr_array_of_pickles_is_never_unpickled(tmp_path):
    """Version 2 of zarr has arrays of objects, which zarr unpickles."""
    numcodecs = pytest.importorskip("numcodecs")
    cache = write_all(tmp_path / "cache", "zarr", make_rows(40))
    folder = cache.folder("net", "toy", "test") / "columns" / "labels"
    (shard,) = folder.glob("c/0")
    size = shard.stat().st_size
    shutil.rmtree(folder)
    (folder / "c").mkdir(parents=True)
    content = numcodecs.Pickle().encode(np.array([Trap(tmp_path / "ran")] * 40, dtype=object))
    for name in ("0", "c/0"):
        (folder / name).write_bytes(content.ljust(size, b"\0"))
    meta = {"zarr_format": 2, "shape": [40], "chunks": [40], "dtype": "|O", "fill_value": 0, "order": "C",
            "filters": None, "compressor": {"id": "pickle", "protocol": 4}}  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(meta))
    assert cache.verify(KEY)
    with pytest.raises(CacheCorrupt):
        cache[KEY].labels[:]
    assert not (tmp_path / "ran").exists()


def test_pickles_in_hdf5_are_plain_bytes(tmp_path):
    import pickle

    import h5py

    cache = write_all(tmp_path / "cache", "hdf5", make_rows(40))
    path = cache.folder("net", "toy", "test") / "columns" / "block-00000.h5"
    with h5py.File(path, "a") as file:
        file["labels"].attrs["__reduce__"] = np.void(pickle.dumps(Trap(tmp_path / "ran")))
    cache.verify(KEY)
    assert not (tmp_path / "ran").exists()


def test_no_module_of_the_package_unpickles_or_reads_yaml():
    """Pickles are read only by two readers, which allow only plain types; an engine names its error."""
    from test_architecture import MODULES, imports

    allowed = {"data/images/cifar.py", "readers/tensor_files.py", "engines/torchrun.py"}
    for path in MODULES:
        names = {name.split(".")[0] for name in imports(path)}
        if (
            path.relative_to(path.parents[[p.name for p in path.parents].index("featood")]).as_posix()
            in allowed
        ):
            continue
        assert not names & {"pickle", "yaml", "marshal", "shelve", "runpy"}, path


def tensors_of(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ONE = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}
HOSTILE = {
    "header of 2^63 bytes": tensors_of({}, length=2**63),
    "header longer than the file": tensors_of({}, length=10**6),
    "overlapping": tensors_of({"mean": ONE, "spread": ONE}, bytes(16)),
    "hole": tensors_of({"mean": {**ONE, "data_offsets": [8, 24]}}, bytes(24)),
    "trailing bytes": tensors_of({"mean": ONE}, bytes(17)),
    "too short": tensors_of({"mean": ONE}, bytes(8)),
    "unknown type": tensors_of({"mean": {**ONE, "dtype": "PICKLE"}}, bytes(16)),
    "wrong type": tensors_of({"mean": {**ONE, "dtype": "I64"}}, bytes(16)),
    "huge shape": tensors_of({"mean": {**ONE, "shape": [2**40, 2**40]}}, bytes(16)),
    "negative": tensors_of({"mean": {**ONE, "shape": [-2]}}, bytes(16)),
    "nested": tensors_of(b'{"mean":' + b"[" * 50_000),
    "twice": tensors_of(b'{"a":%s,"a":%s}' % ((json.dumps(ONE).encode(),) * 2), bytes(16)),
    "empty": b"",
    "a pickle": b"\x80\x04N.",
}


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "mlp", "realnvp", "rank-average"])
def test_hostile_tensors_with_a_valid_record_are_damage(tmp_path, name):
    import hashlib

    folder = shutil.copytree(GOLDEN / "0.1.0" / "heads" / name, tmp_path / name)
    body = json.loads((folder / "head.json").read_bytes())
    del body["sha256"]
    for what, content in HOSTILE.items():
        (folder / "head.safetensors").write_bytes(content)
        sealed = seal({**body, "tensors_sha256": hashlib.sha256(content).hexdigest()})
        (folder / "head.json").write_text(json.dumps(sealed))
        with pytest.raises(CacheCorrupt, match="fit the head again"):
            load_head(folder)
            pytest.fail(what)


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_classifiers_with_a_valid_manifest_are_damage(tmp_path, what):
    import hashlib

    folder = shutil.copytree(GOLDEN / "0.1.0" / "zarr", tmp_path / "cache") / "net" / "toy" / "train"
    (folder / "classifier.safetensors").write_bytes(HOSTILE[what])
    body = json.loads((folder / "manifest.json").read_bytes())
    del body["sha256"]
    body["classifier_sha256"] = hashlib.sha256(HOSTILE[what]).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(seal(body)))
    with pytest.raises(CacheCorrupt, match="classifier"):
        FeatureCache(tmp_path / "cache")["net/toy/train"]


def test_environment_variables_are_not_stored_in_a_cache(featood, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws_secret_value")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 3)))
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    words = (
        "--features",
        tmp_path / "x.npy",
        "--labels",
        tmp_path / "y.npy",
        "--backbone",
        "a",
        "--dataset",
        "b",
    )
    assert featood("import", *words, "--split", "train")[0] == 0
    assert featood("fit", "mahalanobis")[0] == 0
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or b"secret_value" not in path.read_bytes(), path


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_a_cache_may_be_anywhere_and_be_moved(tmp_path, monkeypatch, store):
    odd = tmp_path / "a b" / "日本 ünï" / ("long" * 40)
    rows = make_rows(300)
    cache = write_all(odd, store, rows)
    expected = cache[KEY].features["avg"][:].tobytes()
    link = tmp_path / "link"
    link.symlink_to(odd)
    shutil.move(odd, tmp_path / "moved")
    link.unlink()
    link.symlink_to(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / "moved", link, "moved", os.path.join(".", "link")):
        again = FeatureCache(root)
        assert list(again) == [KEY] and again.verify(KEY) == []
        assert again[KEY].features["avg"][:].tobytes() == expected


def test_a_wrong_clock_changes_no_value_and_is_visible_in_the_listing(tmp_path):
    cache = write_all(tmp_path, "zarr", make_rows(300))
    for path in tmp_path.rglob("*"):
        os.utime(path, (4e9, 4e9))
    assert cache.verify(KEY) == [] and cache.garbage(incomplete=True) == []


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "vim", "gram", "cosine"])
def test_tensors_of_nan_with_a_valid_record_give_the_worst_score_with_a_warning(tmp_path, name):
    import hashlib

    import torch
    from safetensors.torch import load_file, save_file

    from featood.heads.base.head import WORST
    from featood.testing import Subject

    subject = Subject.of(name)
    folder = subject.fitted.save(tmp_path / name)
    tensors = load_file(folder / "head.safetensors")
    damaged = {
        key: torch.full_like(value, torch.nan) for key, value in tensors.items() if value.is_floating_point()
    }
    save_file({**tensors, **damaged}, folder / "head.safetensors")
    body = json.loads((folder / "head.json").read_bytes())
    del body["sha256"]
    content = (folder / "head.safetensors").read_bytes()
    sealed = seal({**body, "tensors_sha256": hashlib.sha256(content).hexdigest()})
    (folder / "head.json").write_text(json.dumps(sealed))
    with pytest.warns(UserWarning, match=f"{len(subject.test)} rows of .* got no finite score"):
        scores = load_head(folder).score(subject.test)
    assert (np.asarray(scores) == WORST).all()


def test_names_of_environment_variables_are_not_their_values(featood, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 3)))
    for name in ("$HF_TOKEN", "${HF_TOKEN}", "%HF_TOKEN%", "{HF_TOKEN}", "{environ[HF_TOKEN]}"):
        words = ("--backbone", name, "--dataset", name, "--overwrite")
        code, out, err = featood("import", "--features", tmp_path / "x.npy", *words)
        assert code == 0 and "secret_value" not in out + err
    for path in tmp_path.rglob("*"):
        assert "secret_value" not in str(path)
        assert path.is_dir() or b"secret_value" not in path.read_bytes(), path


def test_the_package_opens_no_connection_of_its_own():
    """Downloads are by featood.downloads and featood.remote, torchvision, timm and torch.hub."""
    from test_architecture import MODULES, imports

    names = (
        "urllib",
        "http",
        "socket",
        "ssl",
        "requests",
        "httpx",
        "ftplib",
        "aiohttp",
        "fsspec",
        "huggingface_hub",
    )
    allowed = {"server.py": {"socket"}, "hub.py": {"huggingface_hub"}}  # the service listens
    for path in MODULES:
        found = {name.split(".")[0] for name in imports(path)} & set(names)
        assert found <= allowed.get(path.name, set()), path
