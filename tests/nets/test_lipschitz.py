"""The exact norm of a bounded layer is that of its weights, whatever changed them."""

import copy

import pytest
import torch
from torch.func import functional_call

from featood.nets.lipschitz import LipschitzLinear


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return LipschitzLinear(6, 9, 0.9).double().eval().requires_grad_(False)


def expected(weight):
    return weight / max(1.0, float(torch.linalg.svdvals(weight).max()) / 0.9)


def grow(layer):
    layer.weight.mul_(3)


def grow_data(layer):
    layer.weight.data.mul_(3)


def load(layer):
    layer.load_state_dict({name: 3 * value for name, value in layer.state_dict().items()})


def replace(layer):
    layer.weight = torch.nn.Parameter(3 * layer.weight, requires_grad=False)


def train(layer):
    layer.requires_grad_(True).train()
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD([layer.weight], 1.0).step()
    layer.eval().requires_grad_(False)


def move_one_value(layer):
    layer.weight.view(-1)[5] += 1


def round_off(layer):
    layer.float()


def round_more(layer):
    layer.bfloat16()


CHANGES = [grow, grow_data, load, replace, train, move_one_value, round_off, round_more]


@pytest.mark.parametrize("change", CHANGES)
def test_the_norm_follows_every_change_of_the_weights(layer, change):
    torch.testing.assert_close(layer.matrix(), expected(layer.weight))
    change(layer)
    wide = layer.weight.float() if change is round_more else layer.weight
    torch.testing.assert_close(layer.matrix(), expected(wide).to(layer.weight))
    assert layer.matrix().dtype == layer.weight.dtype


def test_copies_and_weights_given_for_one_call_have_their_own_norms(layer):
    rows = torch.eye(6, dtype=torch.float64)
    layer(rows)
    other = copy.deepcopy(layer)
    grow(other)
    torch.testing.assert_close(other.matrix(), expected(other.weight))
    given = {"weight": 5 * layer.weight, "bias": 0 * layer.bias}
    torch.testing.assert_close(functional_call(layer, given, (rows,)), expected(given["weight"]).T)
    torch.testing.assert_close(layer.matrix(), expected(layer.weight))


def test_weights_that_need_a_gradient_get_that_of_the_norm(layer):
    layer.matrix()
    weight = layer.weight.requires_grad_(True)
    layer.matrix()[2, 3].backward()
    found, weight.grad = weight.grad, None
    (0.9 * weight / torch.linalg.svdvals(weight)[0])[2, 3].backward()
    torch.testing.assert_close(found, weight.grad)


def test_the_norm_is_computed_once_for_the_same_weights(layer, monkeypatch):
    calls, norm = [], torch.linalg.matrix_norm
    monkeypatch.setattr(torch.linalg, "matrix_norm", lambda *given: calls.append(1) or norm(*given))
    rows = torch.ones(4, 6, dtype=torch.float64)
    for _ in range(5):
        layer(rows)
    with torch.inference_mode():
        grow(layer)
        layer(rows)
    layer(
        rows.clone().requires_grad_()
    ).sum().backward()  # a norm found in inference mode serves gradients, too
    assert len(calls) == 2
