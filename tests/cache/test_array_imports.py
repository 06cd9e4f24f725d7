"""Import of embeddings from files of every kind on the command line."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from featood.cache import FeatureCache, import_arrays, open_cache
from featood.errors import DataError

X = np.random.default_rng(0).normal(size=(12, 3)).astype("f4")
NAMES = np.array(["dog", "cat", "eel", "cat"] * 3)
NUMBERS = [1, 0, 2, 0] * 3
ARRAYS = ("--backbone", "b", "--dataset", "d")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def stored(tmp_path, key="b/d/test"):
    return open_cache(tmp_path / "cache")[key]


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["labels"], file["emb"] = NAMES.tolist(), X


def parquet(path):
    pq.write_table(pa.table({"emb": X.tolist(), "label": NAMES, "n": NUMBERS}), path)


def text(path, header="e0,e1,e2,label"):
    rows = [f"{','.join(map(repr, map(float, row)))},{name}" for row, name in zip(X, NAMES, strict=True)]
    path.write_text("\n".join([header, *rows]))


@pytest.mark.parametrize(
    ("name", "write", "column"),
    [
        ("x.h5", hdf5, "emb"),
        ("x.pt", lambda path: torch.save({"emb": torch.tensor(X), "labels": NAMES.tolist()}, path), "emb"),
        ("x.npz", lambda path: np.savez(path, emb=X, y=NAMES), "emb"),
        ("x.parquet", parquet, "emb"),
        ("x.csv", text, "features"),
    ],
)  # fmt: skip
def test_features_and_labels_in_one_file(featood, tmp_path, name, write, column):
    write(tmp_path / name)
    code, out, err = featood("import", "--features", name, *ARRAYS)
    assert code == 0, err
    assert out == "b/d/test: 12 rows imported, 3 classes: cat, dog, eel\n"
    rows = stored(tmp_path)
    assert list(rows.features) == [column] and rows.classes == ("cat", "dog", "eel")
    np.testing.assert_array_equal(rows.features[column][:], X)
    assert rows.labels[:].tolist() == NUMBERS
    if name == "x.parquet":
        assert "left out: n" in err and "'label' is taken as the labels" in err
    (entry,) = json.loads(featood("cache", "ls", "--json")[1])
    assert entry["classes"] == ["cat", "dog", "eel"]


@pytest.mark.parametrize(
    ("labels", "right", "classes"),
    [
        (NAMES, NUMBERS, ("cat", "dog", "eel")),
        (np.array(NUMBERS) * 1.0, NUMBERS, ()),
        (np.array(NUMBERS)[:, None], NUMBERS, ()),
        (np.array(NUMBERS) > 0, [1, 0, 1, 0] * 3, ("False", "True")),
        (np.eye(4)[NUMBERS], NUMBERS, ()),
    ],
)
def test_labels_of_every_kind(featood, tmp_path, labels, right, classes):
    torch.save(torch.tensor(X), "x.pt")
    np.save("y.npy", labels)
    code, _, err = featood("import", "--features", "x.pt", "--labels", "y.npy", *ARRAYS)
    assert code == 0, err
    assert stored(tmp_path).labels[:].tolist() == right and stored(tmp_path).classes == classes
    np.testing.assert_array_equal(stored(tmp_path).feature("features")[:], X)


@pytest.mark.parametrize("header", ["", "kind\n"])
def test_labels_one_per_line(featood, tmp_path, header):
    np.save("x.npy", X)
    (tmp_path / "y.txt").write_text(header + "\n".join(NAMES))
    code, _, err = featood("import", "--features", "x.npy", "--labels", "y.txt", *ARRAYS)
    assert code == 0, err
    assert stored(tmp_path).labels[:].tolist() == NUMBERS


def test_classes_have_the_same_numbers_in_all_splits(tmp_path):
    cache = FeatureCache(tmp_path / "cache")

    def put(split, labels, dataset="d", **options):
        return import_arrays(cache, f"b/{dataset}/{split}", {"a": X[: len(labels)]}, labels=labels, **options)

    put("train", ["dog", "cat", "eel"])
    test = put("test", ["eel", "dog", None])
    assert test.labels[:].tolist() == [2, 1, -1] and test.classes == ("cat", "dog", "eel")
    assert put("val", [2, 0]).classes == ("cat", "dog", "eel")
    assert put("more", [1, 0, 0], classes=("eel", "dog")).labels[:].tolist() == [1, 2, 2]
    for labels, found in ((["fox", "cat"], "'fox'.*b/d/train"), ([3, 0], "3 classes")):
        with pytest.raises(DataError, match=found):
            put("odd", labels)
    assert put("odd", ["fox", "cat"], run={"role": "ood"}).labels[:].tolist() == [-1, 0]
    assert put("far", [3, 0], run={"role": "ood"}).labels[:].tolist() == [-1, -1]
    assert put("test", ["fox", "ant"], "others").classes == ("ant", "fox"), (
        "another dataset has its own classes"
    )
    put("train", [4, 0], "numbers")
    with pytest.raises(DataError, match="by number"):
        put("test", ["cat", "dog"], "numbers")
    assert put("test", [7, 4], "numbers").labels[:].tolist() == [7, 4]


def test_columns_of_a_table_keep_their_order(featood, tmp_path):
    text(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("e2,e0,label,e1\n3,1,cat,2\n30,10,dog,20\n")
    for split in ("train", "test"):
        code, _, err = featood("import", "--features", f"{split}.csv", *ARRAYS, "--split", split)
        assert code == 0, err
    assert "reordered as in the backbone's other sets" in err
    assert stored(tmp_path).feature("features")[:].tolist() == [[1, 2, 3], [10, 20, 30]]
    assert stored(tmp_path).fingerprint == stored(tmp_path, "b/d/train").fingerprint
    (tmp_path / "other.csv").write_text("e2,e0,e9\n3,1,2\n")
    code, _, err = featood("import", "--features", "other.csv", *ARRAYS, "--split", "other")
    assert code == 3 and "'e1'" in err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.h5", "HDF5"),
        ("x.parquet", "Parquet"),
        ("x.mat", "MATLAB"),
        ("x.npy", "np.save"),
        ("x.npz", "np.save"),
        ("x.pkl", "never loaded"),
        ("x.unknown", "not in a supported format; supported formats are"),
    ],
)
def test_errors_name_damaged_files_and_never_suggest_pickles(featood, tmp_path, name, words):
    (tmp_path / name).write_bytes(b"\0\1rubbish" * 9)
    code, _, err = featood("import", "--features", name, *ARRAYS)
    assert code == 3 and words in err and "pickle" not in err and len(err.strip().splitlines()) == 1
