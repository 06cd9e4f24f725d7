import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import spearmanr

from featood import FeatureSet
from featood.errors import DataError
from featood.heads import create_head, list_heads
from featood.heads.base.head import WORST
from featood.heads.registry import head_class
from featood.numerics.softmax import log_probabilities
from featood.testing import synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = TRAIN.labels >= 0
L, Y = TRAIN.logits[KNOWN].astype(float), TRAIN.labels[KNOWN]
X = TEST.logits.astype(float)
OUT = TEST.labels < 0
LOGITS_ALONE = [name for name in list_heads() if set(head_class(name).card.needs) <= {"logits", "labels"}]


def scores(name, test=TEST, **options):
    return create_head(name, **options).fit(TRAIN).score(test)


def of_logits(*rows):
    return FeatureSet(logits=np.array(rows, dtype=float))


# ---- heads without a fit ------------------------------------------------------------------------------


def entropy(row):
    return -sum(p * math.log(p) for p in softmax(row))


def generalised_entropy(gamma, top):
    return lambda row: sum((p * (1 - p)) ** gamma for p in sorted(softmax(row))[::-1][:top])


def doctor_alpha(row):
    agree = sum(p * p for p in softmax(row))
    return (1 - agree) / agree


def doctor_beta(row):
    return (1 - max(softmax(row))) / max(softmax(row))


def margin(row):
    first, second = sorted(softmax(row))[::-1][:2]
    return second - first


@pytest.mark.parametrize(
    ("name", "options", "oracle"),
    [
        ("msp", {}, lambda row: -max(softmax(row))),
        ("msp", {"temperature": 3.0}, lambda row: -max(softmax(row / 3))),
        ("max-logit", {}, lambda row: -max(row)),
        ("energy", {}, lambda row: -math.log(sum(math.exp(v) for v in row))),
        ("energy", {"temperature": 2.0}, lambda row: -2 * math.log(sum(math.exp(v / 2) for v in row))),
        ("entropy", {}, entropy),
        ("gen", {}, generalised_entropy(0.1, None)),
        ("gen", {"gamma": 0.5, "top": 2}, generalised_entropy(0.5, 2)),
        ("gen", {"top": 50}, generalised_entropy(0.1, None)),
        ("doctor", {}, doctor_alpha),
        ("doctor", {"odds": "beta"}, doctor_beta),
        ("doctor", {"temperature": 2.0}, lambda row: doctor_alpha(row / 2)),
        ("margin", {}, margin),
        ("margin", {"of": "logits"}, lambda row: sorted(row)[-2] - max(row)),
    ],
)
def test_formula(name, options, oracle):
    expected = [oracle(row) for row in X]
    exact = create_head(name, **options).score(of_logits(*X.astype(np.float64)))
    np.testing.assert_allclose(exact, expected, rtol=1e-9, atol=1e-12)
    # exponentials of float32 logits are computed in float32
    np.testing.assert_allclose(scores(name, **options), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs"), [("entropy", "Entropy"), ("gen", "GEN"), ("energy", "EnergyBased")]
)
def test_ranks_as_pytorch_ood(name, theirs, detectors):
    expected = getattr(detectors, theirs)(None).predict_logits(torch.tensor(X))
    assert spearmanr(scores(name), expected).statistic > 0.9999


def test_confident_rows_are_still_told_apart():
    # all of these have a largest probability of exactly 1 in float64
    steps = of_logits(*[[gap, 0, 0] for gap in (300, 200, 100, 50)])
    for name, options in (("gen", {}), ("doctor", {}), ("doctor", {"odds": "beta"})):
        assert (np.diff(create_head(name, **options).score(steps)) > 0).all(), name
    np.testing.assert_allclose(
        create_head("doctor", odds="beta").score(steps), 2 * np.exp([-300.0, -200, -100, -50])
    )
    np.testing.assert_allclose(create_head("doctor").score(steps), 4 * np.exp([-300.0, -200, -100, -50]))


def test_gen_of_one_confident_row():
    # p = (1, q, q) with q = exp(-40): 1 - p of the first is 2 q
    q = math.exp(-40)
    expected = (2 * q) ** 0.1 + 2 * q**0.1
    assert create_head("gen").score(of_logits([40, 0, 0]))[0] == pytest.approx(expected, rel=1e-12)


def test_uniform_and_certain_rows():
    rows = of_logits([0, 0, 0, 0], [1e6, 0, 0, 0])
    assert create_head("entropy").score(rows) == pytest.approx([math.log(4), 0])
    assert create_head("doctor").score(rows) == pytest.approx([3, 0])
    assert create_head("margin").score(rows) == pytest.approx([0, -1])
    assert create_head("gen", gamma=1.0).score(rows) == pytest.approx([4 * 3 / 16, 0])


