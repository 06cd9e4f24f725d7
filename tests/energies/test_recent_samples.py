"""The last samples, compared with a list that forgets its oldest entries."""

import numpy as np
import pytest
import torch
from draws import generator

from featood.energies import RecentSamples


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (7, 7), (5, 8)])
def test_the_newest_samples_replace_the_oldest(size, batch):
    kept, expected = RecentSamples(size, (2,), restart=0.0), []
    for turn in range(6):
        samples = 100.0 * turn + torch.arange(2.0 * batch).reshape(batch, 2)
        kept.put(samples)
        expected = (expected + samples.tolist())[-size:]
        if len(expected) == size:
            assert sorted(kept.samples.tolist()) == sorted(expected)
    assert int(kept.stored) == 6 * batch


def test_chains_continue_once_half_of_the_places_are_taken():
    kept, fresh = RecentSamples(9, (3,), restart=0.0), torch.zeros(500, 3)
    kept.put(torch.ones(4, 3))
    assert torch.equal(kept.starts(fresh, generator()), fresh)
    kept.put(torch.full((1, 3), 2.0))
    found = kept.starts(fresh, generator())[:, 0].numpy()
    assert set(found) == {1.0, 2.0} and np.mean(found == 2) == pytest.approx(1 / 5, abs=0.06)


def test_the_share_of_restarts():
    kept = RecentSamples(100, (2, 2), restart=0.3)
    kept.put(torch.ones(100, 2, 2))
    found = kept.starts(torch.zeros(20_000, 2, 2), generator())
    assert float(1 - found.mean()) == pytest.approx(0.3, abs=0.01)
    assert bool((found.flatten(1).std(1) == 0).all())
