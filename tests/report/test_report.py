import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from pages import HOSTILE, ID_INFO, made_results, row
from rich.console import Console

from featood.errors import DataError
from featood.metrics import METRICS
from featood.report import (
    mean_rows,
    read_scores,
    results_table,
    write_csv,
    write_json,
    write_scores,
)
from featood.report.files import replacing
from featood.report.rows import best_cells


def results_of(rows, info=ID_INFO, **rest):
    return {"id": info, "rows": rows, **rest}


def printed(rows, width=80, info=ID_INFO, **rest):
    console = Console(width=width, file=io.StringIO(), markup=False, emoji=False)
    console.print(results_table(results_of(rows, info, **rest), width))
    return console.file.getvalue()


def test_mean_rows_have_equal_weights_for_all_sets():
    rows = [row("a", "x", 0.9, n_ood=10), row("b", "x", 0.1), row("a", "y", 0.6, n_ood=30, fit_s=None)]
    first, second = mean_rows(rows)
    assert (first["head"], first["ood"], first["sets"], first["n_ood"]) == ("a", "mean", ["x", "y"], 40)
    assert first["auroc"] == pytest.approx(0.75)
    assert first["score_s"] == 0.5
    assert "fit_s" not in first
    assert (second["head"], second["auroc"]) == ("b", 0.1)


def test_the_best_value_is_found_per_ood_set_and_in_the_right_direction():
    rows = [row("a", "x", 0.9, fpr95=0.3), row("b", "x", 0.8, fpr95=0.2), row("a", "y", 0.99)]
    best = best_cells(rows)
    assert {(0, "auroc"), (1, "fpr95")} <= best
    assert not {(1, "auroc"), (0, "fpr95")} & best
    assert all(index != 2 for index, _ in best)
    # values that are equal when printed are equally good
    assert {(0, "auroc"), (1, "auroc")} <= best_cells([row("a", "x", 0.90001), row("b", "x", 0.90002)])


def test_means_over_different_sets_are_not_compared():
    shared = [row("a", "x"), row("a", "y"), row("b", "x"), row("b", "y")]
    assert {index for index, _ in best_cells(mean_rows(shared))} == {0, 1}
    assert best_cells(mean_rows([*shared[:3], row("b", "z")])) == set()


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (49, ["AUROC", "in", "out", "FPR95"], "n, AUTC, det. err, FPR95 ood"),
        (60, ["AUROC", "in", "out", "FPR95", "ood", "err"], "n, AUTC"),
        (80, ["AUROC", "in", "out", "FPR95", "ood", "err", "AUTC", "n"], ""),
    ],
)
def test_the_table_fits_and_names_the_columns_that_do_not(width, shown, left_out):
    names = [(head, ood) for head in ("mahalanobis", "heat-gmm") for ood in ("tiny-imagenet", "svhn")]
    rows = [row(head, ood, 0.98765, n_ood=10_000) for head, ood in names]
    lines = printed(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.split() == ["head", *shown] for line in lines)
    cells = [line.split() for line in lines]
    numbers = ["98.77", *["25.00"] * 6][: len(shown)]
    for head in ("mahalanobis", "heat-gmm"):
        assert [head, *numbers, *["20000"] * ("n" in shown)] in cells
    for ood in ("tiny-imagenet", "svhn"):
        assert cells.count([ood, *numbers, *["10000"] * ("n" in shown)]) == 2
    text = " ".join(" ".join(lines).split())
    assert (f"too wide for {width} columns: {left_out}" in text) if left_out else ("too wide" not in text)


def test_the_title_names_the_id_set_and_the_only_ood_set():
    text = printed([row("a", "x")])
    assert "ID mnist/test, 10,000 rows, accuracy 99.06 %" in text and "OOD x; metrics in %" in text
    bare = printed([row("a", "x", autc=None)], info={"dataset": "mnist"}).splitlines()
    assert bare[:2] == ["ID mnist", "OOD x; metrics in %"]
    assert bare[-2].split() == ["a", "50.00", *["25.00"] * 5, "-", "50"]  # there is no AUTC


def test_the_table_prints_the_best_in_bold():
    table = results_table(results_of([row("a", "x", 0.9), row("b", "x", 0.8)]))
    bold = [s.text.strip() for s in Console(width=80).render(table) if s.style and s.style.bold]
    assert "90.00" in bold and "80.00" not in bold


def test_markup_and_long_names_are_printed_as_text():
    text = printed([row(name, "x" * 70) for name in HOSTILE], 60, {"dataset": "[red]"})
    assert "[red]b[/red]" in text and "ID [red]" in text
    assert "\x1b" not in text and "\x00" not in text
    assert text.count("x") >= 70  # folded, not cut
    assert max(map(len, text.splitlines())) <= 60


def test_long_names_have_a_line_of_their_own_and_break_only_at_commas():
    long = "postnet@" + ",".join(f"option_{number}={number}" for number in range(9))
    lines = printed([row(long, "x"), row("knn", "x")]).splitlines()
    assert max(map(len, lines)) <= 80
    first = next(number for number, line in enumerate(lines) if line.startswith("postnet"))
    assert lines[first].endswith(",") and lines[first] + lines[first + 1].strip() == long
    assert lines[first + 2].split()[0] == "50.00"


