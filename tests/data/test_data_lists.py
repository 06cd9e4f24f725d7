import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featood.data import available_splits, open_dataset
from featood.errors import DataError

CASES = Path(__file__).parents[1] / "cases" / "lists"
ROWS = [(f"images/{row:02d}.png", row % 3) for row in range(6)]


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(CASES / "images", tmp_path / "images")
    for name in ("a b.png", "c,d.png", "Mixed.PNG"):
        shutil.copy(CASES / "images" / "00.png", tmp_path / "images" / name)
    return tmp_path


def opened(folder, text, name="list.txt", encoding="utf-8", **options):
    (folder / name).write_bytes(text.encode(encoding))
    return open_dataset(folder / name, **options)


@pytest.mark.parametrize(
    "path", sorted(path for path in CASES.iterdir() if path.is_file()), ids=lambda p: p.name
)
def test_the_same_list_in_several_dialects(path):
    images = open_dataset(path)
    assert images.ids == tuple(name for name, _ in ROWS)
    assert images.labels.tolist() == [label for _, label in ROWS]
    for row in range(6):
        np.testing.assert_array_equal(images.read(row), Image.open(CASES / images.ids[row]))
    assert images.classes == (("cat", "dog", "frog") if path.stem == "class_names" else ())
    assert bool(images.notes) == (path.stem not in ("plain", "byte_order_mark"))


HEADERS = ("", "path,label", "filename,class", "image,target", "Image_Path,Class ID", "file,y")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".lst", ".list", ".CSV"])
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("mark", list("\t;,|"))
def test_delimiters_headers_and_line_endings(folder, mark, header, suffix):
    lines = [f"{name}{mark}{label}" for name, label in ROWS]
    text = "\n".join([header.replace(",", mark), *lines] if header else lines)
    images = opened(folder, text, f"list{suffix}")
    assert images.ids == tuple(name for name, _ in ROWS)
    assert images.labels.tolist() == [label for _, label in ROWS]


names = st.text(st.sampled_from("ab é,;\"' .-0"), min_size=1, max_size=8).map(
    lambda text: f"x{text.strip()}y.png"
)
rows = st.lists(st.tuples(names, st.integers(-1, 12)), min_size=2, max_size=6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, mark=st.sampled_from("\t;,"), header=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_lists_written_by_the_csv_module(folder, rows, mark, header, end):
    for name, _ in rows:
        (folder / name).touch()
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=mark, lineterminator=end)
        writer.writerows([("path", "label")] * header + rows)
    images = open_dataset(folder / "list.csv")
    assert images.ids == tuple(name for name, _ in rows)
    labels = [label for _, label in rows]
    assert (images.labels is None) if max(labels) < 0 else (images.labels.tolist() == labels)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_byte_order_marks_and_line_endings(folder, encoding, end):
    text = "".join(f"{name} {label}{end}" for name, label in ROWS)
    assert opened(folder, text, encoding=encoding).ids == tuple(name for name, _ in ROWS)


@pytest.mark.parametrize(
    ("text", "ids", "labels"),
    [
        ("images/a b.png 3\nimages/00.png 1", ("images/a b.png", "images/00.png"), [3, 1]),
        ("images/c,d.png 3\nimages/00.png 1", ("images/c,d.png", "images/00.png"), [3, 1]),
        ("images/c,d.png,3\nimages/00.png,1", ("images/c,d.png", "images/00.png"), [3, 1]),
        ('"images/c,d.png",3\n', ("images/c,d.png",), [3]),
        ('"images/a b.png" 3\n', ("images/a b.png",), [3]),
        ("images/c,d.png\nimages/c,d.png\n", ("images/c,d.png",) * 2, None),
        ("images/Mixed.PNG 3\n", ("images/Mixed.PNG",), [3]),
        ("./images/00.png 0\nimages//01.png 1\n", ("images/00.png", "images/01.png"), [0, 1]),
        ("images/00.png,3.0\nimages/01.png,\n", ("images/00.png", "images/01.png"), [3, -1]),
        ("# path label\nimages/00.png 2\n", ("images/00.png",), [2]),
        (
            "0\t7.000000\timages/00.png\n1\t7.000000\timages/01.png\n",
            ("images/00.png", "images/01.png"),
            [7, 7],
        ),
        ("2,images/00.png\n0,images/01.png\n", ("images/00.png", "images/01.png"), [2, 0]),
        (",path,split,label\n0,images/00.png,x,4\n", ("images/00.png",), [4]),
        ("image;mask;class\nimages/00.png;images/01.png;4\n", ("images/00.png",), [4]),
        ("images/00.png 07\nimages/01.png 10\n", ("images/00.png", "images/01.png"), [7, 10]),
    ],
)
def test_forms_of_lists(folder, text, ids, labels):
    images = opened(folder, text)
    assert images.ids == ids
    assert images.labels is None if labels is None else images.labels.tolist() == labels


