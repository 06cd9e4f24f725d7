import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featood.data import available_splits, open_dataset
from featood.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.integers(256, size=(5, 6, 7, 3), dtype=np.uint8)
Y = np.array([0, 2, 1, 1, 0])


def write(folder, split="test", **arrays):
    np.savez(folder / f"{split}.npz", **arrays)
    return open_dataset(folder, split)


IMAGE_KEYS = ("images", "image", "imgs", "img", "x", "X", "data", "arr_0")
LABEL_KEYS = ("labels", "label", "targets", "target", "y", "Y", "arr_1")


@pytest.mark.parametrize("image", IMAGE_KEYS)
@pytest.mark.parametrize("label", LABEL_KEYS)
def test_usual_keys_of_arrays(tmp_path, image, label):
    images = write(tmp_path, **{image: X, label: Y[:, None]})
    np.testing.assert_array_equal(images.array, X)
    np.testing.assert_array_equal(images.labels, Y)
    assert bool(images.notes) == ((image, label) != ("images", "labels"))


def test_positional_arrays_in_the_other_order(tmp_path):
    np.savez(tmp_path / "test.npz", Y, X)
    images = open_dataset(tmp_path)
    np.testing.assert_array_equal(images.array, X)
    np.testing.assert_array_equal(images.labels, Y)
    assert images.notes == ("arrays read: images from 'arr_1', labels from 'arr_0'",)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{}_images", "{}_labels"),
        ("x_{}", "y_{}"),
        ("{}X", "{}Y"),
        ("{}", "{}_targets"),
        ("data-{}", "label-{}"),
    ],
)
@pytest.mark.parametrize("splits", [("train", "val", "test"), ("training", "valid", "testing")])
@pytest.mark.parametrize("where", ["file", "folder", "data directory", "npy"])
def test_splits_within_one_file(tmp_path, images, labels, splits, where):
    arrays = {}
    for rows, split in enumerate(splits, 1):
        arrays |= {images.format(split): X[:rows], labels.format(split): Y[:rows, None].astype(np.uint8)}
    if where == "npy":
        for key, values in arrays.items():
            np.save(tmp_path / key, values)
        name = tmp_path
    else:
        np.savez(tmp_path / "pathmnist.npz", **arrays)
        name = {"file": tmp_path / "pathmnist.npz", "folder": tmp_path, "data directory": "pathmnist"}[where]
    assert available_splits(name, tmp_path) == ["train", "val", "test"]
    for rows, split in enumerate(("train", "val", "test"), 1):
        found = open_dataset(name, split, tmp_path)
        np.testing.assert_array_equal(found.array, X[:rows])
        np.testing.assert_array_equal(found.labels, Y[:rows])
    assert open_dataset(name, "validation", tmp_path).split == "val"


def test_two_files_with_the_same_splits_are_refused(tmp_path):
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", test_images=X)
    with pytest.raises(DataError, match=r"a\.npz, b\.npz\); give the path of one"):
        open_dataset(tmp_path)


def test_npy_files(tmp_path):
    np.save(tmp_path / "photos.npy", X)
    assert available_splits(tmp_path / "photos.npy") == ["test"]
    np.testing.assert_array_equal(open_dataset(tmp_path / "photos.npy").array, X)
    pair = tmp_path / "pair"
    pair.mkdir()
    np.save(pair / "images.npy", X)
    np.save(pair / "labels.npy", Y)
    assert available_splits(pair) == ["test"]
    np.testing.assert_array_equal(open_dataset(pair).labels, Y)


def test_corruptions_share_their_labels(tmp_path):
    for name in ("fog", "snow"):
        np.save(tmp_path / f"{name}.npy", X)
    np.save(tmp_path / "labels.npy", Y)
    assert available_splits(tmp_path) == ["fog", "snow"]
    np.testing.assert_array_equal(open_dataset(tmp_path, "snow").labels, Y)


def test_upper_case_extensions_and_other_names(tmp_path):
    for name in ("training.npz", "Validation.NPZ", "TEST.NPZ", "dev.npz"):
        with open(tmp_path / name, "wb") as file:
            np.savez(file, images=X)
    assert available_splits(tmp_path) == ["train", "val", "test"]
    notes = open_dataset(tmp_path, "val").notes
    assert notes == (
        "the split val is read from Validation.NPZ",
        "ignored, because Validation.NPZ is there: dev.npz",
    )
    assert open_dataset(tmp_path, "test").notes == ()


def test_unused_arrays_are_listed(tmp_path):
    assert write(tmp_path, images=X, weights=Y).notes == ("arrays not read: weights",)


