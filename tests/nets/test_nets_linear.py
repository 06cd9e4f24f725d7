import itertools

import pytest
import torch
import torch.nn.functional as F
from draws import generator

from featood.nets import linear as module
from featood.nets.linear import Linear, linear

pytestmark = pytest.mark.usefixtures("small_products")
native = pytest.mark.skipif(not module._ONEDNN, reason="the processor has no AVX-512")


@pytest.fixture
def small_products(monkeypatch):
    monkeypatch.setattr(module, "WORK", 1)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def cases():
    """List rows, weight and bias in float32, with elements in all orders."""
    for transposed, with_bias in itertools.product((False, True), repeat=2):
        rows, weight = draw(33, 20), draw(7, 20, seed=1)
        if transposed:
            rows, weight = rows.T.contiguous().T, weight.T.contiguous().T
        yield rows.float(), weight.float(), draw(7, seed=2).float() if with_bias else None
    yield draw(33, 40).float()[:, ::2], draw(1, 20).float().expand(7, 20), None  # strided and repeated


@pytest.mark.parametrize("case", range(5))
def test_values_and_gradients_are_those_in_float64(case):
    inputs = [one for one in list(cases())[case] if one is not None]
    leaves = [one.detach().requires_grad_(True) for one in inputs]
    exact = [one.detach().double().requires_grad_(True) for one in inputs]
    slope = draw(33, 7, seed=3)
    found, expected = linear(*leaves), F.linear(*exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    first = torch.autograd.grad(found, leaves, slope.float())
    for one, other in zip(first, torch.autograd.grad(expected, exact, slope), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_in_float64():
    def curvature(dtype, product):
        rows, weight, more = (
            draw(*shape, seed=seed).to(dtype).requires_grad_(True)
            for seed, shape in enumerate([(9, 5), (6, 5), (1, 6)])
        )
        energy = product(torch.tanh(product(rows, weight)), more).sum()
        (slope,) = torch.autograd.grad(energy, rows, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), (rows, weight, more))

    for found, expected in zip(
        curvature(torch.float32, linear), curvature(torch.float64, F.linear), strict=True
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_gradients_of_a_sum_are_repeated_numbers():
    rows, weight = draw(5, 4).float().requires_grad_(True), draw(3, 4, seed=1).float()
    (found,) = torch.autograd.grad(linear(rows, weight).sum(), rows)
    torch.testing.assert_close(found, weight.sum(0).expand(5, 4))


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3, 4)])
def test_other_shapes(shape):
    rows, weight = draw(*shape).float(), draw(3, 4, seed=1).float()
    torch.testing.assert_close(linear(rows, weight), F.linear(rows, weight))


@native
def test_the_operator_of_onednn_is_used_for_float32_alone(monkeypatch):
    used = []
    inner = module._Product.apply
    monkeypatch.setattr(module._Product, "apply", lambda *inputs: used.append(inputs) or inner(*inputs))
    weight = draw(3, 4)
    for dtype in (torch.float64, torch.bfloat16):
        linear(draw(2, 4).to(dtype), weight.to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(draw(2, 4).float(), weight.float()).dtype == torch.bfloat16
    assert not used
    linear(draw(2, 4).float(), weight.float())
    assert len(used) == 1
    monkeypatch.setattr(module, "WORK", 25)
    linear(draw(2, 4).float(), weight.float())
    assert len(used) == 1, "a product of 24 multiplications is small"


def test_a_layer_can_be_vectorised_and_exported():
    layer = Linear(4, 3)
    rows = draw(2, 4).float()
    found = torch.autograd.functional.jacobian(layer, rows, vectorize=True)
    for row in range(2):
        torch.testing.assert_close(found[row, :, row], layer.weight.detach())
    graph = torch.export.export(layer, (rows,)).graph
    assert not any("mkldnn" in str(node.target) for node in graph.nodes)


def test_other_processors_use_the_products_of_pytorch(monkeypatch):
    monkeypatch.setattr(module, "_ONEDNN", False)
    rows, weight = draw(5, 4).float(), draw(3, 4, seed=1).float()
    assert torch.equal(linear(rows, weight), F.linear(rows, weight))
