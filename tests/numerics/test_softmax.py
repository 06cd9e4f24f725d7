"""Odds and sums of exponentials against scipy in float64, and selection against sorting."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp as scipy_logsumexp

from featood.numerics.selection import largest
from featood.numerics.softmax import exponentials, largest_probability, log_odds, logsumexp

ROWS = np.concatenate(
    [
        np.random.default_rng(0).normal(size=(40, 30)) * np.geomspace(0.1, 100, 40)[:, None],
        np.zeros((1, 30)),
        np.eye(30)[:1] * 80,
        np.eye(30)[:1] * 700,
        np.eye(30)[:2].sum(0)[None] * 700,
        np.eye(30)[:1] - 1e4,
    ]
)


def odds(row):
    top = row.argmax()
    return scipy_logsumexp(np.delete(row, top)) - row[top]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 3e-7)])
def test_log_odds(temperature, dtype, error):
    rows = torch.from_numpy(ROWS).to(dtype)
    expected = [odds(row) for row in rows.numpy().astype(float) / temperature]
    for two in (None, rows.topk(2, dim=1).values):
        np.testing.assert_allclose(log_odds(rows, temperature, two), expected, rtol=error, atol=error)


def test_log_odds_of_a_single_class_and_of_extreme_logits():
    assert log_odds(torch.zeros(3, 1)).tolist() == [-math.inf] * 3
    extreme = torch.tensor([[3e38, -3e38, 0.0], [0.0, -3e38, -3e38]])
    assert torch.equal(
        log_odds(extreme), torch.tensor([-3e38, -3e38]).double() + torch.tensor([0, math.log(2)])
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 3e-7)])
def test_sums_of_exponentials(temperature, dtype, error):
    rows = torch.from_numpy(ROWS).to(dtype)
    exact = rows.numpy().astype(float) / temperature
    total = scipy_logsumexp(exact, axis=1)
    np.testing.assert_allclose(logsumexp(rows, temperature), temperature * total, rtol=error, atol=error)
    np.testing.assert_allclose(
        largest_probability(rows, temperature), np.exp(exact.max(1) - total), rtol=10 * error
    )
    # terms that are raised, for speed, do not count
    exact = rows.numpy().astype(float)
    np.testing.assert_allclose(
        exponentials(rows).total, np.exp(scipy_logsumexp(exact, axis=1) - exact.max(1)), rtol=10 * error
    )


@pytest.mark.parametrize("count", [1, 4, 29, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_largest(count, dtype):
    rows = torch.from_numpy(ROWS).to(dtype)
    found = largest(rows, count)
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.sort(found, 1), np.sort(rows.numpy(), 1)[:, 30 - count :])
    np.testing.assert_array_equal(
        largest(rows[:, ::2], min(count, 15)).amin(1), np.sort(rows[:, ::2], 1)[:, -min(count, 15)]
    )
