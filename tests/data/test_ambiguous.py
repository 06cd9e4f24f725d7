"""Ambiguous digits: the published files, and what is made of MNIST."""

import numpy as np
import pytest
import torch

from featood.data import available_splits, joined_set, open_dataset, packed_set
from featood.data.images.ambiguous import nearest_of_other_classes
from featood.errors import DataError


def write_digits(folder, rows=60, seed=0):
    rng = np.random.default_rng(seed)
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        labels = np.arange(rows) % 10
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        np.savez(folder / "mnist" / f"{split}.npz", images=images, labels=labels)


def write_published(folder, images=6002, copies=10):
    place = folder / "AmbiguousMNIST"
    place.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images, 1, 28, 28, generator=generator)
    labels = torch.randint(10, (images, copies), generator=generator)
    torch.save(pixels, place / "amnist_samples.pt")
    torch.save(labels, place / "amnist_labels.pt")
    return pixels, labels


def test_an_interpolated_digit_is_the_mean_of_a_digit_and_the_nearest_of_another_class(tmp_path):
    write_digits(tmp_path)
    digits, found = (
        open_dataset("mnist", "train", tmp_path),
        open_dataset("interpolated-mnist", "train", tmp_path),
    )
    assert len(found) == 10 * len(digits) and found.classes == digits.classes
    rows = digits.array.reshape(len(digits), -1).astype(float)
    expected = {}
    for one, label in zip(rows, digits.labels, strict=True):
        others = [
            (np.square(one - two).sum(), row) for row, two in enumerate(rows) if digits.labels[row] != label
        ]
        nearest = min(others)[1]
        mean = np.rint((one + rows[nearest]) / 2).astype(np.uint8)
        expected[mean.tobytes()] = {label, digits.labels[nearest]}
    for start in range(0, len(found), 10):
        copies = found.array[start : start + 10]
        assert (copies == copies[0]).all()
        assert set(found.labels[start : start + 10]) <= expected[copies[0].tobytes()]
    # two digits that are each other's nearest have the same mean
    assert {image.tobytes() for image in found.array} == expected.keys()
    assert any("not the published Ambiguous-MNIST" in note for note in found.notes)
    again = open_dataset("interpolated-mnist", "train", tmp_path)
    assert again.digest() == found.digest() != open_dataset("interpolated-mnist", "test", tmp_path).digest()


def test_both_labels_of_an_interpolated_digit_are_equally_likely(tmp_path):
    write_digits(tmp_path, rows=2000)
    digits, found = (
        open_dataset("mnist", "train", tmp_path),
        open_dataset("interpolated-mnist", "train", tmp_path),
    )
    labels = found.labels.reshape(-1, 10)
    same = (labels == labels[:, :1]).mean()  # the first draw itself, and half of the nine others
    assert abs(same - (1 + 4.5) / 10) < 5 * np.sqrt(0.25 / labels[:, 1:].size)
    assert len(digits) == len(labels)


def test_nearest_rows_do_not_depend_on_the_block():
    rng = np.random.default_rng(0)
    rows, labels = rng.integers(0, 9, (50, 6)), rng.integers(0, 3, 50)
    np.testing.assert_array_equal(
        nearest_of_other_classes(rows, labels, block=7), nearest_of_other_classes(rows, labels)
    )
    with pytest.raises(DataError, match="at least two classes"):
        nearest_of_other_classes(rows, np.zeros(50, np.int64))


def test_the_published_files_have_one_row_for_each_label(tmp_path):
    pixels, labels = write_published(tmp_path)
    train, test = (open_dataset("ambiguous-mnist", split, tmp_path) for split in ("train", "test"))
    assert (len(train), len(test)) == (60000, 20)
    np.testing.assert_array_equal(train.labels, labels[:6000].reshape(-1))
    np.testing.assert_array_equal(test.labels, labels[6000:].reshape(-1))
    for row in (0, 9, 10, 59999):
        np.testing.assert_allclose(train.array[row] / 255, pixels[row // 10, 0], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(test.array[-1] / 255, pixels[-1, 0], atol=0.5 / 255 + 1e-6)
    assert any("rounded" in note for note in train.notes)


@pytest.mark.parametrize("change", ["pickle", "range", "shape", "labels"])
def test_published_files_of_another_form_are_refused(tmp_path, change):
    pixels, labels = write_published(tmp_path, images=4)
    place = tmp_path / "AmbiguousMNIST"
    bad = {
        "pickle": ("amnist_samples.pt", {"x": open}),
        "range": ("amnist_samples.pt", 3 * pixels),
        "shape": ("amnist_samples.pt", pixels[:, 0]),
        "labels": ("amnist_labels.pt", labels.float()),
    }[change]
    torch.save(bad[1], place / bad[0])
    with pytest.raises(DataError, match=r"amnist_\w+\.pt"):
        open_dataset("ambiguous-mnist", "train", tmp_path)


def test_dirty_mnist_is_both(tmp_path):
    write_digits(tmp_path)
    with pytest.raises(
        DataError, match=r"dirty-mnist is made of mnist and ambiguous-mnist; ambiguous-mnist is not in"
    ):
        open_dataset("dirty-mnist", "train", tmp_path)
    assert available_splits("dirty-mnist", tmp_path) == []
    write_published(tmp_path)
    dirty = open_dataset("dirty-mnist", "train", tmp_path)
    parts = [open_dataset(name, "train", tmp_path) for name in ("mnist", "ambiguous-mnist")]
    np.testing.assert_array_equal(dirty.labels, np.concatenate([part.labels for part in parts]))
    np.testing.assert_array_equal(dirty.array, np.concatenate([part.array for part in parts]))
    assert dirty.ids[0] == "mnist/00" and dirty.ids[60] == "ambiguous-mnist/00000"
    assert available_splits("dirty-mnist", tmp_path) == ["train", "test"]


def test_sets_that_differ_are_not_joined(tmp_path):
    def packed(size=4, classes=("a", "b"), labels=True):
        return packed_set(
            np.zeros((2, size, size), np.uint8), np.arange(2) if labels else None, classes=classes
        )

    assert len(joined_set([packed(), packed(), packed()])) == 6
    for other, text in (
        (packed(5), "size"),
        (packed(classes=("a", "c")), "classes"),
        (packed(labels=False), "classes"),
    ):
        with pytest.raises(DataError, match=f"cannot be joined: their (images differ in )?{text}"):
            joined_set([packed(), other])
