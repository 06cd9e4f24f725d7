import bz2
import gzip
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from featood.data.catalogue.registry import list_datasets
from featood.data.tables import Table, assign_parts, fit_scaling, read_table, separate_classes
from featood.data.tables.sets import find_table, list_tables, open_table, table_noise
from featood.errors import DataError, UsageError

FLOWERS = "length,width,species\n1.5,2,rose\n3,4.25,iris\n5,6,rose\n"


def written(folder, text, name="t.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_with_text_classes(tmp_path):
    table = read_table(written(tmp_path, FLOWERS), "species")
    np.testing.assert_array_equal(table.features, [[1.5, 2], [3, 4.25], [5, 6]])
    assert table.features.dtype == np.float64 and table.labels.dtype == np.int64
    assert table.classes == ("iris", "rose") and table.labels.tolist() == [1, 0, 1]
    assert table.columns == ("length", "width") and table.notes == ()


@pytest.mark.parametrize(
    ("text", "label", "header", "columns"),
    [
        (FLOWERS, "2", None, ("length", "width")),
        (FLOWERS, "-1", None, ("length", "width")),
        (FLOWERS.replace(",", "\t"), "species", None, ("length", "width")),
        (FLOWERS.replace(",", ";").replace("\n", "\r\n"), "species", None, ("length", "width")),
        (FLOWERS.replace(",", "   ") + "\n\n", "species", None, ("length", "width")),
        ("\ufeff" + FLOWERS, "species", None, ("length", "width")),
        ('"length","width","species"\n"1.5"," 2 ","rose"\n3,4.25, iris\n5,6,rose\n', "2", None, ("length", "width")),
        (FLOWERS.partition("\n")[2], "2", None, ("0", "1")),
        (FLOWERS.partition("\n")[2], "-1", False, ("0", "1")),
        (",length,width,species\n" + "\n".join(f"{i},{row}" for i, row in enumerate(FLOWERS.split()[1:])), "species",
         None, ("length", "width")),
    ],
    ids=["position", "last", "tabs", "semicolons", "spaces", "bom", "quotes", "headless", "header", "index"],
)  # fmt: skip
def test_equivalent_forms_of_the_same_table(tmp_path, text, label, header, columns):
    table = read_table(written(tmp_path, text), label, header)
    np.testing.assert_array_equal(table.features, [[1.5, 2], [3, 4.25], [5, 6]])
    assert table.classes == ("iris", "rose") and table.labels.tolist() == [1, 0, 1]
    assert table.columns == columns


def test_a_header_of_numbers_needs_the_option(tmp_path):
    path = written(tmp_path, "0,1\n2,3\n4,5\n")
    assert len(read_table(path)) == 3
    table = read_table(path, header=True)
    assert len(table) == 2 and table.columns == ("0", "1") and table.labels is None


@pytest.mark.parametrize(("name", "pack"), [("t.csv.gz", gzip.compress), ("t.csv.bz2", bz2.compress)])
def test_packed_files(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(FLOWERS.encode()))
    assert read_table(tmp_path / name, "species").classes == ("iris", "rose")


def test_missing_values_an_index_and_constant_columns_have_notes(tmp_path):
    text = ",a,b,c\n0,1,7,x\n1,,7,y\n2,2,7,\n3,?,7,z\n4,nan,7,x\n5,3,7,y\n"
    table = read_table(written(tmp_path, text), "c")
    np.testing.assert_array_equal(table.features, [[1, 7], [3, 7]])
    assert table.classes == ("x", "y") and table.ids.tolist() == [0, 5]
    notes = " / ".join(table.notes)
    assert "4 rows" in notes and "no name" in notes and "constant: b" in notes


def test_numeric_classes_are_sorted_numerically(tmp_path):
    table = read_table(
        written(tmp_path, "x,y\n" + "\n".join(f"{i},{c}" for i, c in enumerate([10, 2, 2, -1]))), "y"
    )
    assert table.classes == ("-1", "2", "10") and table.labels.tolist() == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "label", "error", "found"),
    [
        (FLOWERS, "specie", UsageError, "'species'"),
        (FLOWERS, "zzz", UsageError, "it has length, width, species"),
        (FLOWERS, "7", UsageError, "3 columns"),
        (FLOWERS, "", DataError, "'species' contains 'rose'"),
        (FLOWERS, "width", DataError, "'species' contains 'rose'"),
        ("", "", DataError, "is empty"),
        ("\n \n", "", DataError, "is empty"),
        ("a,b\n", "", DataError, "has no rows"),
        (" \n1,2\n", "", DataError, "begins with an empty line"),
        ("a,b\n1,\n,2\n", "", DataError, "no row without missing"),
        ("a\nx\n", "a", DataError, "no feature column"),
        ("a,a\n1,2\n", "", DataError, "two columns named 'a'"),
        ("a,b\n1,2\n3\n", "", DataError, "Expected 2 columns"),
        ("a,b\n1,2\n3,inf\n", "", DataError, "'b' contains an infinite value"),
        ("a,b\n1,2\n3,0x10\n", "", DataError, "'b' contains '0x10'"),
        ("a,b\n1,2\n3,1_000\n", "", DataError, "'b' contains '1_000'"),
        ("a,b\n1,2\n3,\u0661\n", "", DataError, "'b' contains '\u0661'"),
    ],
)
def test_errors_have_one_line(tmp_path, text, label, error, found):
    with pytest.raises(error, match=found) as caught:
        read_table(written(tmp_path, text), label)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_tables(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"a,b\n\xff\x00\xfe,1\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_table(tmp_path / "x.csv", "a")
    (tmp_path / "x.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read as separated values"):
        read_table(tmp_path / "x.csv.gz")


@given(st.binary(max_size=60), st.sampled_from(["", "a", "0", "-1"]))
def test_any_bytes_are_a_table_or_give_one_line(tmp_path_factory, content, label):
    path = tmp_path_factory.mktemp("bytes") / "t.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, label)
    except (DataError, UsageError) as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(table.features).all() and table.features.shape == (len(table), len(table.columns))


def test_classes_are_held_out_by_name():
    labels = np.array([2, 0, 1, 2, -1])
    table = Table(np.arange(10.0).reshape(5, 2), labels, columns=("a", "b"), classes=("x", "y", "z"))
    inside, outside = separate_classes(table, ["y"])
    assert inside.classes == ("x", "z") and inside.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(inside.features, table.features[[0, 1, 3]])
    np.testing.assert_array_equal(outside.features, table.features[[2, 4]])
    assert outside.labels.tolist() == [-1, -1] and inside.ids.tolist() == [0, 1, 3]
    with pytest.raises(UsageError, match="there are x, y, z"):
        separate_classes(table, ["sky"])
    with pytest.raises(UsageError, match="no in-distribution rows"):
        separate_classes(table, ["x", "y", "z"])
    with pytest.raises(UsageError, match="--label"):
        separate_classes(Table(np.zeros((2, 1))), ["x"])


def test_columns_and_classes_follow_another_table():
    table = Table(np.array([[1.0, 2.0]]), np.array([0]), columns=("a", "b"), classes=("y",))
    assert table.with_columns(("b", "a")).features.tolist() == [[2, 1]]
    with pytest.raises(DataError, match="no column 'c'"):
        table.with_columns(("a", "c"))
    with pytest.raises(DataError, match="column 'b' that"):
        table.with_columns(("a",))
    assert table.with_classes(("x", "y")).labels.tolist() == [1]
    with pytest.raises(DataError, match="no class 'y'"):
        table.with_classes(("x",))


@given(st.lists(st.integers(0, 3), min_size=20, max_size=200), st.integers(0, 5))
def test_parts_are_stratified_by_class(labels, seed):
    labels = np.array(labels)
    part = assign_parts(len(labels), labels, (60, 20, 20), np.random.default_rng(seed))
    for label in np.unique(labels):
        counts = np.bincount(part[labels == label], minlength=3)
        assert np.abs(counts - (labels == label).sum() * np.array([0.6, 0.2, 0.2])).max() <= 1


def test_parts_are_random_and_reproducible():
    first, again, other = (assign_parts(100, None, (1, 1), np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.sum() == 50 and (np.diff(first) != 0).sum() > 20
    assert set(assign_parts(50, None, (0, 1), np.random.default_rng(0))) == {1}


@pytest.mark.parametrize(("kind", "oracle"), [("min-max", MinMaxScaler()), ("standard", StandardScaler())])
def test_scaling_against_scikit_learn(kind, oracle):
    rng = np.random.default_rng(0)
    train, test = rng.normal(3, 5, (50, 4)), rng.normal(3, 5, (20, 4))
    train[:, 2] = 0.1
    scaling = fit_scaling(kind, train)
    np.testing.assert_allclose(scaling(Table(test)).features, oracle.fit(train).transform(test), atol=1e-12)
    back = type(scaling).from_json(scaling.as_json())
    np.testing.assert_array_equal(back(Table(test)).features, scaling(Table(test)).features)


def test_no_scaling_and_unknown_scaling():
    np.testing.assert_array_equal(fit_scaling("none", np.eye(3))(Table(np.eye(3))).features, np.eye(3))
    with pytest.raises(UsageError, match="min-max"):
        fit_scaling("robust", np.eye(3))


def test_entries_are_sound(tmp_path):
    entries = list_tables()
    names = [name for entry in entries for name in (entry.name, entry.ood)]
    assert len(set(names)) == len(names)
    assert not set(names) & {entry.name for entry in list_datasets()}
    for entry in entries:
        if entry.files:
            with pytest.raises(DataError, match=str(tmp_path / entry.name)):
                open_table(entry, tmp_path)
            continue
        inside, outside = open_table(entry, tmp_path, 200 if entry.rows else None)
        assert inside.features.shape[1] == outside.features.shape[1] == entry.width == len(inside.columns)
        assert len(inside.classes) == entry.num_classes and (outside.labels == -1).all()
    with pytest.raises(UsageError, match="two-moons"):
        find_table("two-moon")
    with pytest.raises(UsageError, match="--rows"):
        open_table(find_table("wine"), tmp_path, 10)
    with pytest.raises(UsageError, match="10 rows"):
        open_table(find_table("rings"), tmp_path, 3)


def test_the_background_of_a_toy_has_low_density(tmp_path):
    from featood.data.tables.toys import TOYS

    inside, outside = open_table(find_table("two-moons"), tmp_path, 2000, seed=4)
    assert len(inside) == 2000 and len(outside) == 400
    density = TOYS["two-moons"].log_density
    assert (density(inside.features) > density(outside.features).max()).mean() > 0.98


def test_sensorless_is_read_as_uci_distributes_it(tmp_path):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(0, 1e-5, (220, 48)), np.repeat(np.arange(1, 12), 20)
    rows = (
        " ".join([*(f"{value:.4e}" for value in row), str(label)])
        for row, label in zip(features, labels, strict=True)
    )
    (tmp_path / "tabular" / "sensorless").mkdir(parents=True)
    written(tmp_path / "tabular" / "sensorless", "\n".join(rows) + "\n", "Sensorless_drive_diagnosis.txt")
    inside, outside = open_table(find_table("sensorless"), tmp_path)
    assert inside.features.shape == (180, 48) and inside.classes == tuple(map(str, range(1, 10)))
    np.testing.assert_array_equal(inside.labels, labels[:180] - 1)
    np.testing.assert_allclose(outside.features, features[180:], rtol=1e-3)


def test_distributions_of_noise():
    from scipy.stats import kstest

    gaussian, uniform = table_noise(5, n=4000), table_noise(5, kind="uniform", n=4000)
    assert kstest(gaussian.ravel(), "norm").pvalue > 1e-3
    assert kstest(uniform.ravel(), "uniform", (-5, 10)).pvalue > 1e-3
    constant = table_noise(5, kind="constant")
    assert constant.shape == (10_000, 5) and (np.ptp(constant, axis=1) == 0).all()
    assert kstest(constant[:, 0], "uniform", (-5, 10)).pvalue > 1e-3
    assert not np.array_equal(table_noise(5, n=10, seed=1), gaussian[:10])
    with pytest.raises(UsageError, match="gaussian, uniform, constant"):
        table_noise(5, kind="pink")


def test_segment_and_the_gaussians_match_the_literature(test_data):
    inside, outside = open_table(find_table("segment"), test_data)
    assert inside.features.shape == (1980, 18) and len(inside.classes) == 6
    assert np.bincount(inside.labels).tolist() == [330] * 6
    assert outside.features.shape == (330, 18) and (outside.labels == -1).all()
    inside, outside = open_table(find_table("gaussian2d"), test_data)
    assert inside.features.shape == (1500, 2) and outside.features.shape == (400, 2)
    assert np.bincount(inside.labels).tolist() == [500] * 3


GOLDEN = {
    "segment": ("1ae4a1f2a286081a", "569b4f7e80b60a22"),
    "gaussian2d": ("aeedf52ef890956b", "837f65269f3f9d86"),
    "wine": ("64a639315cb8b554", "02f2c666992595e1"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_values_of_built_in_tables_have_not_changed(test_data, name):
    for table, right in zip(open_table(find_table(name), test_data), GOLDEN[name], strict=True):
        content = hashlib.sha256(table.features.astype("<f8").tobytes())
        content.update(table.labels.astype("<i8").tobytes() + table.ids.astype("<i8").tobytes())
        content.update(repr((table.columns, table.classes)).encode())
        assert content.hexdigest()[:16] == right
