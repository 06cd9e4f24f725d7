"""Inference of columns of tables; values are compared with a plain loop over the cells of the file."""

import csv
import lzma
from pathlib import Path

import numpy as np
import pytest

from featood.data.tables import read_table
from featood.errors import DataError, UsageError

CASES = Path(__file__).parents[1] / "cases" / "csv"
ROWS = [
    (0.5, -1.25, "A"),
    (1.5, 2.0, "B"),
    (3.25, 4.0, "A"),
    (-2.0, 8.5, "B"),
    (10.0, 0.125, "A"),
    (7.5, 3.5, "B"),
]
VALUES = [row[:2] for row in ROWS]


def cells(path, delimiter=","):
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter=delimiter)
    return header, rows


def read(folder, text, label="k", **options):
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, label, **options)


def lines(form, extra=lambda place: ""):
    return "\n".join(form.format(*row, i=place, x=extra(place)) for place, row in enumerate(ROWS))


@pytest.mark.parametrize(
    ("name", "label", "columns", "classes", "note"),
    [
        ("unnamed_0", "class", "abc", "A B C", "left out: Unnamed: 0 (no name)"),
        ("ids_beyond_2_53", "device", "abc", "12 9007199254740992 9007199254740993", ""),
        ("leading_zeros", "code", "abc", "01 1 2", "'01' and '1' are used as two classes"),
        ("class_named_NA", "country", "abc", "DE FR NA", "'NA' is used as a class"),
        ("empty_column", "class", "abc", "A B C", "left out: comment (empty)"),
    ],
)
def test_difficult_tables(name, label, columns, classes, note):
    table = read_table(CASES / f"{name}.csv", label)
    header, rows = cells(CASES / f"{name}.csv")
    assert table.columns == tuple(columns) and table.classes == tuple(classes.split())
    np.testing.assert_array_equal(
        table.features, [[float(row[header.index(column)]) for column in columns] for row in rows]
    )
    assert [table.classes[number] for number in table.labels] == [row[header.index(label)] for row in rows]
    assert note in " / ".join(table.notes)


def test_commas_as_decimal_points():
    table = read_table(CASES / "decimal_comma.csv", "Klasse")
    _, rows = cells(CASES / "decimal_comma.csv", ";")
    np.testing.assert_array_equal(
        table.features, [[float(cell.replace(",", ".")) for cell in row[:3]] for row in rows]
    )
    assert table.notes == ("commas are read as decimal points: Druck, Temp, Kraft",)


def test_words_for_yes_and_no():
    table = read_table(CASES / "booleans.csv", "class")
    _, rows = cells(CASES / "booleans.csv")
    assert table.columns == ("a", "b", "c", "open")
    assert table.features[:, 3].tolist() == [float(row[3] == "True") for row in rows]
    assert table.notes == ("true and false are read as 1 and 0: open",)