def test_class_names_have_the_same_numbers_in_all_splits(folder):
    (folder / "train.txt").write_text("images/00.png polar bear\nimages/01.png ape\nimages/02.png cat\n")
    (folder / "test.txt").write_text("images/03.png polar bear\nimages/04.png cat\n")
    train, test = (open_dataset(folder, split) for split in ("train", "test"))
    assert train.classes == test.classes == ("ape", "cat", "polar bear")
    assert (train.labels.tolist(), test.labels.tolist()) == ([2, 0, 1], [2, 1])
    assert "class names" in test.notes[0]
    assert open_dataset(folder / "test.txt").labels.tolist() == [2, 1]
    ordered = open_dataset(folder, "test", class_order=("polar bear", "ape", "cat", "dog"))
    assert ordered.labels.tolist() == [0, 2]


def test_one_and_zero_one_are_two_names(folder):
    images = opened(folder, "images/00.png 01\nimages/01.png 1\n")
    assert (images.labels.tolist(), images.classes) == ([0, 1], ("01", "1"))


def test_names_follow_a_given_order_where_labels_are_numbers(folder):
    images = opened(folder, "images/00.png 2\nimages/01.png 0\n", class_order=["a", "b", "c"])
    assert (images.labels.tolist(), images.classes) == ([2, 0], ("a", "b", "c"))
    with pytest.raises(DataError, match="label 2"):
        open_dataset(folder / "list.txt", class_order=["a", "b"])


def test_absolute_paths_below_the_list_become_relative(folder):
    images = opened(folder, "".join(f"{folder / name} {label}\n" for name, label in ROWS))
    assert images.ids == tuple(name for name, _ in ROWS)
    assert any("absolute" in note for note in images.notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nope/00.png 0\nimages/01.png 1\n", "line 1: 'nope/00.png' does not exist below"),
        ("path,label\nnope/00.png,0\n", "line 2: 'nope/00.png' does not exist"),
        ("/etc/x.png 0\n", "'/etc/x.png' must be below"),
        ("C:\\x\\0.png 0\n", "must be below"),
        ("images/00.png 0\n/etc/x.png 0\n", "line 2.*is outside"),
        ("images/00.png 0\nimages\\..\\..\\x.png 0\n", "line 2.*is outside"),
        ("", "lists no images"),
        ("images/00.png 0.5\nimages/01.png 0.25\nimages/02.png 0.75\n", "targets are not classes"),
        ("images/00.png 0 1 0\nimages/01.png 1 0 0\n", "is not a class"),
    ],
)
def test_refused_lines_are_reported(folder, text, says):
    with pytest.raises(DataError, match=says) as caught:
        opened(folder, text)
    assert "\n" not in str(caught.value)


def test_the_first_missing_path_of_a_list_is_reported(tmp_path):
    (tmp_path / "test.txt").write_text("pics/1.png 0\n")
    with pytest.raises(DataError, match=r"test\.txt, line 1: 'pics/1\.png' does not exist"):
        open_dataset(tmp_path)
    (tmp_path / "benchmark_imglist" / "imagenet").mkdir(parents=True)
    (tmp_path / "benchmark_imglist" / "imagenet" / "test_ninco.txt").write_text("ninco/1.jpg -1\n")
    with pytest.raises(DataError, match=r"'ninco/1\.jpg' does not exist.*get it from"):
        open_dataset("ninco", data_dir=tmp_path)
    assert available_splits("ninco", tmp_path) == []


def test_later_missing_images_are_reported_when_read(folder):
    images = opened(folder, "images/00.png 0\nimages/99.png 1\n")
    assert len(images) == 2
    images.digest()
    images.read(0)
    with pytest.raises(DataError, match=r"99\.png is missing"):
        images.read(1)


def test_a_list_without_a_recognised_column_of_labels_has_a_note(folder):
    images = opened(folder, "path,width,height\nimages/00.png,4,4\n", "list.csv")
    assert images.labels is None
    assert "no labels recognised" in images.notes[0]


def test_other_names_of_splits(folder):
    (folder / "training.csv").write_text("path,label\nimages/00.png,1\n")
    (folder / "Valid.txt").write_text("images/01.png 1\n")
    assert available_splits(folder) == ["train", "val"]
    assert open_dataset(folder, "validation").notes == ("the split val is read from Valid.txt",)


def test_comments_are_no_rows(folder):
    for name in ("a.png", "#b.png"):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / name)
    (folder / "list.txt").write_text("# path label\n#\na.png 3\n   # the last one is a name\n#b.png 1\n")
    images = open_dataset(folder / "list.txt")
    assert list(images.ids) == ["a.png", "#b.png"] and images.labels.tolist() == [3, 1]
