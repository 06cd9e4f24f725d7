"""Sets of texts: tables, lines and class folders, and the layouts of published sets."""

import hashlib
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featood.data import (
    TextSet,
    available_splits,
    get_entry,
    list_datasets,
    open_dataset,
    open_images,
    suite,
    text_set,
)
from featood.errors import DataError, UsageError


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_a_table_has_texts_and_classes(tmp_path):
    write(tmp_path / "news/train.csv", "text,label", '"Rain, again",weather', "Goal!,sport", "Snow,weather")
    write(tmp_path / "news/test.csv", "text,label", "A match,sport", "Elections,politics")
    train, test = (open_dataset("news", split, tmp_path) for split in ("train", "test"))
    assert isinstance(train, TextSet)
    assert [train.read(row) for row in range(3)] == ["Rain, again", "Goal!", "Snow"]
    # numbered over both splits, in sorted order
    assert train.classes == test.classes == ("politics", "sport", "weather")
    assert train.labels.tolist() == [2, 1, 2] and test.labels.tolist() == [1, 0]
    assert any("'text'" in note and "'label'" in note for note in train.notes)
    assert available_splits("news", tmp_path) == ["train", "test"]


def test_a_table_without_a_column_of_texts_is_refused(tmp_path):
    write(tmp_path / "news/test.csv", "headline,label", "Rain,weather")
    with pytest.raises(DataError, match=r"columns headline, label; name that of the texts 'text'"):
        open_dataset("news", data_dir=tmp_path)


def test_parquet_and_lines_and_paths(tmp_path):
    pq.write_table(pa.table({"sentence": ["one", "two"], "topic": ["b", "a"]}), tmp_path / "some.parquet")
    rows = open_dataset(tmp_path / "some.parquet")
    assert (rows.texts, rows.labels.tolist(), rows.classes) == (("one", "two"), [1, 0], ("a", "b"))
    write(tmp_path / "lines.txt", "first line", "", "a\u2028b")
    lines = open_dataset(tmp_path / "lines.txt")
    assert lines.texts == ("first line", "a\u2028b") and lines.labels is None
    assert lines.ids == ("0", "2") and "1 of 3 rows are empty and left out" in lines.notes


def test_class_folders_of_texts(tmp_path):
    for split, name, text in (
        ("train", "rec", "a bike"), ("train", "sci", "a cell"), ("test", "rec", "a car"), ("test", "sci", "an atom")
    ):  # fmt: skip
        write(tmp_path / "posts" / split / name / "1.txt", text)
    (tmp_path / "posts/test/sci/2.txt").write_bytes("caf\xe9".encode("latin-1"))
    test = open_dataset(tmp_path / "posts", "test")
    assert dict(zip(test.ids, test.texts, strict=True)) == {
        "rec/1.txt": "a car", "sci/1.txt": "an atom", "sci/2.txt": "café",
    }  # fmt: skip
    assert test.labels.tolist() == [0, 1, 1] and test.classes == ("rec", "sci")
    assert "1 of 3 files are not UTF-8 and are read as Latin-1" in test.notes


def test_lists_of_images_are_not_texts(tmp_path):
    write(tmp_path / "list.txt", "missing/1.png 0", "missing/2.png 1")
    with pytest.raises(DataError, match=r"missing/1\.png' does not exist"):
        open_dataset(tmp_path / "list.txt")


def test_selectors_and_limits_are_those_of_images(tmp_path):
    write(tmp_path / "news/test.csv", "text,label", *[f"text {row},{'abcd'[row % 4]}" for row in range(12)])
    some = open_dataset("news:1,3", data_dir=tmp_path)
    assert some.texts == tuple(f"text {row}" for row in range(12) if row % 4 in (1, 3))
    assert some.classes == ("b", "d") and set(some.labels.tolist()) == {0, 1}
    few = open_dataset("news:limit=3", data_dir=tmp_path)
    assert few.texts == ("text 0", "text 4", "text 8") and few.name == "news:limit=3"


def test_digests_see_texts_labels_and_their_borders(tmp_path):
    digests = {
        text_set(texts, np.array(labels)).digest()
        for texts, labels in ((["ab", "c"], [0, 1]), (["a", "bc"], [0, 1]), (["ab", "c"], [1, 1]))
    }
    assert len(digests) == 3
    oracle = hashlib.sha256(b"featood texts 1\0" + b"0\x001" + b"\0none")
    for text in ("ab", "c"):
        oracle.update(hashlib.sha256(text.encode()).digest())
    assert text_set(["ab", "c"]).digest() == oracle.hexdigest()


def test_a_set_of_texts_is_no_set_of_images(tmp_path):
    write(tmp_path / "lines.txt", "a text")
    with pytest.raises(UsageError, match="is a set of texts, and images are needed"):
        open_images(tmp_path / "lines.txt")


def test_debian_sections(test_data):
    train, test = (open_dataset("debian-sections", split, test_data) for split in ("train", "test"))
    assert (len(train), len(test)) == (3903, 1675)
    assert train.classes == test.classes == get_entry("debian-sections").classes
    near, far = (
        open_dataset(name, data_dir=test_data)
        for name in suite("debian-sections-near") + suite("debian-sections-far")
    )
    assert (len(near), len(far)) == (600, 800) and not set(near.classes) & set(train.classes)