def test_json_and_csv_round_trip(tmp_path, capsys):
    results, _ = made_results()
    results["rows"][0]["auroc"] = np.float64(1 / 3)
    results["id"]["n"] = np.int64(7)
    write_json(tmp_path / "new" / "r.json", results)
    assert json.loads((tmp_path / "new" / "r.json").read_text()) == results
    write_json("-", results)
    assert json.loads(capsys.readouterr().out) == results

    rows = [results["rows"][0] | {"head": 'comma, "quote"'}, {**results["rows"][1], "seed": 3, "fit_s": None}]
    write_csv(tmp_path / "r.csv", rows)
    with open(tmp_path / "r.csv", newline="") as file:
        read = list(csv.DictReader(file))
    columns = "head ood split n_id n_ood auroc aupr_in aupr_out fpr95 fpr95_ood detection_error autc fit_s score_s seed"
    assert list(read[0]) == columns.split()
    assert read[0]["head"] == 'comma, "quote"' and read[0]["seed"] == "" and read[1]["fit_s"] == ""
    for found, expected in zip(read, rows, strict=True):
        assert {name: float(found[name]) for name in METRICS} == {name: expected[name] for name in METRICS}
    write_csv("-", rows)
    assert capsys.readouterr().out == (tmp_path / "r.csv").read_text()


def test_files_are_replaced_atomically(tmp_path):
    target = tmp_path / "r.json"
    target.write_text("old")
    with pytest.raises(DataError, match="JSON"):
        write_json(target, {"auroc": float("nan")})
    with pytest.raises(RuntimeError):
        with replacing(target) as file:
            file.write(b"half")
            raise RuntimeError
    assert target.read_text() == "old"
    link = tmp_path / "link.json"
    link.symlink_to(target)
    write_json(link, {})
    assert link.is_symlink() and target.read_text() == "{}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "r.json"]


def test_errors_name_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "r.json"):
        with pytest.raises(DataError, match=f"cannot write {path}"):
            write_json(path, {})
    write_json("/dev/null", {})


def test_scores_are_streamed_to_parquet(tmp_path):
    def records():
        yield {"dataset": "mnist", "split": "test", "id": np.array(["a", "b"]), "label": [3, -1],
               "prediction": [3, 4], "head": "msp", "score": np.array([0.1, np.inf], np.float32)}  # fmt: skip
        yield {"dataset": "svhn", "split": "test", "id": [7], "label": None, "prediction": None,
               "head": "msp", "score": [2]}  # fmt: skip

    write_scores(tmp_path / "s.parquet", records())
    file = pq.ParquetFile(tmp_path / "s.parquet")
    assert file.num_row_groups == 2
    assert file.read().to_pydict() == {
        "dataset": ["mnist", "mnist", "svhn"],
        "split": ["test"] * 3,
        "id": ["a", "b", "7"],
        "label": [3, -1, None],
        "prediction": [3, 4, None],
        "head": ["msp"] * 3,
        "score": [float(np.float32(0.1)), np.inf, 2.0],
    }


def test_columns_of_different_length_are_refused_and_no_file_is_left(tmp_path):
    record = {
        "dataset": "d",
        "split": "s",
        "id": [1, 2],
        "label": None,
        "prediction": None,
        "head": "h",
        "score": [1.0],
    }
    with pytest.raises(DataError, match=r"d/s, head h: 2 values of 'id' for 1 scores"):
        write_scores(tmp_path / "s.parquet", [record])
    assert not list(tmp_path.iterdir())


def test_saved_scores_are_read_again(tmp_path):
    records = [
        {"dataset": "mnist", "split": "test", "id": np.array(["a", "b"]), "label": np.array([3, -1]),
         "prediction": np.array([3, 4]), "head": "msp", "score": np.array([0.1, np.inf])},
        {"dataset": "svhn", "split": "test", "id": np.array(["7"]), "label": None, "prediction": None,
         "head": "msp", "score": np.array([2.0])},
    ]  # fmt: skip
    write_scores(tmp_path / "s.parquet", records)
    for expected, found in zip(records, read_scores(tmp_path / "s.parquet"), strict=True):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("kind", ["missing", "text", "other columns", "two heads"])
def test_other_files_are_not_read_as_scores(tmp_path, kind):
    import pyarrow as pa

    path = tmp_path / "s.parquet"
    if kind == "text":
        path.write_text("score,head\n1,a\n")
    elif kind == "other columns":
        pq.write_table(pa.table({"score": [1.0]}), path)
    elif kind == "two heads":
        row = {"dataset": "d", "split": "s", "id": ["1"], "label": None, "prediction": None, "score": [1.0]}
        write_scores(path, [{**row, "head": "a"}])
        (table,) = (pq.read_table(path),)
        head = pa.array(["a", "b"])
        both = pa.concat_tables([table, table])
        pq.write_table(both.set_column(both.schema.get_field_index("head"), "head", head), path)
    with pytest.raises(DataError, match="cannot read" if kind == "missing" else "featood score --scores"):
        list(read_scores(path))