# --- pixels -----------------------------------------------------------------------------------------------


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dtype=st.sampled_from(["f2", "f4", "f8"]), way=st.integers(0, 3), seed=st.integers(0, 99))
def test_floats_are_converted_to_the_original_bytes(tmp_path, dtype, way, seed):
    x = np.random.default_rng(seed).integers(256, size=(4, 5, 6), dtype=np.uint8)
    floats = [x.astype(dtype) / np.asarray(255, dtype), (x / 255.0).astype(dtype), x.astype(dtype),
              x.astype(dtype) * np.asarray(1 / 255, dtype)][way]  # fmt: skip
    images = write(tmp_path, images=floats)
    np.testing.assert_array_equal(images.array, x)
    assert "without loss" in images.notes[0]


def test_arrays_of_to_tensor_are_converted_to_the_original_bytes(tmp_path):
    from featood.extractors.vision import torchvision

    tensors = np.stack([torchvision.transforms.ToTensor()(image).numpy() for image in X])
    images = write(tmp_path, images=tensors)
    np.testing.assert_array_equal(images.array, X)
    assert len(images.notes) == 2


def test_shapes(tmp_path):
    first = write(tmp_path, images=X.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(first.array, X)
    assert "channels first" in first.notes[0]
    np.testing.assert_array_equal(write(tmp_path, images=X[:, None, :, :, 0]).array, X[..., 0])
    np.testing.assert_array_equal(write(tmp_path, images=X[..., :1]).array, X[..., 0])
    alpha = write(tmp_path, images=np.concatenate([X, X[..., :1]], axis=3))
    np.testing.assert_array_equal(alpha.array, X)
    assert "alpha" in alpha.notes[0]
    both = X[:, :3, :, :]  # ambiguous, with three rows of pixels and three channels: unchanged
    np.testing.assert_array_equal(write(tmp_path, images=both).array, both)
    np.testing.assert_array_equal(write(tmp_path, images=X.astype(np.int64)).array, X)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (RNG.random((2, 4, 4)), "save uint8"),
        (RNG.random((2, 4, 4)) * 2 - 1, "save uint8"),
        (np.full((2, 4, 4), np.nan), "save uint8"),
        (X.astype(np.int16) * 2, "save uint8"),
        (X[..., 0] > 9, "uint8"),
        (X.astype(complex), "uint8"),
        (X[..., :2], "shape"),
        (X.reshape(5, -1), "reshape"),
        (np.array(3), "shape"),
    ],
)
def test_pixels_that_cannot_be_converted_without_loss_are_refused(tmp_path, images, says):
    with pytest.raises(DataError, match=says) as caught:
        write(tmp_path, images=images)
    assert "\n" not in str(caught.value)


# --- labels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(float),
        Y[:, None],
        Y[None],
        Y.astype(np.uint8),
        np.eye(3)[Y],
        np.eye(3, dtype=bool)[Y],
        Y.astype(str),
    ],
)
def test_other_forms_of_labels(tmp_path, labels):
    np.testing.assert_array_equal(write(tmp_path, images=X, labels=labels).labels, Y)


@pytest.mark.parametrize("dtype", ["U", "S"])
def test_names_are_numbered_over_all_splits(tmp_path, dtype):
    write(tmp_path, "train", images=X, labels=np.array(["cat", "dog", "eel", "eel", "ape"]).astype(dtype))
    test = write(tmp_path, "test", images=X[:2], labels=np.array(["eel", "cat"]).astype(dtype))
    assert test.classes == ("ape", "cat", "dog", "eel")
    assert test.labels.tolist() == [3, 1]
    assert open_dataset(tmp_path, "train").labels.tolist() == [1, 2, 3, 3, 0]


def test_nan_is_an_unknown_label(tmp_path):
    images = write(tmp_path, images=X[:2], labels=np.array([1, np.nan]))
    assert images.labels.tolist() == [1, -1]
    assert "NaN" in images.notes[0]


@pytest.mark.parametrize(
    "labels", [np.ones((5, 14), int), np.zeros((5, 3)), np.full((5, 2), 0.5), Y + 0.5, Y[:3], Y * 1j]
)
def test_labels_that_are_not_one_class_per_row_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match=r"class|one per row") as caught:
        write(tmp_path, images=X, labels=labels)
    assert "\n" not in str(caught.value)


# --- hostile files ----------------------------------------------------------------------------------------


class Boom:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["npz", "npy", "labels", "bare"])
def test_objects_are_never_unpickled(tmp_path, form):
    bad = np.array([Boom(tmp_path / "pwned")], dtype=object)
    path = tmp_path / ("x.npy" if form in ("npy", "bare") else "test.npz")
    if form == "npz":
        np.savez(path, images=bad)
    elif form == "labels":
        np.savez(path, images=X[:1], labels=bad)
    elif form == "npy":
        np.save(path, bad)
    else:
        bad.dump(path)  # a pickle with the name of an array
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    assert "allow_pickle" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_header_that_declares_more_than_the_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "test.npz", "w") as archive, archive.open("images.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 12, 1 << 12, 3)}
        )
        file.write(b"0" * 100)
    with pytest.raises(DataError, match="damaged"):
        open_dataset(tmp_path)
