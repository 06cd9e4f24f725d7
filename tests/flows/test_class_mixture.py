"""A flow over Gaussian classes starts as Gaussian classes with one covariance, whichever layers it has."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from featood.flows import ClassMixture, glow, realnvp
from featood.flows.class_mixture import RIDGE

CLASSES, SIZE, ROWS = 3, 4, 600


def classes_apart():
    """Return rows ``[N, D]`` of classes whose means are far apart in the first feature, and labels ``[N]``."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % CLASSES
    mixing = torch.eye(SIZE) + 0.3 * torch.randn(SIZE, SIZE, generator=generator)
    rows = torch.randn(ROWS, SIZE, generator=generator) @ mixing
    rows[:, 0] += 9.0 * labels
    return rows, labels


@pytest.mark.parametrize("build", [glow, realnvp])
def test_at_the_start_a_flow_has_the_density_of_classes_with_one_covariance(build):
    rows, labels = classes_apart()
    flow = build(SIZE, 2, [8], "relu", torch.Generator().manual_seed(0))
    model = ClassMixture(flow, SIZE, CLASSES)
    model.initialize(rows, labels)
    own = rows.double().numpy()
    means = np.stack([own[labels == number].mean(0) for number in range(CLASSES)])
    within = np.cov((own - means[labels]).T, bias=True)
    within += RIDGE * np.trace(within) / SIZE * np.eye(SIZE)
    found = model.log_densities(rows).double().detach().numpy()
    expected = np.stack([multivariate_normal(mean, within).logpdf(own) for mean in means], 1)
    # glow's normalisation takes rows to unit variance, and the whitening with the ridge to slightly less
    largest = np.abs(expected - expected.max(1, keepdims=True)).max()
    assert np.abs(found - expected).max() < (0.05 if build is glow else 1e-5) * largest