LARGE = [[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4 - 1e-3], [3e38, -3e38, 0], [0, 0, 0]]


@pytest.mark.parametrize("temperature", (1e-6, 1e-3, 1.0, 1e4))
def test_energy_tends_to_the_largest_logit_as_the_temperature_falls(temperature):
    """``T logsumexp(l / T)`` lies between the largest logit and T log C above it."""
    rows = of_logits(*LARGE)
    above = -create_head("energy", temperature=temperature).score(rows) - np.max(rows.logits, 1)
    slack = 1e-9 + 1e-12 * np.abs(rows.logits).max(1)
    assert (above >= -slack).all() and (above <= temperature * math.log(3) + slack).all()
    coldest = create_head("energy", temperature=1e-6).score(rows)
    np.testing.assert_allclose(coldest, create_head("max-logit").score(rows), rtol=1e-9, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in LOGITS_ALONE if name != "openmax"])
def test_large_logits_get_finite_scores(name):
    rows = of_logits(*LARGE)
    train = dataclasses.replace(rows, labels=np.array([0, 1, 2, 0, 1]))
    scores = create_head(name).fit(train).score(rows)
    assert np.isfinite(scores).all() and scores.max() < WORST


def test_a_single_class():
    one = of_logits([3.0], [-2.0])
    for name in ("entropy", "gen", "doctor"):
        assert create_head(name).score(one) == pytest.approx([0, 0])
    with pytest.raises(DataError, match="at least 2 classes"):
        create_head("margin").score(one)


def test_log_probabilities():
    rows = torch.tensor([[1.0, 1.0, 0.0], [60.0, 0.0, -60.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    log_p, log_complement = log_probabilities(rows)
    np.testing.assert_allclose(log_p, log_softmax(rows.numpy(), axis=1))
    expected = [[logsumexp(np.delete(row, c)) - logsumexp(row) for c in range(3)] for row in rows.numpy()]
    np.testing.assert_allclose(log_complement, expected, rtol=1e-12, atol=1e-15)


# ---- KL matching --------------------------------------------------------------------------------------


def test_kl_matching():
    p_train, p_test = softmax(L, axis=1), softmax(X, axis=1)
    templates = [p_train[p_train.argmax(1) == c].mean(0) for c in range(5)]
    expected = [min(sum(p * np.log(p / d)) for d in templates) for p in p_test]
    np.testing.assert_allclose(scores("kl-matching"), expected, rtol=1e-9)


def test_kl_matching_equals_pytorch_ood(detectors):
    theirs = detectors.KLMatching(None).fit_logits(torch.tensor(L), torch.tensor(Y))
    np.testing.assert_allclose(scores("kl-matching"), theirs.predict_logits(torch.tensor(X)), rtol=1e-6)


def test_kl_matching_without_a_class():
    confident = L.copy()
    confident[:, 2] = -50  # never predicted
    head = create_head("kl-matching").fit(FeatureSet(logits=confident))
    assert head.state["log_templates"].shape == (4, 5)
    assert np.isfinite(head.score(of_logits([0, 0, 1e6, 0, 0]))).all()


def test_kl_matching_with_templates_that_underflow():
    head = create_head("kl-matching").fit(of_logits([1e4, 0], [0, 1e4]))
    near, far = head.score(of_logits([1e4, 0], [0, 0]))
    assert near == pytest.approx(0) and 300 < far < 400  # half of -log(2e-308), less log 2


# ---- temperature --------------------------------------------------------------------------------------


def mean_nll(logits, labels, temperature):
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean()


def log_of_the_rest(logits):
    """Logarithm of one minus the largest softmax probability, row by row."""
    rows = [np.sort(row) for row in logits]
    return np.array([logsumexp(row[:-1]) - logsumexp(row) for row in rows])


@pytest.mark.parametrize("scale", [1.0, 0.05, 30.0])
def test_temperature_minimises_the_nll(scale):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(Y)) < 0.2, rng.integers(0, 5, len(Y)), Y)
    head = create_head("temperature-scaling").fit(FeatureSet(logits=scale * L, labels=labels))
    found = float(head.state["temperature"])
    best = minimize_scalar(
        lambda t: mean_nll(scale * L, labels, math.exp(t)), bounds=(-5, 7), method="bounded"
    )
    assert found == pytest.approx(math.exp(best.x), rel=1e-3)
    assert mean_nll(scale * L, labels, found) <= best.fun + 1e-12
    np.testing.assert_allclose(head.score(of_logits(*X)), log_of_the_rest(X / found), rtol=1e-9)
    np.testing.assert_allclose(head.score(TEST), log_of_the_rest(X / found), rtol=1e-6)


def test_temperature_fits_at_least_as_well_as_pytorch_ood(detectors):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(Y)) < 0.2, rng.integers(0, 5, len(Y)), Y)
    theirs = detectors.TemperatureScaling(None).fit_logits(torch.tensor(L), torch.tensor(labels))
    head = create_head("temperature-scaling").fit(FeatureSet(logits=L, labels=labels))
    found, their = float(head.state["temperature"]), float(theirs.t.detach())
    assert mean_nll(L, labels, found) <= mean_nll(L, labels, their) + 1e-9
    expected = theirs.predict_logits(torch.tensor(X)).detach()
    assert spearmanr(head.score(TEST), expected).statistic > 0.99


