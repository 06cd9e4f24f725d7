import os
import pickle
import struct

import numpy as np
import pytest

from featood.data import available_splits, open_dataset
from featood.errors import DataError


class Boom:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def python2_batch(data: bytes, labels: list[int], key: str) -> bytes:
    """Write protocol 2 like Python 2: byte strings, and an ndarray rebuilt by numpy.core.multiarray."""

    def text(s):
        return b"U" + bytes([len(s)]) + s.encode()

    shape = b"J" + struct.pack("<i", len(labels)) + b"M\x00\x0c\x86"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R(K\x01" + shape
        + b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|") + b"NNN"
        + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + text(key) + numbers + b"u."


def rows(n, seed):
    return np.random.default_rng(seed).integers(256, size=(n, 3, 32, 32), dtype=np.uint8)


def test_the_python2_batch_is_read_by_numpy(tmp_path):
    content = pickle.loads(python2_batch(rows(2, 0).tobytes(), [3, 4], "labels"), encoding="latin1")
    np.testing.assert_array_equal(content["data"].reshape(2, 3, 32, 32), rows(2, 0))


def test_cifar_pickles_are_read_without_running_code(tmp_path):
    for i in range(1, 6):
        path = tmp_path / "cifar-10-batches-py" / f"data_batch_{i}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(python2_batch(rows(2, i).tobytes(), [i, 9], "labels"))
    train = open_dataset("cifar10", "train", tmp_path)
    assert available_splits("cifar10", tmp_path) == ["train"]
    assert train.array.shape == (10, 32, 32, 3)
    np.testing.assert_array_equal(train.read(4), rows(2, 3)[0].transpose(1, 2, 0))
    assert train.labels.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]

    path = tmp_path / "cifar100" / "cifar-100-python" / "test"
    path.parent.mkdir(parents=True)
    path.write_bytes(python2_batch(rows(3, 8).tobytes(), [99, 0, 5], "fine_labels"))
    test = open_dataset("cifar100", None, tmp_path)
    assert test.labels.tolist() == [99, 0, 5]
    assert test.classes[99] == "worm"
    np.testing.assert_array_equal(test.read(1), rows(3, 8)[1].transpose(1, 2, 0))


def test_cifar_binary(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    x = rows(3, 1)
    (folder / "test_batch.bin").write_bytes(b"".join(bytes([i]) + x[i].tobytes() for i in range(3)))
    images = open_dataset("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(images.array, x.transpose(0, 2, 3, 1))
    assert images.labels.tolist() == [0, 1, 2]
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(bytes([19, 88]) + x[0].tobytes())
    assert open_dataset("cifar100", "test", tmp_path).labels.tolist() == [88]


@pytest.mark.parametrize("case", ["reduce", "global", "eval", "text", "short", "list", "float"])
def test_malicious_or_damaged_cifar_pickle(tmp_path, case):
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.parent.mkdir()
    good = python2_batch(rows(2, 0).tobytes(), [1, 2], "labels")
    path.write_bytes(
        {
            "reduce": pickle.dumps({"data": Boom(tmp_path / "pwned"), "labels": [1]}),
            "global": b"\x80\x02cnumpy\nload\n.",
            "eval": b"\x80\x02cbuiltins\neval\nU\x07open(1)\x85R.",
            "text": b"<html>",
            "short": python2_batch(rows(2, 0).tobytes()[:-1], [1, 2], "labels"),
            "list": pickle.dumps([1, 2]),
            "float": good.replace(b"u1", b"f1"),
        }[case]
    )
    with pytest.raises(DataError, match=r"test_batch|refused") as caught:
        open_dataset("cifar10", "test", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()
