"""The page as text: its tables, its data, and that names are never markup."""

import base64
import hashlib
import re

import pytest
from pages import HOSTILE, Page, data_of, made_results, made_sets

from featood.errors import DataError
from featood.metrics import METRICS, reliability_curve
from featood.report import write_report


def report(tmp_path, results, scores, **options):
    write_report(tmp_path / "report.html", results, scores, **options)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_contains_all_rows_and_facts(tmp_path):
    results, scores = made_results()
    curve = reliability_curve([[2.0, 0.0], [0.0, 1.0]], [0, 0])
    filled = {name: values[curve.rows > 0].tolist() for name, values in curve._asdict().items()}
    results["id"] |= {"ece": 0.0123, "nll": 0.5, "brier": 0.25, "reliability": filled}
    results |= {"warnings": ["The weights are random."], "versions": {"torch": "2.13.0"}}
    html = report(tmp_path, results, scores, date="2030-01-02")
    page = Page(html)
    for expected in results["rows"]:
        cells = next(cells for cells in page.rows if cells[:2] == [expected["head"], expected["ood"]])
        assert cells[2:9] == [f"{100 * expected[name]:.2f}" for name in METRICS]
        assert cells[9:] == ["200", "100", "1.00", "0.10"]
    assert sum(cells[:2] == ["msp", "mean of 2"] for cells in page.rows) == 1
    for fact in (
        "resnet50",
        "0123abcd",
        "99.06\u00a0%",
        "1.23\u00a0%",
        "0.5000",
        "0.2500",
        "The weights are random.",
        "2030-01-02",
        "torch 2.13.0",
    ):
        assert fact in page.text
    best = max(results["rows"][::2], key=lambda row: row["auroc"])
    assert f"<strong>{100 * best['auroc']:.2f}</strong>" in html
    assert data_of(html)["reliability"] == filled


def test_the_matrix_is_readable_without_scripts(tmp_path):
    results, scores = made_results()
    page = Page(report(tmp_path, results, scores))
    auroc = {(row["head"], row["ood"]): row["auroc"] for row in results["rows"]}
    lines = {
        cells[0]: cells[1:] for cells in page.rows if len(cells) == 4 and cells[0] in ("msp", "heat-gmm")
    }
    for head, cells in lines.items():
        expected = [auroc[head, "svhn"], auroc[head, "textures"]]
        assert cells == [f"{100 * value:.1f}" for value in (sum(expected) / 2, *expected)]
    assert list(lines) == ["heat-gmm", "msp"], "the best head comes first"


def test_near_and_far_sets_have_means_of_their_own(tmp_path):
    results, scores = made_results(sets=("a", "b", "c", "d"))
    results["groups"] = {"near": ["c", "d"], "far": ["a"]}
    html = report(tmp_path, results, scores)
    columns = data_of(html)["matrix"]["columns"]
    assert [(one["title"], one["group"]) for one in columns] == [
        ("mean", "mean"), ("near", "near"), ("c", "near"), ("d", "near"), ("a", "far"), ("b", ""),
    ]  # fmt: skip
    (line,) = [cells for cells in Page(html).rows if len(cells) == 7 and cells[0] == "msp"]
    near = [row["auroc"] for row in results["rows"] if row["head"] == "msp" and row["ood"] in "cd"]
    assert line[2] == f"{100 * sum(near) / 2:.1f}"


