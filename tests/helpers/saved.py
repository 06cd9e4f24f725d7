"""A small table of vectors, and the same as a folder of Hugging Face's Dataset.save_to_disk."""

import json

import numpy as np
import pyarrow as pa

X = np.random.default_rng(0).normal(size=(12, 3)).astype("f4")
Y = np.arange(12) % 3
NAMES = np.array(["cat", "dog", "eel"])[Y]


VECTOR = pa.list_(pa.float32(), 3)


def table(lists=VECTOR):
    return pa.table(
        {"emb": pa.array(X.tolist(), lists), "kind": pa.array(NAMES).dictionary_encode(), "age": Y * 2.5}
    )


def stream(path, rows=None):
    rows = table() if rows is None else rows
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as out:
        out.write_table(rows)


def hugging_face(path, rows=None, features=None, indices=None):
    """Write the files of Dataset.save_to_disk."""
    path.mkdir(parents=True)
    rows = table() if rows is None else rows
    stream(path / "data-00000-of-00002.arrow", rows.slice(0, 5))
    stream(path / "data-00001-of-00002.arrow", rows.slice(5))
    state = {"_data_files": [{"filename": f"data-0000{part}-of-00002.arrow"} for part in (0, 1)]}
    if indices is not None:
        stream(path / "indices.arrow", pa.table({"indices": pa.array(indices, pa.uint64())}))
        state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (path / "state.json").write_text(json.dumps(state))
    (path / "dataset_info.json").write_text(json.dumps({"features": features or {}}))
