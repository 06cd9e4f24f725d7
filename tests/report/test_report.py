import csv
import io
import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn.metrics import auc

from featood.errors import DataError
from featood.metrics import METRICS, detection_metrics, reliability_curve
from featood.report import (
    mean_rows,
    reliability_diagram,
    results_table,
    roc_curves,
    score_histogram,
    write_csv,
    write_json,
    write_report,
    write_scores,
)
from featood.report.files import replacing
from featood.report.rows import best_cells

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=y>',
    "a$b$ \\frac{",
    "_hidden",
    "\x1b[31m\x00",
    "[red]b[/red]",
]
ID_INFO = {"dataset": "mnist", "split": "test", "n": 10_000, "accuracy": 0.9906}


def row(head, ood, auroc=0.5, **values):
    metrics = dict.fromkeys(METRICS, 0.25) | {"auroc": auroc}
    numbers = {"n_id": 100, "n_ood": 50, **metrics, "fit_s": 1.5, "score_s": 0.5}
    return {"head": head, "ood": ood, "split": "test", **numbers, **values}


def made_results(heads=("msp", "heat-gmm"), sets=("svhn", "textures"), seed=0):
    rng = np.random.default_rng(seed)
    scores, rows = {}, []
    for h, head in enumerate(heads):
        scores[head, "mnist"] = rng.normal(size=200)
        for s, name in enumerate(sets):
            scores[head, name] = rng.normal(1 + h + s / 2, 1, 100)
            metrics = detection_metrics(scores[head, "mnist"], scores[head, name])
            rows.append({"head": head, "ood": name, "split": "test", "n_id": 200, "n_ood": 100, **metrics})
            rows[-1] |= {"fit_s": 1.0, "score_s": 0.1}
    results = {
        "schema": 1,
        "backbone": "resnet50",
        "fingerprint": "0123abcd",
        "id": dict(ID_INFO),
        "rows": rows,
    }
    return results, scores


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


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_figures_are_labelled_small_and_reproducible():
    rng = np.random.default_rng(0)
    id_scores, ood = rng.normal(size=50_000), {"svhn": rng.normal(2, 1, 50_000), "mnist": rng.normal(3, 1, 9)}
    for draw, labels in (
        (
            lambda **k: score_histogram(id_scores, ood, "cifar10", **k),
            ["cifar10", "score (higher = more OOD)"],
        ),
        (lambda **k: roc_curves(id_scores, ood, **k), ["ID flagged", "OOD flagged"]),
    ):
        svg = draw()
        assert svg == draw()
        assert {*labels, "svhn", "mnist"} <= set(texts(svg))
        assert len(svg) < 60_000
        assert draw(format="png").startswith(b"\x89PNG")


def test_the_drawn_roc_curve_has_the_same_ends_and_area():
    rng = np.random.default_rng(0)
    svg = roc_curves(rng.normal(size=20_000), {"x": rng.normal(1.5, 1, 20_000)}).decode()
    path = max((d.split('"')[0] for d in svg.split('d="M ')[1:]), key=len)
    points = np.array([p.split()[-2:] for p in path.strip().split("\n")], float)
    unit = (points - points[0]) / (points[-1] - points[0])
    assert auc(unit[:, 0], unit[:, 1]) == pytest.approx(0.8556, abs=0.01)


@pytest.mark.parametrize(
    "id_scores",
    [np.zeros(3), [np.inf, -np.inf], [1.0], np.r_[np.zeros(99), 1e12], np.arange(5)],
    ids=["constant", "infinite", "one", "far", "integers"],
)
def test_unusual_scores_can_be_drawn(id_scores):
    for other in ([0.0], [np.inf, 1.0], [1e9, -1e9]):
        ET.fromstring(score_histogram(id_scores, {"x": other}))
        ET.fromstring(roc_curves(id_scores, {"x": other}))