def test_the_report_fetches_nothing(tmp_path):
    results, scores = made_results()
    sets, predictions = made_sets(results, scores)
    html = report(tmp_path, results, scores, sets=sets, predictions=predictions)
    page = Page(html)
    assert not {"link", "iframe", "object", "base", "form"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    namespaces = ('"http://www.w3.org/2000/svg"', '"http://www.w3.org/1999/xlink"')
    for namespace in namespaces:
        html = html.replace(namespace, "")
    assert "http:" not in html and "https:" not in html and "@import" not in html and "url(" not in html


def test_the_security_policy_allows_only_the_scripts_of_the_page(tmp_path):
    html = report(tmp_path, *made_results())
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and f"script-src 'sha256-{digest}'" in html
    assert "default-src 'none'" in html
    # text becomes nodes in one way only
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|DOMParser", scripts[0])


def test_hostile_names_are_escaped_in_the_report(tmp_path):
    results, scores = made_results(heads=HOSTILE, sets=HOSTILE)
    results |= {
        "backbone": HOSTILE[0],
        "fingerprint": HOSTILE[1],
        "warnings": HOSTILE,
        "versions": dict.fromkeys(HOSTILE, HOSTILE[0]),
        "groups": {"near": HOSTILE[:2], "far": HOSTILE[2:]},
        "run": "</code></pre></script>" + HOSTILE[0],
        "skipped": [{"head": name, "reason": name} for name in HOSTILE],
    }
    results["id"] |= {"split": HOSTILE[0], "classes": [{"class": name, "n": 1} for name in HOSTILE]}
    sets, predictions = made_sets(results, scores)
    html = report(tmp_path, results, scores, sets=sets, predictions=predictions, date=HOSTILE[0])
    page = Page(html)
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert HOSTILE[0] in page.text
    assert "\x1b" not in html and "\x00" not in html
    data = data_of(html)
    assert {head["name"] for head in data["heads"]} == {*HOSTILE[:4], "?[31m?", "[red]b[/red]"}
    assert data["rows"][0][0].startswith(tuple(HOSTILE[:4]))


def test_the_data_have_curves_rows_classes_and_a_map(tmp_path):
    results, scores = made_results()
    sets, predictions = made_sets(results, scores)
    asked = {}

    def thumbnails(features, rows):
        asked[features.name] = list(rows)
        return {rows[0]: b"picture"}

    html = report(tmp_path, results, scores, sets=sets, predictions=predictions, thumbnails=thumbnails)
    data = data_of(html)
    assert [one["name"] for one in data["sets"]] == ["mnist", "svhn", "textures"]
    head = data["heads"][0]
    assert head["name"] == "heat-gmm" and {"labelled", "correct", "below", "bins"} <= head.keys()
    places, numbers, _ = head["hardest"][0]
    expected = scores["heat-gmm", "mnist"].argsort()[::-1][:8]
    assert [data["rows"][place][0] for place in places] == [str(sets["mnist"].ids[row]) for row in expected]
    assert numbers == sorted(numbers, reverse=True)
    assert set(asked) == {"net/mnist", "net/svhn", "net/textures"} and set(asked["net/mnist"]) >= set(
        expected
    )
    pictures = [picture for _, picture in data["rows"] if picture]
    assert pictures == [base64.b64encode(b"picture").decode()] * 3
    assert data["map"]["sets"] == [[0, 200], [1, 100], [2, 100]] and len(data["map"]["planes"]) == 1
    assert len(base64.b64decode(head["mapped"])) == 400
    numbers, rows, shares = head["classes"][1]
    assert sum(rows) == 100 and shares == sorted(shares, reverse=True) and sorted(numbers) == [0, 1, 2]


def test_a_report_of_minimal_results(tmp_path):
    results, _ = made_results(heads=("msp",), sets=("svhn",))
    results["id"] = {"dataset": "mnist", "accuracy": None}
    page = Page(report(tmp_path, results, {}))
    assert "svg" not in page.tags and "mean of 1" not in page.text and "Accuracy" not in page.text
    assert "One head" not in page.text
    with pytest.raises(DataError, match="fingerprint"):
        write_report(tmp_path / "r.html", {"backbone": "b", "id": {}, "rows": []}, {})
    with pytest.raises(DataError, match="no rows"):
        write_report(tmp_path / "r.html", {**results, "rows": []}, {})
    with pytest.raises(DataError, match="NaN"):
        report(tmp_path, results, {("msp", "mnist"): [float("nan")], ("msp", "svhn"): [1.0]})


@pytest.mark.parametrize("run", ["featood score --ood svhn", {"command": ["score"], "seed": 3}])
def test_the_run_is_shown_to_copy(tmp_path, run):
    results, scores = made_results()
    assert "The run" not in Page(report(tmp_path, results, scores)).text
    text = Page(report(tmp_path, {**results, "run": run}, scores)).text
    assert "The run" in text and ("featood score --ood svhn" in text or '"seed": 3' in text)


def test_sixty_heads_on_four_sets_are_small(tmp_path):
    """Scores of 2,000 rows and 400 pictures of 1,000 bytes each, the most that a page has."""
    results, scores = made_results(heads=[f"head-{n}" for n in range(60)], sets=("a", "b", "c", "d"))
    results["id"]["n"] = 200
    sets, predictions = made_sets(results, scores)
    html = report(
        tmp_path, results, scores, sets=sets, predictions=predictions,
        thumbnails=lambda _, rows: {row: bytes(1000) for row in rows},
    )  # fmt: skip
    assert sum(bool(picture) for _, picture in data_of(html)["rows"]) == 400
    assert len(html) < 5_000_000
