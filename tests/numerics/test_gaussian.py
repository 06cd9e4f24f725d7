"""Products with half the work, and nearest centers, against plain loops and products in higher precision."""

import numpy as np
import pytest
import torch

from featood.numerics.gaussian import nearest_squared_distances, squared_distances
from featood.numerics.symmetric import inverse_triangular, times_triangular


def naive(rows, centers):
    """Squared distances in extended precision, one center at a time."""
    rows, centers = rows.numpy().astype(np.longdouble), centers.numpy().astype(np.longdouble)
    return np.min([((rows - center) ** 2).sum(1) for center in centers], axis=0)


def drawn(count, size=40, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, size)))


CENTERS = drawn(90, seed=1)


@pytest.mark.parametrize(
    ("rows", "centers"),
    [
        (drawn(700), CENTERS),
        (drawn(50) * 1e6, CENTERS),  # all centers are equally near in float32
        (CENTERS + 1e-9, CENTERS),
        (drawn(50), torch.cat([CENTERS, CENTERS])),  # always two nearest
        (drawn(50) + 1e5, CENTERS + 1e5),  # float32 cannot tell any center from another
        (drawn(50), CENTERS * 1e-4),
        (drawn(50), torch.zeros_like(CENTERS)),
        (drawn(50) * 1e-40, CENTERS * 1e-40),  # zeros in float32
    ],
)
def test_nearest_squared_distances(rows, centers):
    found = nearest_squared_distances(rows, centers).numpy()
    length = (rows.norm(dim=1) + centers.norm(dim=1).max()).square().numpy()
    assert (np.abs(found - naive(rows, centers)) <= 1e-14 * length).all()


def test_nearest_of_rows_that_float32_cannot_hold():
    rows = drawn(20) * 1e60
    np.testing.assert_allclose(nearest_squared_distances(rows, CENTERS), naive(rows, CENTERS), rtol=1e-12)


def test_nearest_of_centers_that_float32_cannot_hold():
    one = CENTERS[:1]
    centers = torch.cat([one, 1e25 * one, -1e25 * one.expand(80, -1)])  # at the row: NaN, all others infinite
    rows = 1.001e25 * one
    np.testing.assert_allclose(nearest_squared_distances(rows, centers), naive(rows, centers), rtol=1e-6)


def test_a_center_that_is_missing_is_never_the_nearest():
    centers = CENTERS.clone()
    centers[3] = torch.nan
    rest = torch.cat([CENTERS[:3], CENTERS[4:]])
    np.testing.assert_allclose(nearest_squared_distances(CENTERS, centers), naive(CENTERS, rest), atol=1e-12)


def test_nearest_where_products_are_not_in_float32():
    torch.set_float32_matmul_precision("medium")
    try:
        found = nearest_squared_distances(drawn(50), CENTERS)
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(found, squared_distances(drawn(50), CENTERS).amin(1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@pytest.mark.parametrize("change", ["triangular", "one entry below", "full"])
def test_times_triangular(change, dtype, tolerance):
    rows, matrix = drawn(30, 300).to(dtype), drawn(300, 300, seed=2).to(dtype)
    if change != "full":
        matrix = matrix.triu()
    if change == "one entry below":
        matrix[299, 0] = 5.0
    found = times_triangular(rows, matrix)
    expected = rows.numpy().astype(np.longdouble) @ matrix.numpy().astype(np.longdouble)
    assert found.dtype == dtype and np.abs(found.numpy() - expected).max() < tolerance
    np.testing.assert_allclose(times_triangular(rows[::2], matrix), found[::2], atol=tolerance)


@pytest.mark.parametrize("size", [1, 2, 300])
def test_inverse_triangular(size):
    lower = drawn(size, size).tril() + 10 * torch.eye(size)
    inverse = inverse_triangular(lower)
    np.testing.assert_allclose(inverse.numpy(), np.linalg.inv(lower.numpy()), rtol=1e-9, atol=1e-14)
    assert not inverse.triu(1).any()


def test_times_triangular_has_gradients():
    rows = drawn(3, 300).requires_grad_()
    matrix = drawn(300, 300).triu()
    times_triangular(rows, matrix).sum().backward()
    np.testing.assert_allclose(rows.grad, matrix.sum(1).expand(3, -1), rtol=1e-9, atol=1e-12)
