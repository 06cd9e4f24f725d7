import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pages import HOSTILE, texts
from sklearn.metrics import auc

from featood.metrics import reliability_curve
from featood.report import png, reliability_diagram, roc_curves, score_histogram, svg

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
