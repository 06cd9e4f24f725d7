import pytest
from pages import HOSTILE, Page, made_results

from featood.errors import DataError
from featood.report import write_report

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
