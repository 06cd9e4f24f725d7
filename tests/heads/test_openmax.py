"""OpenMax and the Weibull distribution it fits: against a naive computation, scipy and pytorch-ood."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import spearmanr, weibull_min

from featood import FeatureSet
from featood.errors import DataError
from featood.heads import create_head
from featood.numerics.weibull import log_hazard, weibull
from featood.testing import synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = TRAIN.labels >= 0
L, Y = TRAIN.logits[KNOWN].astype(float), TRAIN.labels[KNOWN]
X = TEST.logits.astype(float)


def scores(name, test=TEST, **options):
    return create_head(name, **options).fit(TRAIN).score(test)


def openmax(tail=25, alpha=10, euclidean=1.0):
    """Naive loops, with SciPy's maximum likelihood."""

    def distance(row, mean):
        cosine = 1 - row @ mean / np.linalg.norm(row) / np.linalg.norm(mean)
        return euclidean * np.linalg.norm(row - mean) + (1 - euclidean) * cosine

    means, tails = [], []
    for c in range(5):
        right = [row for row, label in zip(L, Y, strict=True) if label == c == row.argmax()]
        means.append(np.mean(right, axis=0))
        largest = sorted(distance(row, means[c]) for row in right)[-tail:]
        shape, _, scale = weibull_min.fit(largest, floc=0)
        tails.append(weibull_min(shape, scale=scale))
    result = []
    for row in X:
        revised, unknown = row.copy(), 0.0
        ranked = np.argsort(-row)[: min(alpha, 5)]
        for rank, c in enumerate(ranked):
            share = (1 - rank / len(ranked)) * tails[c].cdf(distance(row, means[c]))
            unknown += row[c] * share
            revised[c] = row[c] * (1 - share)
        result.append(softmax([unknown, *revised])[0])
    return result


@pytest.mark.parametrize(
    "options", [{}, {"tail": 10, "alpha": 3}, {"euclidean": 0.3}, {"tail": 1000, "alpha": 1}]
)
def test_openmax(options):
    np.testing.assert_allclose(scores("openmax", **options), openmax(**options), rtol=1e-3, atol=1e-9)


def test_openmax_ranks_as_pytorch_ood(detectors):
    theirs = detectors.OpenMax(None).fit_logits(torch.tensor(L), torch.tensor(Y))
    assert spearmanr(scores("openmax"), theirs.predict_logits(torch.tensor(X))).statistic > 0.99


def test_openmax_classes_without_a_tail():
    # class 3 keeps one correct row, class 4 none: one borrows a tail, the other is infinitely far
    keep = (Y < 3) | (np.arange(len(Y)) == np.flatnonzero((Y == 3) & (L.argmax(1) == 3))[0])
    head = create_head("openmax").fit(FeatureSet(logits=L[keep], labels=Y[keep]))
    assert head.state["classes"].tolist() == [0, 1, 2, 3] and bool(head.state["shape"].isfinite().all())
    found = head.score(FeatureSet(logits=3 * np.eye(5)[[4, 0]]))
    # all of the first row's largest logit moves to "unknown", the others being zero
    assert found[0] == pytest.approx(softmax([3.0, 0, 0, 0, 0, 0])[0])
    assert 0 < found[1] < found[0]


def test_openmax_of_copies():
    # every row of class 0 is the same: no tail of its own, and no rounding error taken for one
    logits, labels = L.copy(), Y.copy()
    logits[labels == 0] = logits[np.flatnonzero((labels == 0) & (L.argmax(1) == 0))[0]]
    state = create_head("openmax").fit(FeatureSet(logits=logits, labels=labels)).state
    rest = FeatureSet(logits=L[Y > 0], labels=Y[Y > 0])
    others = create_head("openmax").fit(rest).state
    np.testing.assert_allclose(state["shape"][1:], others["shape"], rtol=1e-9)
    assert float(state["shape"][0]) not in others["shape"].tolist() and bool(state["shape"][0].isfinite())


@pytest.mark.parametrize("euclidean", [0.0, 0.5, 1.0])
def test_openmax_is_finite_without_a_class(euclidean):
    head = create_head("openmax", euclidean=euclidean).fit(FeatureSet(logits=L[Y > 0], labels=Y[Y > 0]))
    assert np.isfinite(head.score(FeatureSet(logits=np.concatenate([X, 0 * X, 1e6 * X])))).all()


def test_openmax_without_correct_rows():
    with pytest.raises(DataError, match="classified correctly"):
        create_head("openmax").fit(FeatureSet(logits=L, labels=(L.argmax(1) + 1) % 5))
    with pytest.raises(DataError, match="too few distinct rows"):
        create_head("openmax").fit(FeatureSet(logits=np.eye(5), labels=np.arange(5)))


@pytest.mark.parametrize(("shape", "scale"), [(0.5, 1.0), (3.0, 20.0), (80.0, 1.0)])
def test_weibull_agrees_with_scipy(shape, scale):
    values = weibull_min(shape, scale=scale).rvs((4, 30), random_state=0)
    present = np.ones((4, 30), dtype=bool)
    present[1, 10:] = False
    values[1, 10:] = 0
    found, log_scale = weibull(torch.tensor(values), torch.tensor(present))
    for row in range(4):
        sample = values[row][present[row]]
        # a method of its own: the likelihood profiled over the scale
        fit = minimize_scalar(
            lambda k, sample=sample: (
                -weibull_min.logpdf(
                    sample, math.exp(k), scale=(sample ** math.exp(k)).mean() ** math.exp(-k)
                ).sum()
            ),
            bounds=(math.log(shape) - 2, math.log(shape) + 2),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert float(found[row]) == pytest.approx(math.exp(fit.x), rel=1e-5)
        hazard = log_hazard(torch.tensor(sample), found[row], log_scale[row]).exp()
        # where the likelihood is largest the mean hazard is one
        assert float(hazard.mean()) == pytest.approx(1, rel=1e-9)


def test_weibull_without_a_maximum():
    values = torch.tensor([[2.0, 2.0, 0], [1.0, 0, 0], [0, 0, 0], [1.0, 2.0, 0]], dtype=torch.float64)
    shape, log_scale = weibull(values, values > 0)
    assert shape.isnan().tolist() == log_scale.isnan().tolist() == [True, True, True, False]


# ---- all of them --------------------------------------------------------------------------------------
