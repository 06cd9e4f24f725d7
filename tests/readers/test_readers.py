"""Reading of files of each format, written by its own library."""

import json
import pickle
import sys

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse
import torch
from pyarrow import feather
from safetensors.torch import save_file
from saved import NAMES, X, Y, hugging_face, stream, table

from featood.data.tables import read_table
from featood.errors import DataError, UsageError
from featood.readers import read_columns, split_folders


def arrow_file(path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table().schema) as out:
        out.write_table(table())


def shards(path):
    path.mkdir()
    for part in (0, 1):
        pq.write_table(table().slice(6 * part, 6), path / f"part-{part}.parquet")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.parquet", lambda path: pq.write_table(table(), path)),
        ("lists.parquet", lambda path: pq.write_table(table(pa.list_(pa.float64())), path)),
        ("named.csv", lambda path: pq.write_table(table(), path)),
        ("t.feather", lambda path: feather.write_feather(table(), path)),
        ("t.arrow", arrow_file),
        ("s.arrow", stream),
        ("shards", shards),
        ("saved", hugging_face),
    ],
)
def test_tables_with_vectors(tmp_path, name, write):
    write(tmp_path / name)
    found = read_table(tmp_path / name, "kind")
    np.testing.assert_array_equal(found.features, np.column_stack([X, Y * 2.5]))
    assert found.columns == ("emb.0", "emb.1", "emb.2", "age") and found.classes == ("cat", "dog", "eel")
    np.testing.assert_array_equal(found.labels, Y)


def mat73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"], file["y"] = X.T, Y[None]
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = X, Y


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npz", lambda path: np.savez(path, x=X, y=Y)),
        ("a.safetensors", lambda path: save_file({"x": torch.tensor(X), "y": torch.tensor(Y)}, path)),
        (
            "a.pt",
            lambda path: torch.save({"x": torch.tensor(X, requires_grad=True), "y": torch.tensor(Y)}, path),
        ),
        ("a.pth", lambda path: torch.save({"x": X, "y": Y.tolist()}, path)),
        ("a.bin", lambda path: torch.save({"x": list(torch.tensor(X)), "y": torch.tensor(Y)}, path)),
        ("a.h5", hdf5),
        ("no-ending", hdf5),
        (
            "a.mat",
            lambda path: scipy.io.savemat(path, {"x": scipy.sparse.csc_matrix(X.astype("f8")), "y": Y}),
        ),
        ("b.mat", mat73),
    ],
)
def test_named_arrays(tmp_path, name, write):
    write(tmp_path / name)
    columns = read_columns(tmp_path / name)
    found = dict(zip(columns.names, columns.values, strict=True))
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(np.ravel(found["y"]), Y)
    assert not columns.tabular


def test_arrays_without_a_name(tmp_path):
    np.save(tmp_path / "x.npy", X)
    torch.save(torch.tensor(X).bfloat16(), tmp_path / "x.pt")
    np.testing.assert_array_equal(read_columns(tmp_path / "x.npy").values[0], X)
    np.testing.assert_allclose(read_columns(tmp_path / "x.pt").values[0], X, rtol=1e-2)
    assert read_table(tmp_path / "x.npy").columns == ("0", "1", "2")