def test_the_usual_words_for_missing_values():
    table = read_table(CASES / "missing_tokens.csv", "class")
    _, rows = cells(CASES / "missing_tokens.csv")
    whole = []
    for place, row in enumerate(rows):
        try:
            whole.append((place, [float(cell) for cell in row[:3]]))
        except ValueError:
            continue
    assert len(rows) == 98 and len(table) == len(whole) == 90
    assert table.ids.tolist() == [place for place, _ in whole]
    np.testing.assert_array_equal(table.features, [row for _, row in whole])
    assert (
        "8 rows are left out because of missing values in a (such as #N/A, -, <NA>, ?, NA, NaT, None)"
        in table.notes[0]
    )


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("z,a,b,k\n" + lines("{i},{},{},{}"), "left out: z (numbers the rows)"),
        ("z,a,b,k\n" + lines("{x},{},{},{}", lambda i: i + 1), "left out: z (numbers the rows)"),
        ("a,b,z,k\n" + lines("{},{},{i}.0,{}"), "left out: z (numbers the rows)"),
        ("Row ID,a,b,k\n" + lines("{x},{},{},{}", [3, 1, 2, 6, 5, 4].__getitem__), "Row ID (identifies the rows)"),
        ("id,a,b,k\n" + lines("u{i}f,{},{},{}"), "left out: id (identifies the rows)"),
        ("__index_level_0__,a,b,k\n" + lines("{x},{},{},{}", lambda i: 7 * i), "left out: __index_level_0__ (no name)"),
        ("a,b,k,\n" + lines("{},{},{},"), "left out: column 3 (empty)"),
        ("a,b,k\n" + lines("{},{},{},"), "left out: column 3 (empty)"),
        ("a,b,k\n" + lines('"{x}",{},{},{}', lambda i: i + 4), "left out: column 0 (no name)"),
        ("a,b,w,k\n" + lines("{},{},?,{}"), "left out: w (empty)"),
        ("# by x, on y\n# b\na,b,k\n" + lines("{},{},{}") + "\n# end\n", ""),
        ("# a,b,k\n" + lines("{},{},{}"), "the comment before the first row names the columns"),
        ("\ufeff" + "a,b,k\n" + lines("{},{},{}"), ""),
        (("a,b,k\n" + lines("{},{},{}")).replace("\n", "\r"), ""),
        ("sep=;\na;b;k\n" + lines("{};{};{}"), ""),
        ("a|b|k\n" + lines("{}|{}|{}"), ""),
        ("a,k,b\n" + lines("{0},{2} ,{1}"), ""),
        ("a,b,k\n" + lines('"{0}","+{x}", {2}', [-1.25, 2, 4, 8.5, 0.125, 3.5].__getitem__).replace("+-", "-"), ""),
        (("a\tb\tk\n" + lines("{}\t{}\t{}")).replace(".", ","), "commas are read as decimal points: a, b"),
        (("a,b,k\n" + lines("{},{},{}")).encode("utf-16"), ""),
        ("a,b,k\n" + lines("{:e},{:E},{}"), ""),
        (("a,b,k\n" + lines('"{}","{}",{}')).replace(".", ","), "commas are read as decimal points: a, b"),
        ("Unnamed: 0.1,a,b,k\n" + lines("{x},{},{},{}", lambda i: 7 * i), "left out: Unnamed: 0.1 (no name)"),
    ],
)  # fmt: skip
def test_equivalent_forms_of_the_same_rows(tmp_path, text, note):
    table = read(tmp_path, text)
    np.testing.assert_array_equal(table.features, VALUES)
    assert table.columns == ("a", "b") and table.classes == ("A", "B")
    assert (note in " / ".join(table.notes)) if note else not table.notes


def test_inferences_can_be_overridden(tmp_path):
    text = "z,a,b,k\n" + lines("{i},{},{},{}")
    table = read(tmp_path, text, keep=["z"])
    assert table.columns == ("z", "a", "b") and not table.notes
    table = read(tmp_path, text, drop=["a", "0"])
    assert table.columns == ("b",) and table.left_out == ("z", "a")
    for options in ({"drop": ["k"]}, {"drop": ["a"], "keep": ["a"]}):
        with pytest.raises(UsageError, match="both dropped and used"):
            read(tmp_path, text, **options)
    with pytest.raises(UsageError, match="no column 'bb': did you mean 'b'"):
        read(tmp_path, text, drop=["bb"])


def test_a_permutation_is_kept_with_a_note(tmp_path):
    table = read(tmp_path, "z,a,b,k\n" + lines("{x},{},{},{}", [3, 1, 2, 5, 4, 0].__getitem__))
    assert table.columns == ("z", "a", "b") and "add --drop z" in table.notes[0]
    table = read(tmp_path, "z,a\n" + "\n".join(f"{i * i + 400},0.5" for i in range(20)), "")
    assert table.columns == ("z", "a") and "add --drop z" in table.notes[0]


def test_leaving_out_the_only_column_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"left out: z \(numbers the rows\).*--keep"):
        read(tmp_path, "z,k\n" + lines("{i},{2}"))


