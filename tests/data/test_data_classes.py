import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from featood.data import (
    ImageSet,
    apply_class_order,
    available_splits,
    open_dataset,
    packed_set,
    read_class_order,
)
from featood.errors import DataError


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)


def classes(folder, *names, split=""):
    for name in names:
        save(folder / split / name / "x.png")
    return folder


def by_folder(images):
    return {
        name.partition("/")[0]: label for name, label in zip(images.ids, images.labels.tolist(), strict=True)
    }


# --- the order of class folders ---------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [3, 12, 100])
@pytest.mark.parametrize("width", [0, 3])
def test_numbered_folders_are_sorted_numerically(tmp_path, first, count, width):
    names = [f"{number:0{width}d}" for number in range(first, first + count)]
    images = open_dataset(classes(tmp_path, *names))
    assert by_folder(images) == {name: int(name) - first for name in names}
    assert images.classes == tuple(names)
    assert bool(images.notes) == (first == 1 or (width == 0 and count > 10))


def test_folder_numbers_of_all_splits_count(tmp_path):
    classes(tmp_path, *map(str, range(12)), split="train")
    classes(tmp_path, "2", "10", split="test")
    assert by_folder(open_dataset(tmp_path, "test")) == {"2": 2, "10": 10}


@pytest.mark.parametrize(
    "names", [("0", "2", "10"), ("5", "11", "12"), ("1", "2", "x"), ("1", "01", "2"), ("-1", "0")]
)
def test_other_names_are_sorted_as_text_like_in_torchvision(tmp_path, names):
    from featood.extractors.vision import torchvision

    images = open_dataset(classes(tmp_path, *names))
    assert by_folder(images) == torchvision.datasets.ImageFolder(str(tmp_path)).class_to_idx
    assert bool(images.notes) == all(name.isdigit() for name in names), "numbers with gaps have a note"


# --- a given order --------------------------------------------------------------------------------

