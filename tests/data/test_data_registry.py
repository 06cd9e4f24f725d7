import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from featood.data import (
    available_splits,
    default_data_dir,
    download,
    get_entry,
    list_datasets,
    list_suites,
    open_dataset,
    packed_set,
    suite,
)
from featood.data.images.generated import NOISES
from featood.data.selection import select_classes
from featood.errors import DataError, FeatoodError, UsageError


def test_entries_are_sound():
    entries = list_datasets()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names) >= 30
    for entry in entries:
        assert entry.classes == () or len(entry.classes) == len(set(entry.classes)) == entry.num_classes
        assert (entry.mean is None) == (entry.std is None)
        if entry.mean is not None:
            channels = entry.shape[2] if entry.shape else 3
            assert len(entry.mean) == len(entry.std) == channels
        assert entry.generate or entry.source.startswith(("http", "the ODIN", "Describable"))


def test_suites_name_sets_that_exist():
    assert suite("cifar10-near") == ["cifar100", "tiny-imagenet"]
    assert suite("imagenet-near") == ["ssb-hard", "ninco"]
    for name in list_suites():
        members = suite(name)
        assert len(set(members)) == len(members) >= 1
        trained_on = get_entry(name.rpartition("-")[0])
        for member in members:
            base, _, group = member.partition(":")
            assert get_entry(base) is not trained_on or group in set(trained_on.groups) - {"known"}
    with pytest.raises(UsageError, match="cifar10-near"):
        suite("cifar10-neer")


@pytest.mark.parametrize("name", ["CIFAR10", "cifar10", "cifar10:0-5"])
def test_get_entry(name):
    assert get_entry(name).title == "CIFAR-10"


def test_an_unknown_name_gets_a_suggestion(tmp_path):
    with pytest.raises(UsageError, match="fashion-mnist"):
        open_dataset("fashon-mnist", None, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", "../x", "a/../b", "./../x", "a\0b", "/tmp/\0", "a;ls", "$(id)", "`id`", "a|b", "a b", "a\nb",
     "/a\nb", "./\x1b[2J", "cifar10:", "cifar10:*", "cifar10:0;1", "imagenet/val", "-x", "..\\x", "x" * 5000],
)  # fmt: skip
def test_hostile_names_are_refused(tmp_path, name):
    for function in (open_dataset, available_splits):
        with pytest.raises(UsageError) as caught:
            function(name, data_dir=tmp_path)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@given(st.sampled_from(["", "/", "./", "~", "cifar10:", "noise:"]), st.text(max_size=30))
@example("/", "\n")
@example("~", "nobody-of-that-name/x")
def test_any_text_is_a_set_or_raises_a_typed_error(start, text):
    text = start + text
    if os.path.isdir(text.replace("\0", "")):
        return
    try:
        available_splits(text, "no-such-folder")
    except FeatoodError as error:
        assert "\n" not in str(error)