FILES = {
    "newsgroups20": (
        ("20ng-train-no-short.txt", ["alt.atheism\tgods and men", "comp.sys.mac.hardware\tdisks"], [0, 4]),
        ("20ng-test-no-short.txt", ["comp os ms windows misc drivers for a card"], [2]),
    ),
    "reuters8": (
        ("r8-train-stemmed.txt", ["earn\tshr ct net", "money-fx\tdollar"], [2, 5]),
        ("r8-test-all-terms.txt", ["trade\ttariffs"], [7]),
    ),
    "reuters52": (
        ("r52-train-stemmed.txt", ["instal-debt\tcredit", "money supply\tm1", "zinc\tore"], [21, 33, 51]),
        ("r52-test.txt", ["nat-gas\tpipelin"], [34]),
    ),
    "multi30k": (("m30k-train.txt", ["two men"], None), ("m30k-test.txt", ["a dog", "a cat"], None)),
    "wmt16": (("wmt16_sentences", ["a sentence about law"], None),),
    "wikitext-2": (
        ("wiki.train.tokens", ["", "= Title =", "some <unk> words"], None), ("wiki.valid.tokens", ["words"], None),
        ("wiki.test.tokens", ["more words"], None),
    ),
}  # fmt: skip
SPLITS = {"train": ("train",), "val": ("valid",), "test": ("test", "wmt16")}


@pytest.mark.parametrize("name", [*FILES, "wikitext-103"])
def test_published_layouts(tmp_path, name):
    entry = get_entry(name)
    assert entry.kind == "texts" and entry.untried
    for file, lines, labels in FILES[name if name in FILES else "wikitext-2"]:
        write(tmp_path / name / file, *lines)
        split = next(split for split, words in SPLITS.items() if any(word in file for word in words))
        found = open_dataset(name, split, tmp_path)
        wanted = [line for line in lines if line]
        if labels is None:
            assert found.texts == tuple(wanted) and found.labels is None
        else:
            assert found.labels.tolist() == labels and found.classes == entry.classes
            assert [line.endswith(text) for line, text in zip(wanted, found.texts, strict=True)] == [
                True
            ] * len(wanted)
            assert not any(
                text.startswith(("\t", entry.classes[label]))
                for text, label in zip(found.texts, labels, strict=True)
            )
        assert any("tested on small files of this layout only" in note for note in found.notes)


def test_reuters_by_numbers_and_newsgroups_by_folders(tmp_path):
    write(tmp_path / "reuters8/r8-train-stemmed.txt", *[f"{number} text {number}" for number in range(1, 9)])
    found = open_dataset("reuters8", "train", tmp_path)
    assert found.labels.tolist() == list(range(8)) and found.texts[7] == "text 8"
    assert any("minus one" in note for note in found.notes)
    for split in ("train", "test"):
        for name in ("sci.space", "rec.autos"):
            write(tmp_path / f"20news-bydate/20news-bydate-{split}" / name / "5901", f"{split} {name}")
    posts = open_dataset("newsgroups20", "test", tmp_path)
    assert posts.texts == ("test rec.autos", "test sci.space")
    assert [posts.classes[label] for label in posts.labels] == ["rec.autos", "sci.space"]
    assert posts.classes == get_entry("newsgroups20").classes


@pytest.mark.parametrize(
    ("file", "word"), [("wikitext-2/wiki.test.tokens", ""), ("reuters8/r8-test-stemmed.txt", "earn\t")]
)
def test_empty_lines_are_counted_with_and_without_classes(tmp_path, file, word):
    write(tmp_path / file, f"{word}one", " ", f"{word}two", "", "")
    found = open_dataset(file.partition("/")[0], "test", tmp_path)
    assert (found.texts, found.ids) == (("one", "two"), ("0", "2"))
    assert "3 of 5 rows are empty and left out" in found.notes
    assert found.labels is None if not word else found.labels.tolist() == [2, 2]


def test_a_line_without_a_class_is_an_error(tmp_path):
    write(tmp_path / "reuters8/r8-test-stemmed.txt", "earn\tshr", "", "earnings rose")
    with pytest.raises(DataError, match=r"r8-test-stemmed\.txt, line 3"):
        open_dataset("reuters8", "test", tmp_path)


def test_datasets_lists_texts(featood, tmp_path):
    code, out, _ = featood("datasets", "--data-dir", tmp_path)
    assert code == 0 and "wikitext-103" in out
    assert {entry.kind for entry in list_datasets()} == {"images", "texts", "recordings"}


def test_a_description_beside_other_files_is_no_set(tmp_path):
    write(tmp_path / "readme.txt", "about the files")
    (tmp_path / "files.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match="contains no images, texts"):
        open_dataset(tmp_path)


def test_an_archive_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "wikitext-2.zip", "w") as archive:
        archive.writestr("wikitext-2/wiki.test.tokens", "some words\n")
    assert open_dataset("wikitext-2", "test", tmp_path).texts == ("some words",)


def test_downloads_are_where_the_layouts_expect_them(tmp_path):
    for entry in (entry for entry in list_datasets() if entry.kind == "texts" and entry.files):
        for _, path, checksum in entry.files:
            assert checksum.startswith("md5:") and len(checksum) == 36
            if not path.endswith(".zip"):
                write(tmp_path / path, f"{(*entry.classes, 'some')[0]} words")
        if entry.name.startswith("wikitext"):
            continue
        assert available_splits(entry.name, tmp_path) == list(entry.splits)
        assert [len(open_dataset(entry.name, split, tmp_path)) for split in entry.splits] == [1] * len(
            entry.splits
        )
