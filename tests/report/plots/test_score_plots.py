import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pages import HOSTILE, texts
from scipy.stats import norm
from sklearn.metrics import auc, det_curve, precision_recall_curve

from featood.metrics import reliability_curve
from featood.report import (
    det_curves,
    png,
    precision_recall_curves,
    reliability_diagram,
    risk_coverage_curve,
    roc_curves,
    score_histogram,
    svg,
)

RNG = np.random.default_rng(0)
ID, OOD = RNG.normal(size=500), RNG.normal(1.5, 1, 300)


def points(figure, line=-1):
    """Coordinates of a line of the figure's first axes."""
    return figure.axes[0].lines[line].get_xydata()


def test_figures_are_labelled_small_and_reproducible():
    rng = np.random.default_rng(0)
    id_scores, ood = rng.normal(size=50_000), {"svhn": rng.normal(2, 1, 50_000), "mnist": rng.normal(3, 1, 9)}
    for draw, labels in (
        (
            lambda: score_histogram(id_scores, ood, "cifar10"),
            ["cifar10", "score (higher = more OOD)"],
        ),
        (lambda: roc_curves(id_scores, ood), ["ID flagged", "OOD flagged"]),
        (lambda: det_curves(ID, ood), ["ID flagged", "OOD accepted"]),
        (lambda: precision_recall_curves(ID, ood), ["OOD flagged (recall)", "precision"]),
    ):
        drawn = svg(draw())
        assert drawn == svg(draw())
        assert {*labels, "svhn", "mnist"} <= set(texts(drawn))
        assert png(draw()).startswith(b"\x89PNG")
    assert len(svg(roc_curves(id_scores, ood))) < 60_000


def test_the_drawn_roc_curve_has_the_same_ends_and_area():
    rng = np.random.default_rng(0)
    curve = points(roc_curves(rng.normal(size=20_000), {"x": rng.normal(1.5, 1, 20_000)}))
    assert curve[0].tolist() == [0, 0] and curve[-1].tolist() == [1, 1]
    assert auc(curve[:, 0], curve[:, 1]) == pytest.approx(0.8556, abs=0.01)


def test_det_and_precision_recall_are_those_of_scikit_learn_and_scipy():
    labels, scores = np.repeat([0, 1], [len(ID), len(OOD)]), np.concatenate([ID, OOD])
    fpr, fnr, _ = det_curve(labels, scores)
    expected = {
        (round(x, 9), round(y, 9)) for x, y in zip(fpr, fnr, strict=True) if 0.001 < min(x, y) < 0.999
    }
    drawn = norm.cdf(points(det_curves(ID, {"x": OOD})))
    assert expected <= {(round(x, 9), round(y, 9)) for x, y in drawn.tolist()}
    precision, recall, _ = precision_recall_curve(labels, scores)
    found = points(precision_recall_curves(ID, {"x": OOD}))
    # scikit-learn adds recall 0 and precision 1
    np.testing.assert_allclose(found[::-1], np.stack([recall, precision], 1)[:-1], atol=1e-12)


def test_the_risk_is_the_share_of_errors_among_the_lowest_scores():
    errors = RNG.random(500) < 0.3
    found = points(risk_coverage_curve(ID, errors))
    order = np.argsort(ID)
    for coverage, risk in found[[0, 100, 499]]:
        accepted = order[: round(coverage * 500)]
        assert risk == pytest.approx(errors[accepted].mean())


@pytest.mark.parametrize(
    "id_scores",
    [np.zeros(3), [np.inf, -np.inf], [1.0], np.r_[np.zeros(99), 1e12], np.arange(5)],
    ids=["constant", "infinite", "one", "far", "integers"],
)
def test_unusual_scores_can_be_drawn(id_scores):
    for other in ([0.0], [np.inf, 1.0], [1e9, -1e9]):
        ET.fromstring(svg(score_histogram(id_scores, {"x": other})))
        ET.fromstring(svg(roc_curves(id_scores, {"x": other})))
        det_curves(id_scores, {"x": other}), precision_recall_curves(id_scores, {"x": other})


def test_names_in_figures_are_neither_markup_nor_formulas():
    drawn = svg(roc_curves([0.0, 1.0], {name: [0.5, 2.0] for name in HOSTILE}))
    found = {text.strip() for text in texts(drawn)}
    assert {"<script>alert(1)</script>", "a$b$ \\frac{", "_hidden", "?[31m?"} <= found


def test_the_reliability_diagram_leaves_out_empty_bins():
    curve = reliability_curve([[2.0, 0.0], [0.0, 0.1]], [0, 0])
    drawn = svg(reliability_diagram(*curve))
    assert {"confidence", "accuracy"} <= set(texts(drawn))
    assert b"nan" not in drawn.lower()