@pytest.mark.parametrize(("labels", "temperature"), [([0, 1], 0.01), ([1, 0], 1000.0)])
def test_temperature_without_a_minimum(labels, temperature):
    rows = FeatureSet(logits=np.array([[2.0, 0], [0, 2.0]]), labels=np.array(labels))
    with pytest.warns(UserWarning, match="no T from"):
        head = create_head("temperature-scaling").fit(rows)
    assert float(head.state["temperature"]) == pytest.approx(temperature)


def test_temperature_of_flat_logits():
    rows = FeatureSet(logits=np.zeros((3, 4)), labels=np.array([0, 1, 2]))
    with pytest.warns(UserWarning):
        assert create_head("temperature-scaling").fit(rows).score(rows) == pytest.approx([math.log(0.75)] * 3)


# ---- weighted energy ----------------------------------------------------------------------------------


def test_weighted_energy_minimises_its_loss():
    head = create_head("weighted-energy", steps=500).fit(TRAIN)
    out = TRAIN.labels < 0
    energy = -logsumexp(TRAIN.logits.astype(float), axis=1)

    def loss(parameters):
        log_weights, slope, offset = parameters[:5], parameters[5], parameters[6]
        z = -logsumexp(TRAIN.logits + log_weights, axis=1)
        z = (z - energy.mean()) / energy.std(ddof=1)
        odds = np.exp(slope) * (z - offset)
        return (
            np.logaddexp(0, -odds[out]).mean() / 2
            + np.logaddexp(0, odds[~out]).mean() / 2
            + 1e-3 * (parameters**2).sum()
        )

    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(head.state["log_weights"], best.x[:5], atol=1e-3)


def test_weighted_energy_formula():
    head = create_head("weighted-energy").fit(TRAIN)
    weights = head.state["log_weights"].exp().numpy()
    expected = [-math.log(sum(w * math.exp(v) for w, v in zip(weights, row, strict=True))) for row in X]
    np.testing.assert_allclose(head.score(TEST), expected, rtol=1e-9)


def test_weighted_energy_equals_pytorch_ood(detectors):
    head = create_head("weighted-energy").fit(TRAIN)
    theirs = detectors.WeightedEBO(None, head.state["log_weights"].exp()).predict_logits(torch.tensor(X))
    np.testing.assert_allclose(head.score(TEST), theirs, rtol=1e-6)


def test_weighted_energy_learns_which_class_outliers_fall_into():
    rng = np.random.default_rng(0)
    known, outliers = rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (200, 3))
    known[:, 0] += 4 * (np.arange(200) % 2 == 0)
    known[:, 1] += 4 * (np.arange(200) % 2 == 1)
    outliers[:, 2] += 4  # an outlier looks like class 2, which no known row is
    rows = FeatureSet(logits=np.concatenate([known, outliers]), labels=np.repeat([0, -1], 200))
    head = create_head("weighted-energy").fit(rows)
    assert int(head.state["log_weights"].argmin()) == 2
    found, plain = head.score(rows), create_head("energy").score(rows)
    assert (found[200:, None] > found[:200]).mean() > 0.97 > (plain[200:, None] > plain[:200]).mean()


@pytest.mark.parametrize(("keep", "text"), [(KNOWN, "no outliers"), (~KNOWN, "no known rows")])
def test_weighted_energy_needs_both(keep, text):
    with pytest.raises(DataError, match=text):
        create_head("weighted-energy").fit(TRAIN.rows(keep))


@pytest.mark.parametrize("name", ["entropy", "gen", "doctor", "margin", "kl-matching", "weighted-energy"])
def test_logits_matter_up_to_a_shift(name):
    head = create_head(name).fit(TRAIN)
    moved = head.score(FeatureSet(logits=X + 7))
    difference = -7 if name == "weighted-energy" else 0
    np.testing.assert_allclose(moved, head.score(FeatureSet(logits=X)) + difference, rtol=1e-6, atol=1e-9)


def test_temperature_scaling_tells_rows_apart_whose_softmax_rounds_to_one():
    head = create_head("temperature-scaling").fit(FeatureSet(logits=L, labels=Y))
    sure = np.diag([100.0, 200.0, 900.0, 2e3, 3e3])
    scores = head.score(FeatureSet(logits=sure))
    assert (np.diff(scores) < 0).all()
