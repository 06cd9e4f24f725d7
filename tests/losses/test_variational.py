"""The likelihood of 8-bit images, against SciPy; heads test the bounds of a posterior."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic

from featood.losses.variational import discretized_logistic


def naive(value, mean, scale):
    """The probability of an integer from 0 to 255."""
    above = math.inf if value == 255 else (2 * (value + 0.5) / 255 - 1 - mean) / scale
    below = -math.inf if value == 0 else (2 * (value - 0.5) / 255 - 1 - mean) / scale
    cdf = logistic.cdf  # symmetric, so that neither tail is a difference of numbers near 1
    return cdf(-below) - cdf(-above) if below > 0 else cdf(above) - cdf(below)


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.004])
@pytest.mark.parametrize("mean", [-1.3, -0.2, 0.999])
def test_probabilities_are_those_of_the_intervals(mean, scale):
    values = torch.arange(256, dtype=torch.float64)[:, None]
    args = (torch.full_like(values, number) for number in (mean, math.log(scale)))
    found = discretized_logistic(2 * values / 255 - 1, *args).numpy()
    assert np.exp(found).sum() == pytest.approx(1)
    near = [value for value in range(256) if naive(value, mean, scale) > 1e-99]
    expected = [math.log(naive(value, mean, scale)) for value in near]
    np.testing.assert_allclose(found[near], expected, rtol=1e-5, atol=1e-9)


def test_images_are_sums_over_their_values_and_tails_are_finite():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3, 2, 4, 4), generator=generator)
    mean, log_scale = torch.randn(2, 3, 2, 4, 4, generator=generator)
    found = discretized_logistic(2 * pixels / 255 - 1, mean, log_scale)
    for row in range(3):
        expected = sum(
            math.log(
                naive(
                    int(pixels[row][place]), float(mean[row][place]), math.exp(float(log_scale[row][place]))
                )
            )
            for place in np.ndindex(2, 4, 4)
        )
        assert float(found[row]) == pytest.approx(expected, rel=1e-4)
    far = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[900.0]] * 3), torch.tensor([[-99.0]] * 3)
    far[1].requires_grad_(), far[2].requires_grad_()
    total = discretized_logistic(*far)
    total.sum().backward()
    assert torch.isfinite(total).all() and (far[1].grad[:2] < 0).all()
