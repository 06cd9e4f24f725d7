import numpy as np
import pytest
import torch

from featood.errors import DataError
from featood.metrics.pseudo_outliers import crossed, mixed, other_rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_partners_are_all_rows_of_other_classes_with_equal_probability():
    classes = torch.tensor([3, 0, 3, 7, 0, 3])
    counts = np.zeros((6, 6))
    draws = 3000
    generator = seeded()
    for _ in range(draws):
        for row, partner in enumerate(other_rows(classes, generator).tolist()):
            counts[row, partner] += 1
    expected = np.array([[float(a != b) for b in classes] for a in classes])
    expected /= expected.sum(1, keepdims=True)
    assert (counts[expected == 0] == 0).all()
    np.testing.assert_allclose(counts / draws, expected, atol=0.05)  # over five standard deviations


def test_partners_need_two_classes():
    with pytest.raises(DataError, match="rows of two classes"):
        other_rows(torch.zeros(5, dtype=torch.long), seeded())


def test_mixed_rows_are_convex_combinations():
    rows, partners, weights = torch.randn(7, 3), torch.tensor([1, 2, 3, 4, 5, 6, 0]), torch.rand(7)
    found = mixed(rows, partners, weights)
    for i in range(7):
        w, z, other = float(weights[i]), rows[i].double().numpy(), rows[partners[i]].double().numpy()
        np.testing.assert_allclose(found[i], (1 - w) * z + w * other, atol=1e-6)


def test_crossed_rows_take_each_feature_from_one_of_two_rows():
    rows = torch.arange(4000.0).reshape(20, 200)
    partners = torch.arange(20).roll(1)
    found = crossed(rows, partners, seeded())
    own, other = found == rows, found == rows[partners]
    assert (own ^ other).all()
    # 4,000 fair draws: five standard deviations are 0.04
    assert abs(float(own.double().mean()) - 0.5) < 0.04
    assert torch.equal(found, crossed(rows, partners, seeded())) and not torch.equal(
        found, crossed(rows, partners, seeded(1))
    )