def test_a_related_table_has_the_same_columns(tmp_path):
    text = "z,a,b,k\n" + lines("{x},{0},1,{2}", [4, 9, 2, 11, 3, 7].__getitem__)
    table = read(tmp_path, text, like=("a", "b"), unlike=("z", "more"))
    assert table.columns == ("a", "b") and table.left_out == ("z",)
    table = read(tmp_path, "z,a,b\n" + lines("{i},{0},1"), "", like=("z", "a", "b"))
    assert table.columns == ("z", "a", "b"), "a column of the related table is a feature, whatever its values"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a,b,k\n"1,234.5",2,A\n3,4,B\n', "'1,234.5', which has thousands separators"),
        ("a;b;k\n1.234,5;2;A\n3;4;B\n", "thousands separators"),
        ("a\tb\tk\n1,234\t2\tA\n3,456\t4\tB\n", "thousands separators"),
        ("a;b;k\n1,5;2.5;A\n3,25;4;B\n", "'2.5', but commas are decimal points elsewhere"),
        ("a,b,k\n12%,2,A\n3%,4,B\n", "percent sign"),
        ("a,b,k\n0x10,2,A\n", "'0x10'"),
        ("a,b,k\n2020-01-31,2,A\n", "'2020-01-31'.*--drop a"),
        ("a b,b,k\nred,2,A\n", "'red', which is not a number; leave the column out with --drop 'a b'"),
        ("a,b,k\ntrue,2,A\n0,1,B\n", "'true'"),
        ("a,b,k\n,1,A\n2,,B\n,3,A\n", "no row without missing values; 'a' has the most"),
        ("a,b,k\n1,2,A\n1,2\n", "Expected 3 columns, got 2"),
        ("a,b,k\n" + lines("{},{},{x}", lambda i: f"0.{i}7"), "regression targets are not classes"),
    ],
)
def test_values_that_are_not_numbers_are_refused_in_one_line(tmp_path, text, found):
    with pytest.raises(DataError, match=found) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_labels_are_names(tmp_path):
    table = read(tmp_path, "a,b,k\n" + lines("{},{},{x}", lambda i: f"{i % 3}.0"))
    assert table.classes == ("0.0", "1.0", "2.0") and table.labels.tolist() == [0, 1, 2] * 2
    table = read(tmp_path, "a,b,k\n" + lines("{},{},{x}", lambda i: ["3.9", "3.10", "3.1"][i % 3]))
    assert table.classes == ("3.1", "3.10", "3.9"), "versions are not numbers"
    table = read(tmp_path, "a,b,k\n" + lines("{},{},{x}", lambda i: ["10", "9", " "][i % 3]))
    assert table.classes == ("9", "10") and len(table) == 4 and "in the label" in table.notes[0]


def test_a_column_that_may_be_the_label_has_a_note(tmp_path):
    table = read(tmp_path, "a,label\n0.5,0\n1.5,1\n0.25,0\n", "")
    assert table.columns == ("a", "label") and "add --label label" in table.notes[0]


def test_rounding_to_float64_has_a_note(tmp_path):
    table = read(tmp_path, "a,b,k\n9007199254740993,2,A\n1,3,B\n")
    assert table.notes == ("integers beyond 2**53 are rounded to float64: a",)


def test_latin_1_is_read_with_a_note(tmp_path):
    table = read(tmp_path, "a,b,k\n1,2,Gr\u00f6\u00dfe\n2,3,B\n".encode("cp1252"))
    assert table.classes == ("B", "Gr\u00f6\u00dfe") and "not UTF-8" in table.notes[0]


def test_packed_with_xz(tmp_path):
    (tmp_path / "t.tsv.xz").write_bytes(lzma.compress(("a\tb\tk\n" + lines("{}\t{}\t{}")).encode()))
    np.testing.assert_array_equal(read_table(tmp_path / "t.tsv.xz", "k").features, VALUES)


def test_wide_tables(tmp_path):
    values = np.random.default_rng(0).random((8, 3000)).round(4)
    np.savetxt(
        tmp_path / "w.csv", values, "%.4f", ",", header=",".join(f"f{i}" for i in range(3000)), comments=""
    )
    np.testing.assert_array_equal(read_table(tmp_path / "w.csv").features, values)


@pytest.mark.parametrize("dialect", [",.", ";.", ";,", "\t.", " .", "|."])
def test_numbers_are_read_exactly(tmp_path, dialect):
    delimiter, point = dialect
    bits = np.random.default_rng(0).integers(0, 2**64, (400, 2), np.uint64).view(np.float64)
    values = bits[np.isfinite(bits).all(1)]
    rows = [delimiter.join((repr(a), f"{b:.17e}", "c")).replace(".", point) for a, b in values.tolist()]
    path = tmp_path / "t.txt"
    path.write_text("\n".join([delimiter.join(("first", "second", "k")), *rows]))
    np.testing.assert_array_equal(read_table(path, "k").features, values)
