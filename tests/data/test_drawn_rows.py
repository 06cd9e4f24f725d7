"""Rows drawn at random, for studies with less data."""

import numpy as np
import pytest

from featood.data.selection import drawn_rows

LABELS = np.random.default_rng(0).choice([-1, 0, 1, 2, 7], 400, p=[0.1, 0.4, 0.3, 0.19, 0.01])


@pytest.mark.parametrize("per_class", [1, 5, 60])
def test_rows_of_each_class(per_class):
    rows = drawn_rows(400, LABELS, per_class=per_class, seed=3)
    assert (np.diff(rows) > 0).all()
    for number in np.unique(LABELS):
        wanted = min(per_class, (number == LABELS).sum()) if number >= 0 else 0
        assert (LABELS[rows] == number).sum() == wanted
    order = np.random.default_rng(3).permutation(400)
    first = [row for number in (0, 1, 2, 7) for row in [r for r in order if LABELS[r] == number][:per_class]]
    assert rows.tolist() == sorted(first)


@pytest.mark.parametrize(("share", "count"), [(1.0, 400), (0.25, 100), (0.001, 1)])
def test_a_share_of_all_rows(share, count):
    rows = drawn_rows(400, share=share, seed=1)
    assert len(rows) == len(set(rows.tolist())) == count and (np.diff(rows) > 0).all()


def test_more_rows_of_a_seed_contain_fewer():
    few, many = (set(drawn_rows(400, LABELS, per_class=count, seed=5).tolist()) for count in (3, 9))
    assert few < many and few != set(drawn_rows(400, LABELS, per_class=3, seed=6).tolist())
    assert set(drawn_rows(400, share=0.1).tolist()) < set(drawn_rows(400, share=0.2).tolist())


def test_every_row_is_as_likely():
    counts = np.zeros(20)
    for seed in range(2000):
        counts[drawn_rows(20, share=0.25, seed=seed)] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 0.04
