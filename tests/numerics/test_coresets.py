import itertools

import numpy as np
import pytest
import torch

from featood.numerics.coresets import greedy_k_center


def naive(rows, k):
    rows = rows.astype(np.float64)
    chosen = [int(np.argmax([np.linalg.norm(row - rows.mean(0)) for row in rows]))]
    while len(chosen) < k:
        distances = [min(np.linalg.norm(row - rows[other]) for other in chosen) for row in rows]
        chosen.append(int(np.argmax(distances)))
    return chosen


@pytest.mark.parametrize("offset", [0, 1000])
def test_choices_agree_with_a_loop(offset):
    rows = np.random.default_rng(0).normal(offset, 1, (80, 5)).astype("f4")
    assert greedy_k_center(torch.from_numpy(rows), 20).tolist() == naive(rows, 20)


def radius(rows, chosen):
    return np.linalg.norm(rows[:, None] - rows[list(chosen)], axis=2).min(1).max()


def test_the_radius_is_at_most_twice_the_smallest():
    for seed in range(10):
        rows = np.random.default_rng(seed).normal(size=(12, 2)).astype("f4")
        best = min(radius(rows, chosen) for chosen in itertools.combinations(range(12), 3))
        assert radius(rows, greedy_k_center(torch.from_numpy(rows), 3).tolist()) <= 2 * best


def test_equal_rows_are_chosen_once_each():
    rows = torch.tensor([[1.0, 2.0]] * 4 + [[3.0, 2.0]] * 4)
    assert sorted(greedy_k_center(rows, 8).tolist()) == list(range(8))
