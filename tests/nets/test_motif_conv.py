"""Convolutions over sequences, against loops in float64."""

import numpy as np
import pytest
import torch

from featood.errors import UsageError
from featood.nets import MotifConv


def naive(net, one_hot):
    """Three convolutions with rectifiers, position by position, and the maximum over positions."""
    rows = one_hot.double().numpy()
    for layer in (net.layers[0], net.layers[2], net.layers[4]):
        weight, bias = layer.weight.double().detach().numpy(), layer.bias.double().detach().numpy()
        size = weight.shape[2]
        out = np.empty((len(rows), rows.shape[1] - size + 1, len(weight)))
        for place in range(out.shape[1]):
            for k, (w, b) in enumerate(zip(weight, bias, strict=True)):
                out[:, place, k] = (rows[:, place : place + size] * w.T).sum((1, 2)) + b
        rows = np.maximum(out, 0)
    return rows.max(1)


def one_hot(tokens):
    return torch.nn.functional.one_hot(tokens, 4).float()


def test_against_loops():
    net = MotifConv(4, 8, 3, "relu", torch.Generator().manual_seed(1))
    rows = one_hot(torch.randint(4, (5, 11), generator=torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(net(rows).detach(), naive(net, rows), atol=1e-5)
    assert net.shortest == 7
    assert net(rows[:, :7]).shape == (5, 8)


def test_a_motif_is_found_wherever_it_is():
    net = MotifConv(4, 16, 3, "relu")
    motif = torch.tensor([2, 1, 3, 0, 2, 2, 1, 0, 3])
    rows = torch.zeros((6, 40), dtype=torch.long)
    for row in range(6):
        rows[row, 9 + 3 * row : 18 + 3 * row] = motif
    found = net(one_hot(rows))
    torch.testing.assert_close(found, found[:1].expand_as(found), atol=1e-6, rtol=0)
    assert (found[0] - net(one_hot(torch.zeros((1, 40), dtype=torch.long)))[0]).abs().max() > 1e-3


def test_invalid_shapes_are_refused():
    with pytest.raises(UsageError, match="unknown activation 'sine'"):
        MotifConv(4, activation="sine")
    with pytest.raises(UsageError, match="at least 4 filters"):
        MotifConv(4, filters=3)
