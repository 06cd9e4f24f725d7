"""Sizes of neighbourhoods against their definition, and their stability where distances are equal."""

import numpy as np
import pytest

from featood.errors import DataError
from featood.heads import create_head
from featood.heads.distances.cfood import grid
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets(rows=200)
KNOWN = np.asarray(TRAIN.labels) >= 0
Z, X = (np.asarray(data.features["avg"], dtype=float) for data in (TRAIN, TEST))
Z = Z[KNOWN]
SHARES = [i / 1000 for i in range(1, 101)]
SHARES += [0.105 + 0.395 * i / 80 for i in range(81)]
SHARES += [0.51 + 0.01 * i for i in range(49)]


def neighbourhood(x, rows, k):
    """Smallest share of the grid for which enough rows have x among so many nearest ones."""
    rows = [row / np.linalg.norm(row) for row in rows]
    x = x / np.linalg.norm(x)
    others = [sorted(np.linalg.norm(a - b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
    for share in SHARES:
        size = max(int(share * len(rows) + 1e-9), 1)
        inside = [np.linalg.norm(x - row) <= near[size - 1] for row, near in zip(rows, others, strict=True)]
        if np.mean(inside) >= k - 1e-12:
            return share
    return 1.0


@pytest.mark.parametrize("k", [0.01, 0.2])
def test_cfood(k):
    found = create_head("cfood", k=k).fit(TRAIN).score(TEST.rows(slice(0, 30)))
    expected = [neighbourhood(x, Z, k) for x in X[:30]]
    assert len(set(expected)) > 10
    # of shares with equal numbers of rows, the grid keeps the first
    np.testing.assert_array_equal(np.floor(found * 200 + 1e-9), np.floor(np.array(expected) * 200 + 1e-9))


def test_a_row_in_no_neighbourhood_scores_one():
    far = -np.ones((1, Z.shape[1]), np.float32)
    assert create_head("cfood").fit(Z.astype(np.float32)).score(far)[0] == 1


def test_the_grid_is_that_of_the_authors():
    shares, places = grid(50_000)
    np.testing.assert_allclose(shares, SHARES, rtol=1e-12)
    assert places[:2].tolist() == [49, 99] and places[-1] == 49_499
    shares, places = grid(3)
    assert places.tolist() == [0, 1] and len(shares) == 2


def test_scores_of_stored_rows_do_not_depend_on_the_batch():
    """Their distances equal radii, so that a rounding error would move them to the next share."""
    head = create_head("cfood").fit(Z.astype(np.float32))
    alone = [head.score(row[None])[0] for row in Z.astype(np.float32)]
    np.testing.assert_array_equal(head.score(Z.astype(np.float32)), alone)


def test_the_sample_is_seeded():
    heads = [create_head("cfood", rows=50, seed=seed).fit(Z) for seed in (0, 0, 1)]
    one, same, other = (head.state["rows"] for head in heads)
    assert len(one) == 50 and np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_single_row_has_no_neighbour():
    with pytest.raises(DataError, match="two training rows"):
        create_head("cfood").fit(Z[:1])