def test_text_in_arrays(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/x"], file["deep/kind"] = X, NAMES.tolist()
        file["note"] = 3
    scipy.io.savemat(tmp_path / "a.mat", {"x": X, "kind": NAMES.astype(object), "s": {"a": 1}})
    for name, label, left in (("a.h5", "deep.kind", "note"), ("a.mat", "kind", "s")):
        found = read_table(tmp_path / name, label)
        np.testing.assert_array_equal(found.features, X)
        assert (
            found.classes == ("cat", "dog", "eel")
            and found.notes[0] == f"left out: {left} (not arrays of plain values)"
        )


def test_a_hugging_face_data_set_has_class_names(tmp_path):
    label = {"label": {"names": ["zebra", "ant", "bee", "cow"], "_type": "ClassLabel"}}
    rows = pa.table({"emb": pa.array(X.tolist()), "label": np.where(np.arange(12) == 4, -1, Y)})
    order = np.random.default_rng(1).permutation(12)
    hugging_face(tmp_path / "saved", rows, label, order)
    found = read_table(tmp_path / "saved", "label")
    kept = order[order != 4]
    np.testing.assert_allclose(found.features, X[kept])
    np.testing.assert_array_equal(found.labels, Y[kept])
    assert found.classes == ("zebra", "ant", "bee", "cow") and "1 row is left out" in found.notes[0]
    with pytest.raises(DataError, match=r"class numbers \(zebra, ant, bee, cow\).*--drop label"):
        read_table(tmp_path / "saved")
    assert read_table(tmp_path / "saved", keep=["label"]).columns[-1] == "label"


def test_a_hugging_face_data_set_lists_no_file_outside_itself(tmp_path):
    hugging_face(tmp_path / "saved")
    stream(tmp_path / "secret.arrow")
    (tmp_path / "saved" / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "../secret.arrow"}]})
    )
    with pytest.raises(DataError, match="outside itself"):
        read_columns(tmp_path / "saved")
    (tmp_path / "dict").mkdir()
    for splits in (["../saved"], ["gone"], 3, []):
        (tmp_path / "dict" / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
        with pytest.raises(DataError):
            split_folders(tmp_path / "dict")


def test_row_labels_of_a_data_frame_are_left_out(tmp_path):
    rows = pa.table({"a": X[:, 0], "kind": NAMES, "serial": Y * 7.5})
    pandas = json.dumps({"index_columns": ["serial"]}).encode()
    pq.write_table(rows.replace_schema_metadata({b"pandas": pandas}), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", "kind")
    assert found.columns == ("a",) and found.notes == ("left out: serial (labels the rows)",)


def test_types_of_arrow(tmp_path):
    rows = pa.table(
        {
            "half": pa.array(X[:, 0].astype("f2")),
            "exact": pa.array([None, *range(11)], pa.int32()).cast(pa.decimal128(12, 2)),
            "flag": pa.array(Y > 0),
            "text": pa.array([f"{value:.3f}" for value in X[:, 1]], pa.large_string()),
            "none": pa.nulls(12),
        }
    )
    pq.write_table(rows, tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", "flag")
    right = [X[1:, 0].astype("f2"), np.arange(11), X[1:, 1].round(3)]
    np.testing.assert_allclose(found.features, np.column_stack(right), atol=1e-6)
    assert found.classes == ("False", "True") and found.columns == ("half", "exact", "text")
    for kind, column in (
        ("dates", pa.array([0] * 12, pa.timestamp("s"))),
        ("struct", pa.array([{"a": 1}] * 12)),
        ("list", pa.array([[1.0], [1.0, 2.0]] * 6)),
    ):
        pq.write_table(rows.append_column("odd", column), tmp_path / "odd.parquet")
        with pytest.raises(DataError, match=f"'odd' contains .*{kind}.*--drop odd"):
            read_table(tmp_path / "odd.parquet")


def test_rows_with_missing_vectors_are_left_out(tmp_path):
    pq.write_table(pa.table({"emb": pa.array([[1.0, 2.0], None, [3.0, 4.0]])}), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert found.features.tolist() == [[1, 2], [3, 4]] and found.ids.tolist() == [0, 2]


class Trap:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "write", "found"),
    [
        ("x.pkl", lambda path: path.write_bytes(pickle.dumps(Trap())), "Python objects, which are never loaded"),
        ("x.npy", lambda path: path.write_bytes(pickle.dumps(Trap())), "not written by np.save"),
        ("y.npy", lambda path: np.save(path, np.array([Trap(), 1], object)), "contains Python objects"),
        ("x.npz", lambda path: np.savez(path, a=X, b=np.array([Trap()], object)), "'b' contains Python objects"),
        ("x.pt", lambda path: torch.save(Trap(), path), "more than tensors"),
        ("y.pt", lambda path: torch.save({"x": np.array([Trap()], object)}, path), "more than tensors"),
        ("z.pt", lambda path: path.write_bytes(pickle.dumps(Trap())), "torch"),
        ("pair.pt", lambda path: torch.save((torch.ones(3, 2), torch.ones(3)), path), "without names"),
        ("raw.bin", lambda path: path.write_bytes(X.tobytes()), "not a torch file"),
        ("x.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "cannot be read as HDF5"),
        ("x.parquet", lambda path: path.write_bytes(b"PAR1" + bytes(50)), "cannot be read as Parquet"),
        ("x.arrow", lambda path: path.write_bytes(bytes(50)), "Arrow"),
        ("x.safetensors", lambda path: path.write_bytes(bytes(50)), "safetensors"),
        ("x.mat", lambda path: path.write_bytes(b"MATLAB 5.0" + bytes(500)), "MATLAB"),
        ("x.json", lambda path: path.write_text('{"a": 1}'), r"formats are separated values \(.csv"),
        ("x.xlsx", lambda path: path.write_bytes(b"PK\3\4" + bytes(50)), "not in a supported format"),
        ("empty.h5", lambda path: h5py.File(path, "w").close(), "contains no array"),
        ("folder", lambda path: path.mkdir(), "is a folder"),
    ],
)  # fmt: skip
def test_unsupported_files_are_refused_and_never_run(tmp_path, capsys, name, write, found):
    write(tmp_path / name)
    with pytest.raises(DataError, match=found) as caught:
        read_columns(tmp_path / name)
    text = str(caught.value)
    assert "\n" not in text and "pickle" not in text.lower()
    assert "run" not in capsys.readouterr().out


def test_links_to_other_files_are_not_followed(tmp_path):
    hdf5(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = X
        file["link"] = h5py.ExternalLink("secret.h5", "/y")
        file.create_virtual_dataset("mapped", _layout(tmp_path / "secret.h5"))
    columns = read_columns(tmp_path / "a.h5")
    assert columns.names == ("x",) and "mapped" in columns.notes[0]


def _layout(path):
    layout = h5py.VirtualLayout((12,), "i8")
    layout[:] = h5py.VirtualSource(str(path), "y", (12,))
    return layout


def test_lance_needs_its_package(tmp_path, monkeypatch):
    (tmp_path / "t.lance").mkdir()
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(DataError, match="pip install pylance"):
        read_columns(tmp_path / "t.lance")

    class Lance:
        @staticmethod
        def dataset(path):
            assert path == str(tmp_path / "t.lance")
            return type("Dataset", (), {"to_table": lambda self: table()})()

    monkeypatch.setitem(sys.modules, "lance", Lance)
    np.testing.assert_array_equal(read_table(tmp_path / "t.lance", "kind", drop=["age"]).features, X)


def test_splits_are_not_merged(tmp_path):
    for name in ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(table(), tmp_path / name)
    with pytest.raises(DataError, match="splits test, train"):
        read_columns(tmp_path)
    (tmp_path / name).unlink()
    assert len(read_table(tmp_path, "kind")) == 12


def test_the_option_header_is_for_text_files(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(UsageError, match="--header"):
        read_columns(tmp_path / "x.npy", header=True)