def test_names_in_figures_are_neither_markup_nor_formulas():
    svg = roc_curves([0.0, 1.0], {name: [0.5, 2.0] for name in HOSTILE})
    found = {text.strip() for text in texts(svg)}
    assert {"<script>alert(1)</script>", "a$b$ \\frac{", "_hidden", "?[31m?"} <= found


def test_the_reliability_diagram_leaves_out_empty_bins():
    curve = reliability_curve([[2.0, 0.0], [0.0, 0.1]], [0, 0])
    svg = reliability_diagram(*curve)
    assert {"confidence", "accuracy"} <= set(texts(svg))
    assert b"nan" not in svg.lower()


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    void = frozenset({"meta", "br", "img", "link"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links, self.rows, self.text = [], [], [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href", "srcset", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def report(tmp_path, results, scores, **options):
    write_report(tmp_path / "report.html", results, scores, **options)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_contains_all_rows_and_figures(tmp_path):
    results, scores = made_results()
    results["id"] |= {"ece": 0.0123, "nll": 0.5, "brier": 0.25}
    results |= {"warnings": ["The weights are random."], "versions": {"torch": "2.13.0"}}
    curve = reliability_curve([[2.0, 0.0], [0.0, 1.0]], [0, 0])
    html = report(tmp_path, results, scores, reliability=curve, date="2030-01-02")
    page = Page(html)
    for expected in results["rows"]:
        cells = next(cells for cells in page.rows if cells[:2] == [expected["head"], expected["ood"]])
        assert cells[2:9] == [f"{100 * expected[name]:.2f}" for name in METRICS]
        assert cells[9:] == ["200", "100", "1.00", "0.10"]
    assert (
        sum(cells[:2] == ["msp", "mean of 2"] for cells in page.rows) == 2
    )  # the overview and its own table
    assert page.tags.count("svg") == 2 * 2 + 1
    for fact in (
        "resnet50",
        "0123abcd",
        "99.06\u00a0%",
        "1.23\u00a0%",
        "0.5000",
        "0.2500",
        "The weights are random.",
    ):
        assert fact in page.text
    assert "2030-01-02" in page.text and "torch 2.13.0" in page.text
    best = max(results["rows"][::2], key=lambda row: row["auroc"])
    assert f"<strong>{100 * best['auroc']:.2f}</strong>" in html


def test_the_report_fetches_nothing(tmp_path):
    html = report(tmp_path, *made_results())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    namespaces = ('"http://www.w3.org/2000/svg"', '"http://www.w3.org/1999/xlink"')
    for namespace in namespaces:
        html = html.replace(namespace, "")
    assert "http:" not in html and "https:" not in html and "url(#" in html and "@import" not in html


def test_hostile_names_are_escaped_in_the_report(tmp_path):
    results, scores = made_results(heads=HOSTILE, sets=HOSTILE)
    results |= {
        "backbone": HOSTILE[0],
        "fingerprint": HOSTILE[1],
        "warnings": HOSTILE,
        "versions": dict.fromkeys(HOSTILE, HOSTILE[0]),
    }
    results["id"]["split"] = HOSTILE[0]
    html = report(tmp_path, results, scores, date=HOSTILE[0])
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert HOSTILE[0] in page.text
    assert "\x1b" not in html and "\x00" not in html


def test_a_report_of_minimal_results(tmp_path):
    results, _ = made_results(heads=("msp",), sets=("svhn",))
    results["id"] = {"dataset": "mnist", "accuracy": None}
    page = Page(report(tmp_path, results, {}))
    assert "svg" not in page.tags and "mean of 1" not in page.text and "Accuracy" not in page.text
    with pytest.raises(DataError, match="fingerprint"):
        write_report(tmp_path / "r.html", {"backbone": "b", "id": {}, "rows": []}, {})
    with pytest.raises(DataError, match="NaN"):
        report(tmp_path, results, {("msp", "mnist"): [np.nan], ("msp", "svhn"): [1.0]})
