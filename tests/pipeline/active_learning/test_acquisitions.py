"""Acquisitions against naive loops in float64, and what ranks the pool."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, multivariate_normal

from featood.cache import FeatureSet
from featood.errors import DataError, UsageError
from featood.options import create
from featood.pipeline.active_learning import acquisition_class, list_acquisitions
from featood.pipeline.active_learning.acquisition import acquisition_label, highest

CLASSES, WIDTH = 3, 4


def acquisition(name, **options):
    return create(acquisition_class(name), name, options)


def sets(networks=1, rows=30, seed=0):
    rng = np.random.default_rng(seed)
    return [
        FeatureSet(
            {"features": rng.normal(size=(rows, WIDTH))},
            logits=3 * rng.normal(size=(rows, CLASSES)),
            labels=np.arange(rows) % CLASSES,
        )
        for _ in range(networks)
    ]


def rank(name, labelled, pool, seed=0, **options):
    return acquisition(name, **options).rank(labelled, pool, torch.Generator().manual_seed(seed))


def softmax(logits):
    exponents = [math.exp(value) for value in logits]
    return [value / sum(exponents) for value in exponents]


def test_softmax_is_the_entropy_of_one_network():
    (pool,) = sets()
    expected = [entropy(softmax(row)) for row in pool.logits]
    np.testing.assert_allclose(rank("softmax", sets(seed=1), [pool]).scores, expected, rtol=1e-12)


@pytest.mark.parametrize("information", [False, True])
def test_an_ensemble_is_ranked_by_entropy_or_mutual_information(information):
    pool = sets(networks=3)
    expected = []
    for row in range(len(pool[0])):
        members = np.array([softmax(one.logits[row]) for one in pool])
        total = entropy(members.mean(0))
        expected.append(total - np.mean([entropy(one) for one in members]) if information else total)
    found = rank("ensemble", sets(networks=3, seed=1), pool, members=3, mutual_information=information)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("rows", [30, 31])
def test_gmm_is_the_density_of_one_gaussian_for_each_class(rows):
    (labelled,), (pool,) = sets(rows=rows), sets(seed=1)
    parts = [labelled.features["features"][labelled.labels == label] for label in range(CLASSES)]
    expected = [
        -math.log(
            sum(
                len(part) / rows * multivariate_normal(part.mean(0), np.cov(part.T)).pdf(row)
                for part in parts
            )
        )
        for row in pool.features["features"]
    ]
    found = rank("gmm", [labelled], [pool])
    np.testing.assert_allclose(found.scores, expected, rtol=1e-9)
    assert found.notes == {"ridge": 0.0}


def test_gmm_reports_the_ridge_that_two_labels_of_a_class_need(recwarn):
    (labelled,), (pool,) = sets(rows=2 * CLASSES), sets(seed=1)
    found = rank("gmm", [labelled], [pool])
    ridge = found.notes["ridge"]
    assert ridge > 0 and not recwarn
    parts = [labelled.features["features"][labelled.labels == label] for label in range(CLASSES)]
    unit = np.mean([part.var(0, ddof=1) for part in parts]) * (len(parts[0]) - 1) / len(parts[0])
    logs = []
    for part in parts:
        covariance = np.cov(part.T) + ridge * unit * np.eye(WIDTH)
        away = pool.features["features"] - part.mean(0)
        squared = (away * np.linalg.solve(covariance, away.T).T).sum(1)
        logs.append(-0.5 * (squared + np.linalg.slogdet(2 * math.pi * covariance)[1]))
    expected = -np.logaddexp.reduce(np.array(logs) - math.log(CLASSES), axis=0)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
    assert rank("gmm", [labelled], [pool], ridge=0.1).notes == {"ridge": 0.1}


def test_random_draws_depend_on_the_generator_alone():
    pool = sets(rows=1000)
    one, again, other = (rank("random", sets(), pool, seed).scores for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len(one.unique()) == 1000 and 0.45 < float(one.mean()) < 0.55


def test_the_highest_scores_are_taken_and_of_equal_ones_the_first():
    assert highest(torch.tensor([1.0, 3.0, 2.0, 3.0]), 3).tolist() == [1, 3, 2]
    assert highest(torch.zeros(5), 3).tolist() == [0, 1, 2]
    assert highest(torch.tensor([-math.inf, 1.0]), 5).tolist() == [1, 0]
    with pytest.raises(DataError, match="not numbers"):
        highest(torch.tensor([1.0, math.nan]), 1)


def test_names_and_options():
    assert list(list_acquisitions()) == ["ensemble", "gmm", "random", "softmax"]
    assert acquisition_label(acquisition("ensemble", members=5)) == "ensemble"
    label = acquisition_label(acquisition("ensemble", mutual_information=True, members=3))
    assert label == "ensemble@members=3,mutual_information"
    for name, options, text in (
        ("gmmm", {}, "no acquisition 'gmmm'; did you mean gmm"),
        ("ensemble", {"members": 1}, "members must be at least 2, not 1"),
        ("ensemble", {"member": 3}, "no option 'member'"),
        ("gmm", {"covariance": "round"}, "covariance must be one of full, tied, diag"),
        ("gmm", {"ridge": "1"}, "ridge cannot be '1'"),
    ):
        with pytest.raises(UsageError, match=text):
            acquisition(name, **options)


def test_no_option_has_the_name_of_another_option_of_the_command():
    import dataclasses

    from featood.extractors.trainer import TrainOptions
    from featood.pipeline.active_learning import ActivePlan

    others = {field.name for cls in (TrainOptions, ActivePlan) for field in dataclasses.fields(cls)}
    assert len(others) == len(dataclasses.fields(TrainOptions)) + len(dataclasses.fields(ActivePlan))
    for cls in list_acquisitions().values():
        assert not others & {field.name for field in dataclasses.fields(cls)}
