import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pages import HOSTILE, Page, made_results, texts

from featood.cache import FeatureSet
from featood.errors import DataError
from featood.heads import create_head
from featood.pipeline.score_maps import SIDE, open_score_maps
from featood.pipeline.scoring import score
from featood.report import feature_map, png, score_map, svg, write_report


def plane_sets(seed=0):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(0, 1, (300, 2)), rng.normal(0, 1, (80, 2))
    odd = rng.normal(6, 1, (40, 2))
    return (FeatureSet({"features": x.astype("f4")}, labels=np.zeros(len(x), int), name=name)
            for name, x in (("a/toy/train", train), ("a/toy", test), ("a/odd", odd)))  # fmt: skip


def test_the_grid_contains_the_scores_of_its_points():
    train, test, odd = plane_sets()
    head = create_head("mahalanobis").fit(train)
    scoring = score({"mahalanobis": head}, test, {"odd": odd})
    plane = scoring.maps
    left, right, bottom, top = plane.extent
    x, y = np.linspace(left, right, SIDE), np.linspace(bottom, top, SIDE)
    rows = train.feature()[:].astype(float)
    precision = np.linalg.inv(np.cov(rows.T, bias=True))
    for row, column in ((0, 0), (10, 70), (SIDE - 1, 3)):
        away = np.array([x[column], y[row]]) - rows.mean(0)
        assert plane.grids["mahalanobis"][row, column] == pytest.approx(away @ precision @ away, rel=1e-3)
    assert list(plane.points) == ["toy", "odd"] and plane.axes == ("first feature", "second feature")
    for features in (test, odd):
        inside = (features.feature() > [left, bottom]) & (features.feature() < [right, top])
        assert inside.all()


def test_the_extent_is_limited_for_distant_rows():
    _, test, _ = plane_sets()
    far = FeatureSet({"features": np.array([[1e9, 0.0], [-4.0, 0.0]])}, name="a/far")
    left, right, _, _ = open_score_maps({"toy": test, "far": far}).extent
    assert left < -4 and right < 40


def test_heads_that_need_other_columns_get_no_map():
    _, test, odd = plane_sets()
    logits = {
        name: np.random.default_rng(0).normal(size=(len(s), 3)) for name, s in (("toy", test), ("odd", odd))
    }
    both = [
        FeatureSet(s.features, logits=logits[name], name=f"a/{name}")
        for name, s in (("toy", test), ("odd", odd))
    ]
    scoring = score({"energy": create_head("energy"), "norm": create_head("norm")}, both[0], {"odd": both[1]})
    assert list(scoring.maps.grids) == ["norm"]
    wide = FeatureSet({"features": np.zeros((5, 3))}, name="a/wide")
    assert open_score_maps({"wide": wide}) is None
    assert open_score_maps({"bare": FeatureSet(logits=np.zeros((5, 2)), name="a/bare")}) is None


def made_map(grid, points, id_scores=(0.0, 1.0, 2.0), **options):
    return score_map(np.asarray(grid, float), (-1, 1, -2, 2), points, list(id_scores), ("x", "y"), **options)


def test_the_map_is_labelled_reproducible_and_oriented_correctly():
    from io import BytesIO

    from PIL import Image

    grid = np.add.outer(np.linspace(0, 2, 20), np.zeros(20))  # higher towards the top
    points = {
        "toy (ID)": np.zeros((5, 2)),
        "odd": np.ones((3, 2)),
        **dict.fromkeys(HOSTILE, np.zeros((1, 2))),
    }
    drawn = svg(made_map(grid, points))
    assert drawn == svg(made_map(grid, points))
    found = {text.strip() for text in texts(drawn) if text}
    assert {
        "x",
        "y",
        "toy (ID)",
        "odd",
        "score (higher = more OOD)",
        "<script>alert(1)</script>",
        "_hidden",
    } <= found
    assert not re.findall(rb'<(?:g|image) id="', drawn)
    picture = Image.open(BytesIO(png(made_map(grid, {})))).convert("L")
    column = np.asarray(picture)[:, picture.width // 3].astype(int)
    inside = column[picture.height // 8 : picture.height // 2]
    assert inside[0] < inside[-1] - 30, "the top is darker, as it is more out-of-distribution"


@pytest.mark.parametrize(
    "grid",
    [np.zeros((3, 3)), np.full((2, 2), 1e300), [[np.inf, -np.inf], [0, 1]]],
    ids=["flat", "huge", "infinite"],
)
def test_unusual_grids_can_be_drawn(grid):
    ET.fromstring(svg(made_map(grid, {"a": np.array([[0.0, 0.0]]), "b": np.empty((0, 2))})))
    ET.fromstring(svg(made_map(grid, {}, id_scores=[1.0])))


def test_nan_is_refused():
    with pytest.raises(DataError, match="NaN"):
        made_map([[0, np.nan], [0, 1]], {})


def test_the_report_contains_the_map_and_fetches_nothing(tmp_path):
    train, test, odd = plane_sets()
    heads = {name: create_head(name).fit(train) for name in ("mahalanobis", "knn")}
    scoring = score(heads, test, {"odd": odd})
    write_report(tmp_path / "r.html", scoring.results, scoring.scores, maps=scoring.maps)
    html = (tmp_path / "r.html").read_text()
    page = Page(html)
    assert page.tags.count("svg") == len(heads) and page.text.count("Scores in the plane") == len(heads)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert len(html) < 400_000


def test_the_report_lists_skipped_heads_with_the_reason(tmp_path):
    results, scores = made_results()
    results["skipped"] = [
        {"head": "vim", "reason": "vim needs <the> classifier"},
        *({"head": name, "reason": name} for name in HOSTILE),
    ]
    write_report(tmp_path / "r.html", results, scores)
    html = (tmp_path / "r.html").read_text()
    page = Page(html)
    assert "Heads left out" in page.text and "vim needs <the> classifier" in page.text
    assert page.tags.count("script") == 2 and "img" not in page.tags and page.tags.count("dl") == 2
    results["skipped"] = []
    write_report(tmp_path / "r.html", results, scores)
    assert "Heads left out" not in (tmp_path / "r.html").read_text()


def test_the_feature_map_is_coloured_by_set_or_by_rank_of_score():
    points = {"toy": np.zeros((3, 2)), "<b>odd": np.array([[1.0, 2.0], [3.0, 4.0]])}
    by_set = feature_map(points)
    assert [len(part.get_offsets()) for part in by_set.axes[0].collections] == [3, 2]
    assert {"toy", "<b>odd"} <= set(texts(svg(by_set)))
    by_score = feature_map(points, {"toy": [5.0, 1e9, 2.0], "<b>odd": [0.0, np.inf]})
    (part,) = by_score.axes[0].collections
    assert part.get_array().tolist() == [3, 4, 2, 1, 5]
    with pytest.raises(DataError, match="3 points have 1 scores"):
        feature_map(points, {"toy": [5.0], "<b>odd": [0.0, 1.0]})