def test_the_error_of_a_missing_set_says_where_to_get_and_put_it(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset("svhn", None, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "ufldl.stanford.edu" in text
    assert str(tmp_path / "svhn") in text
    assert "--download" in text
    with pytest.raises(DataError) as caught:
        open_dataset("notmnist", None, tmp_path / "not" / "there")
    assert "--download" not in str(caught.value)


def test_the_error_of_a_missing_split_lists_those_available(tmp_path):
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "test.npz", images=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(DataError, match="mnist has no split 'val', only test: add --split test"):
        open_dataset("mnist", "val", tmp_path)
    with pytest.raises(DataError):
        open_dataset("mnist", "../mnist/test", tmp_path)


def test_default_data_dir(tmp_path, monkeypatch):
    monkeypatch.delenv("FEATOOD_DATA", raising=False)
    assert default_data_dir() == Path("data")
    monkeypatch.setenv("FEATOOD_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "train.npz", images=np.zeros((1, 2, 2), np.uint8))
    assert available_splits("mnist") == ["train"]
    assert open_dataset("mnist").split == "train"


# --- paths ------------------------------------------------------------------------------------------------


def test_any_folder_of_images(tmp_path, monkeypatch):
    folder = tmp_path / "my photos é"
    folder.mkdir()
    Image.new("L", (3, 2), 9).save(folder / "b.png")
    Image.new("RGB", (3, 2)).save(folder / "a.jpg")
    monkeypatch.chdir(tmp_path)
    given = [open_dataset(name) for name in (str(folder), f"./{folder.name}", Path(folder.name))]
    assert {images.name for images in given} == {given[0].name}, "one folder, one name"
    assert given[0].ids == ("a.jpg", "b.png")
    assert given[0].read(1).tolist() == [[9] * 3] * 2
    assert set(given[0].name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    twin = tmp_path / "other" / folder.name
    twin.parent.mkdir()
    os.rename(folder, twin)
    assert open_dataset(twin).name != given[0].name


def test_path_to_packed_sets(tmp_path):
    np.savez(tmp_path / "train.npz", images=np.zeros((2, 2, 2), np.uint8))
    np.savez(tmp_path / "test.npz", images=np.zeros((3, 2, 2), np.uint8))
    assert available_splits(tmp_path) == ["train", "test"]
    assert len(open_dataset(str(tmp_path), "train")) == 2
    assert available_splits(tmp_path / "train.npz") == ["test"]
    assert len(open_dataset(tmp_path / "train.npz")) == 2


def test_paths_without_images(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    for path, says in (
        (tmp_path, "contains no images"),
        (tmp_path / "notes.md", "contains no"),
        (tmp_path / "x", "exist"),
    ):
        with pytest.raises(DataError, match=says):
            open_dataset(path)


# --- some of the classes ----------------------------------------------------------------------------------


def labelled(n=40, classes=10):
    labels = np.random.default_rng(0).integers(classes, size=n)
    return packed_set(np.repeat(labels.astype(np.uint8), 4).reshape(n, 2, 2), labels, name="x")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_class_selection_against_a_plain_loop(wanted):
    images = labelled()
    if not set(wanted) & set(images.labels.tolist()):
        return
    chosen = select_classes(images, ",".join(map(str, wanted)))
    order = sorted(set(wanted))
    rows = [i for i, label in enumerate(images.labels) if label in order]
    assert list(chosen.ids) == [images.ids[i] for i in rows]
    assert chosen.labels.tolist() == [order.index(images.labels[i]) for i in rows]
    assert chosen.classes == tuple(map(str, order))
    assert all(chosen.read(i)[0, 0] == int(chosen.classes[chosen.labels[i]]) for i in range(len(chosen)))


def test_class_ranges_and_their_complement():
    images = labelled()
    inside, outside = select_classes(images, "0,3,7-9"), select_classes(images, "1-2,4-6")
    assert inside.classes == ("0", "3", "7", "8", "9")
    assert sorted((*inside.ids, *outside.ids)) == sorted(images.ids)


@pytest.mark.parametrize("selector", ["10", "5-3", "0-10", "a", "1-", "-1", "0,,1", "0-999999999999"])
def test_bad_selectors(selector):
    with pytest.raises(UsageError, match="0 to 9"):
        select_classes(labelled(400), selector)


def test_selection_needs_labels():
    with pytest.raises(DataError, match="no labels"):
        select_classes(packed_set(np.zeros((1, 2, 2), np.uint8), name="x"), "0")
    known = packed_set(np.zeros((3, 2, 2), np.uint8), np.array([-1, 0, 1]))
    assert select_classes(known, "1").ids == ("2",), "rows of unknown class are never selected"


# --- generated sets ---------------------------------------------------------------------------------------


def test_digits_against_scikit_learn():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    train, test = open_dataset("digits", "train"), open_dataset("digits", "test")
    rows = np.array([int(i) for i in (*train.ids, *test.ids)])
    np.testing.assert_array_equal(np.sort(rows), np.arange(1797))
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), bunch.target[rows])
    pixels = np.concatenate([train.array, test.array])
    np.testing.assert_array_equal(np.rint(pixels * (16 / 255)), bunch.images[rows])
    assert pixels.max() == 255
    share = np.bincount(test.labels) / np.bincount(bunch.target)
    assert np.abs(share - 0.3).max() < 0.006
    assert test.digest() == open_dataset("digits").digest()
    entry = get_entry("digits")
    np.testing.assert_allclose(
        [pixels.mean() / 255, pixels.std() / 255], [*entry.mean, *entry.std], atol=1e-3
    )
    assert open_dataset("digits:7-9").classes == ("7", "8", "9")


@pytest.mark.parametrize("kind", NOISES)
def test_noise(kind):
    images = open_dataset(f"noise:{kind},n=300,size=16").array.astype(float)
    assert images.shape == (300, 16, 16, 3)
    if kind == "gaussian":  # clipped: values beyond 0 and 255 are at the ends
        assert abs(np.mean((images > 0) & (images < 255)) - 0.68) < 0.01
        assert abs(images.mean() - 127.5) < 1
    elif kind == "uniform":
        assert (
            np.abs(np.bincount(images.astype(int).ravel(), minlength=256) / images.size - 1 / 256).max()
            < 5e-4
        )
    elif kind == "rademacher":
        assert set(np.unique(images)) == {0, 255}
        assert abs(images.mean() / 255 - 0.5) < 0.01
    elif kind == "constant":
        assert np.ptp(images.reshape(300, -1), axis=1).max() == 0
        assert images[:, 0, 0, 0].std() > 60
    else:
        smooth = np.abs(np.diff(images, axis=1)).mean()
        assert (
            smooth
            < 0.7 * np.abs(np.diff(np.random.default_rng(0).permutation(images, axis=1), axis=1)).mean()
        )
        assert 0.02 < (images == 0).mean() < 0.95


def test_noise_seeds_splits_and_sizes():
    first = open_dataset("noise", "test")
    assert (len(first), first.read(0).shape, first.name) == (2000, (32, 32, 3), "noise")
    assert first.digest() == open_dataset("noise:gaussian").digest()
    others = [open_dataset("noise", "train"), open_dataset("noise:seed=1"), open_dataset("noise:uniform")]
    assert len({images.digest() for images in (first, *others)}) == 4
    assert open_dataset("noise:n=3,size=5,channels=1").array.shape == (3, 5, 5)


BAD_OPTIONS = """
    noise:pink noise:n=0 noise:size=0 noise:channels=2 noise:n=1.5 noise:n=-1 noise:colour=1 noise:n=99999,size=9999
    photo-patches:size=428 photo-patches:uniform photo-patches:0-3
"""


@pytest.mark.parametrize("name", BAD_OPTIONS.split())
def test_bad_options_of_generated_sets(name):
    with pytest.raises(UsageError):
        open_dataset(name)


def test_photo_patches_are_cut_from_the_photographs():
    from sklearn.datasets import load_sample_images

    images = open_dataset("photo-patches:n=6,size=48")
    assert images.array.shape == (6, 48, 48, 3)
    photos = load_sample_images().images
    for i in range(6):
        corner = images.read(i)[0, 0]
        places = [(p, y, x) for p in range(2) for y, x in np.argwhere((photos[p] == corner).all(-1))]
        assert any(np.array_equal(photos[p][y : y + 48, x : x + 48], images.read(i)) for p, y, x in places)
    assert open_dataset("photo-patches").digest() == open_dataset("photo-patches").digest()
    assert open_dataset("photo-patches:size=427,n=2").array.shape == (2, 427, 427, 3)


# --- download ---------------------------------------------------------------------------------------------


def fake_torchvision(calls, fail=None):
    def mnist(root, download):
        calls.append((root, download))
        if fail:
            raise fail
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "t10k-images-idx3-ubyte").write_bytes(
            bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7])
        )
        (raw / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 3]))

    return SimpleNamespace(datasets=SimpleNamespace(MNIST=mnist, KMNIST=lambda **_: None))