ORDER = ("polar bear", "cat", "class 3", "dog")
FORMS = {
    "names.txt": "\n".join(ORDER) + "\n\n",
    "mark.txt": "\ufeff" + "\r\n".join(ORDER),
    "index first.txt": "".join(f"{index} {name}\n" for index, name in enumerate(ORDER)),
    "index last.txt": "".join(f"{name}\t{index}\n" for index, name in enumerate(ORDER)),
    "shuffled.csv": "3,dog\n1,cat\n0,polar bear\n2,class 3\n",
    "from one.txt": "".join(f"{index}: {name}\n" for index, name in enumerate(ORDER, 1)),
    "list.json": json.dumps(ORDER),
    "class_to_idx.json": json.dumps({name: index for index, name in enumerate(ORDER)}),
    "nested.json": json.dumps({"class_to_idx": {name: index for index, name in enumerate(ORDER)}}),
    "config.json": json.dumps(
        {"id2label": {str(index): name for index, name in enumerate(ORDER)}, "x": 1}, indent=1
    ),
    "keras.json": json.dumps({str(index): [name, "words"] for index, name in enumerate(ORDER)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_of_class_orders(tmp_path, form):
    path = tmp_path / form
    path.write_text(FORMS[form], encoding="utf-8", newline="")
    assert read_class_order(path) == read_class_order(str(path)) == read_class_order(list(ORDER)) == ORDER
    images = open_dataset(classes(tmp_path / "set", "dog", "cat"), class_order=path)
    assert by_folder(images) == {"dog": 3, "cat": 1}
    assert images.classes == ORDER


def test_names_that_end_with_numbers_are_names(tmp_path):
    (tmp_path / "a.txt").write_text("class 0\nclass 2\nclass 1\n")
    (tmp_path / "b.txt").write_text("2\n0\n1\n")
    assert read_class_order(tmp_path / "a.txt") == ("class 0", "class 2", "class 1")
    assert read_class_order(tmp_path / "b.txt") == ("2", "0", "1")


def test_first_words_of_synsets(tmp_path):
    order = tmp_path / "synsets.txt"
    order.write_text("n02 tench, Tinca tinca\nn01 goldfish\nn03 shark\n")
    images = open_dataset(classes(tmp_path / "set", "n01", "n02"), class_order=order)
    assert by_folder(images) == {"n01": 1, "n02": 0}
    assert any("first words" in note for note in images.notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\nb\na\n", "'a' twice"),
        ("", "contains no classes"),
        ("0 a\n2 b\n", "without gaps"),
        ("5 a\n6 b\n", "does not fit"),
        ('{"a": 0, "b": 0}', "without gaps"),
        ('{"a": "x"}', "neither a list of class names"),
        ("[1, 2]", "neither a list of class names"),
        ("[", "cannot be read"),
        ("{}", "neither a list of class names"),
    ],
)
def test_invalid_class_orders(tmp_path, text, says):
    (tmp_path / "order").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_class_order(tmp_path / "order")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="gone"):
        read_class_order(tmp_path / "gone")


def test_a_class_missing_in_the_order_is_reported(tmp_path):
    with pytest.raises(DataError, match=r"not in the order of the classes \(cat, \.\.\.\): eel"):
        open_dataset(classes(tmp_path, "cat", "eel"), class_order=["cat", "dog"])


def test_a_single_class_folder_is_a_class_if_it_is_in_the_order(tmp_path):
    classes(tmp_path, "cat")
    assert open_dataset(tmp_path).labels is None
    images = open_dataset(tmp_path, class_order=["dog", "cat"])
    assert images.labels.tolist() == [1]


def test_an_order_supplies_names_for_numbers(tmp_path):
    folders = open_dataset(classes(tmp_path, *map(str, range(11))), class_order=[f"c{i}" for i in range(11)])
    assert by_folder(folders) == {str(i): i for i in range(11)}
    assert folders.classes[10] == "c10"
    digits = apply_class_order(
        packed_set(np.zeros((2, 2, 2), np.uint8), np.array([0, 1])), ["zero", "one", "two"]
    )
    assert (digits.labels.tolist(), digits.classes) == ([0, 1], ("zero", "one", "two"))


def test_an_order_replaces_registered_names(tmp_path):
    (tmp_path / "cifar10").mkdir()
    np.savez(
        tmp_path / "cifar10" / "test.npz", images=np.zeros((3, 2, 2), np.uint8), labels=np.array([0, 3, 9])
    )
    order = ("truck", "cat", "airplane")
    assert open_dataset("cifar10", None, tmp_path, order).labels.tolist() == [2, 1, 0]
    assert open_dataset("cifar10:1-2", None, tmp_path, order).classes == ("cat", "airplane")


def test_class_folders_of_a_registered_set_are_in_its_order(tmp_path):
    classes(tmp_path / "fashion-mnist", "Ankle_boot", "Dress", "Trouser", split="test")
    images = open_dataset("fashion-mnist", None, tmp_path)
    assert by_folder(images) == {"Ankle_boot": 9, "Dress": 3, "Trouser": 1}
    assert images.notes[0] == "classes are numbered as in FashionMNIST"
    classes(tmp_path / "cifar10", "cat", "dog", split="test")
    assert by_folder(open_dataset("cifar10", None, tmp_path)) == {"cat": 3, "dog": 5}
    assert by_folder(open_dataset("cifar10", None, tmp_path, ["dog", "cat"])) == {"cat": 1, "dog": 0}


def test_with_classes():
    images = packed_set(np.zeros((5, 2, 2), np.uint8), np.array([0, 1, 2, -1, 1]), classes=("a", "b", "c"))
    mapped = images.with_classes(np.array([7, -1, 0]), tuple("01234567"))
    assert mapped.labels.tolist() == [7, -1, 0, -1, -1]
    assert mapped.classes == tuple("01234567")
    assert images.labels.tolist() == [0, 1, 2, -1, 1]
    for indices, names in (([0, 1], "abc"), ([0, 1, 3], "abc")):
        with pytest.raises(DataError, match="beyond"):
            images.with_classes(np.array(indices), tuple(names))
    bare = packed_set(np.zeros((1, 2, 2), np.uint8)).with_classes(np.array([0]), ("a",))
    assert (bare.labels, bare.classes) == (None, ("a",))


# --- files left out, and names of splits ---------------------------------------------------------


def test_files_skipped_because_of_their_extension_are_counted(tmp_path):
    for name in (
        "a.jxl",
        "B.JXL",
        "deep/c.jxl",
        "d.xyz",
        "notes.txt",
        "x.json",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "._a.png",
        "noend",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    save(tmp_path / "ok.png")
    assert open_dataset(tmp_path).notes == (
        "files skipped because of their extension: 7 (.jxl 3, (none) 1, .xyz 1; text and tables .json 1, .txt 1)",
    )


def test_links_and_pipes(tmp_path):
    classes(tmp_path, "a", "b")
    os.symlink("nowhere.png", tmp_path / "a" / "dead.png")
    os.symlink("loop", tmp_path / "a" / "loop")
    os.symlink("..", tmp_path / "b" / "up")
    os.symlink("x.png", tmp_path / "b" / "y.png")
    os.mkfifo(tmp_path / "b" / "pipe.png")
    images = open_dataset(tmp_path)
    assert images.ids == ("a/x.png", "b/x.png", "b/y.png")
    assert images.notes == (
        "left out (broken links, or not files): a/dead.png, a/loop, b/pipe.png",
        "left out (links to folders already read): b/up",
    )
    named = ImageSet(ids=("b/pipe.png",), root=tmp_path)
    named.digest()
    with pytest.raises(DataError, match="not a file"):
        named.read(0)


def test_folders_that_cannot_be_opened_are_listed(tmp_path, monkeypatch):
    classes(tmp_path, "a", "b", "c")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("c"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"without images \(c\)"):
        open_dataset(tmp_path)
    images = open_dataset(tmp_path, class_order=["c", "b", "a"])
    assert by_folder(images) == {"a": 2, "b": 1}
    assert "left out (folders that cannot be opened): c" in images.notes


def test_empty_class_folders(tmp_path):
    classes(tmp_path, "a", "b", "c", split="train")
    classes(tmp_path, "a", "c", split="val")
    (tmp_path / "val" / "b").mkdir()
    images = open_dataset(tmp_path, "val")
    assert by_folder(images) == {"a": 0, "c": 2}
    assert images.notes == ("class folders without images here: b",)
    shutil.rmtree(tmp_path / "train" / "b")
    with pytest.raises(DataError, match=r"without images \(b\)"):
        open_dataset(tmp_path, "val")
    assert by_folder(open_dataset(tmp_path, "val", class_order=["c", "a"])) == {"a": 1, "c": 0}


def test_one_class_of_several_in_a_split_keeps_its_label(tmp_path):
    classes(tmp_path, "a", "b", split="train")
    classes(tmp_path, "b", split="val")
    (tmp_path / "val" / "a").mkdir()
    assert by_folder(open_dataset(tmp_path, "val")) == {"b": 1}


def test_notes_on_missing_labels(tmp_path):
    save(classes(tmp_path / "1", "a", "b") / "stray.png")
    (classes(tmp_path / "2", "images") / "annotations").mkdir()
    assert open_dataset(tmp_path / "1").notes == (
        "no labels: stray.png is beside the class folders, not in one",
    )
    assert open_dataset(tmp_path / "2").notes == ("no labels: only the folder images contains images",)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("training", "validation", "testing"), ["train", "val", "test"]),
        (("Train", "Valid", "TEST"), ["train", "val", "test"]),
        (("train", "dev"), ["train", "val"]),
        (("eval",), ["val"]),
        (("valid", "invalid"), ["test"]),
        (("dev", "prod"), ["test"]),
    ],
)
def test_other_names_of_splits(tmp_path, names, splits):
    for name in names:
        classes(tmp_path, "a", "b", split=name)
    assert available_splits(tmp_path) == splits
    for split in splits:
        images = open_dataset(tmp_path, split)
        standard = {"train", "test", "val"} >= {name.lower() for name in names} or splits == ["test"]
        assert images.split == split
        assert standard or any("is read from" in n for s in splits for n in open_dataset(tmp_path, s).notes)


def test_several_forms_of_a_split(tmp_path):
    np.savez(tmp_path / "train.npz", images=np.zeros((3, 2, 2), np.uint8))
    save(tmp_path / "figures" / "plot.png")
    assert available_splits(tmp_path) == ["train"], "stray images are not a test split"
    save(tmp_path / "train" / "x.png")
    save(tmp_path / "test" / "x.png")
    assert available_splits(tmp_path) == ["train", "test"]
    assert open_dataset(tmp_path, "train").notes == (
        "the split train exists in 2 forms; the packed one is read",
    )
    shutil.copytree(tmp_path, tmp_path / "data" / "mine")
    assert available_splits("mine", tmp_path / "data") == ["train", "test"]