def test_download(tmp_path):
    calls = []
    assert download("mnist", tmp_path / "d", fake_torchvision(calls)) == ["test"]
    assert calls == [(str(tmp_path / "d" / "mnist"), True)]
    assert open_dataset("mnist", None, tmp_path / "d").read(0).tolist() == [[7]]


def test_unsupported_and_failing_downloads(tmp_path):
    with pytest.raises(DataError, match=r"no public address.*yaroslavvb"):
        download("notmnist", tmp_path, fake_torchvision([]))
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        download("mnist", tmp_path, fake_torchvision([], OSError("no\nroute")))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="corrupted"):  # torchvision's message about a wrong checksum
        download("mnist", tmp_path, fake_torchvision([], RuntimeError("File not found or corrupted.")))
    with pytest.raises(DataError, match="manually"):
        download("kmnist", tmp_path, fake_torchvision([]))
    with pytest.raises(UsageError):
        download("nope", tmp_path, fake_torchvision([]))


def test_download_classes_exist_in_torchvision():
    source = pytest.importorskip("importlib.util").find_spec("torchvision")
    if source is None:
        pytest.skip("torchvision is not installed")
    exported = (Path(source.submodule_search_locations[0]) / "datasets" / "__init__.py").read_text()
    for entry in list_datasets():
        assert entry.download is None or f'"{entry.download[0]}"' in exported


# --- real sets ---------------------------------------------------------------------------------------

REAL = {
    ("cifar10", "train"): (15_000, (32, 32, 3), 10),
    ("cifar10", "test"): (10_000, (32, 32, 3), 10),
    ("cifar100", "test"): (3_000, (32, 32, 3), 100),
    ("tiny-imagenet-resize", "test"): (3_000, (32, 32, 3), None),
    ("textures", "test"): (1_200, (32, 32, 3), 10),
    ("mnist", "train"): (20_000, (28, 28), 10),
    ("mnist", "test"): (10_000, (28, 28), 10),
    ("fashion-mnist", "test"): (10_000, (28, 28), 10),
    ("notmnist", "test"): (10_000, (28, 28), 10),
    ("omniglot", "test"): (4_840, (28, 28), 242),
    ("imagenet", "val"): (1_000, None, 1_000),
    ("textures-hires", "test"): (200, None, 10),
}


@pytest.mark.parametrize(("name", "split"), REAL)
def test_real_sets(test_data, name, split):
    rows, shape, classes = REAL[name, split]
    images = open_dataset(name, split, test_data)
    assert split in available_splits(name, test_data)
    assert len(images) == rows
    if classes is None:
        assert images.labels is None
    else:
        assert np.unique(images.labels).tolist() == list(range(classes))
    first = images.read(0)
    assert first.dtype == np.uint8
    assert first.shape == shape if shape else min(first.shape[:2]) == 256


def test_real_normalisation(test_data):
    for name in ("cifar10", "mnist", "fashion-mnist"):
        pixels = open_dataset(name, "train", test_data).array.reshape(-1, 3 if name == "cifar10" else 1)
        entry = get_entry(name)
        np.testing.assert_allclose(pixels.mean(0) / 255, entry.mean, atol=2e-3)
        np.testing.assert_allclose(pixels.std(0) / 255, entry.std, atol=2e-3)
