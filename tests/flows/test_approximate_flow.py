import functools

import numpy as np
import pytest
import torch
from draws import generator, normal

from featood.errors import UsageError
from featood.flows.approximate import KINDS, ApproximateFlow, DenseLayer, LeakyRectifier, householder
from featood.heads import create_head, load_head

FREE, EXACT = KINDS[:2], KINDS[2:]


def perturbed(kind, size, layers=3, amount=0.3):
    flow, draws = ApproximateFlow(size, layers, kind, generator()).double(), generator(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=draws)
    return flow.eval()


def jacobian_log_det(flow, rows):
    jacobians = [torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], row) for row in rows]
    return torch.linalg.slogdet(torch.stack(jacobians)).logabsdet


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_log_det_and_inverse(kind, size):
    flow, rows = perturbed(kind, size), 2 * normal(9, size)
    latent, log_det = flow(rows)
    torch.testing.assert_close(log_det, jacobian_log_det(flow, rows), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.inverse(latent), rows, rtol=1e-8, atol=1e-8)
    reflected = -rows - flow.flows[0].bias @ torch.linalg.inv(flow.flows[0].matrix()).T
    assert not torch.allclose(flow(reflected)[1], log_det) or size == 1, "slopes depend on the row"


def test_householder_against_a_product_of_reflections():
    for vectors in (normal(6, 6), normal(5, 2), 1e-3 * normal(1, 1)):
        expected = torch.eye(len(vectors), dtype=torch.float64)
        for v in vectors.T:
            expected = expected @ (torch.eye(len(v), dtype=torch.float64) - 2 * torch.outer(v, v) / (v @ v))
        torch.testing.assert_close(householder(vectors), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_of_each_kind(kind):
    torch.manual_seed(3)
    layer = DenseLayer(40, kind)
    eye = torch.eye(40)
    for factor in layer.factors():
        torch.testing.assert_close(factor.T @ factor, eye, rtol=0, atol=1e-5)
    singular = torch.linalg.svdvals(layer.matrix().detach())
    assert float(singular.min()) > 0.98 and float(singular.max()) < 1.02
    assert kind == "orthogonal" or float(singular.std()) > 1e-3
    with torch.no_grad():
        layer.left += 0.1 * torch.randn(40, 40)
    gap = torch.linalg.norm(eye - layer.factors()[0].T @ layer.factors()[0])
    assert float(layer.penalty().detach()) == pytest.approx(
        float(gap.detach()) * 40**0.5 if kind in FREE else 0, rel=1e-3
    )


@pytest.mark.parametrize("kind", FREE)
def test_half_the_penalty_bounds_the_error_in_training(kind):
    size = 6
    for amount in (1e-3, 1e-2):
        torch.manual_seed(0)
        layer, rows = DenseLayer(size, kind).double(), normal(4, size)
        with torch.no_grad():
            layer.left *= 1 - amount  # the bound is tight in this direction
        approximate = layer.train()(rows)[1].detach()
        exact = layer.eval()(rows)[1].detach()
        error = float((approximate - exact).abs().max())
        assert error == pytest.approx(size * amount, rel=0.02)
        assert error <= float(layer.penalty().detach()) / 2 * (1 + 2 * amount)
        torch.testing.assert_close(exact, torch.linalg.slogdet(layer.matrix().detach()).logabsdet.expand(4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_has_a_finite_gradient_at_zero(kind):
    layer = DenseLayer(3, kind)
    with torch.no_grad():
        layer.left.copy_(torch.eye(3))
        if kind != "orthogonal":
            layer.right.copy_(torch.eye(3))
    (layer.penalty() + layer.matrix().sum()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters() if p.grad is not None)


def test_the_inverse_of_the_rectifier():
    rectifier, rows = LeakyRectifier(3).double(), normal(20, 3)
    with torch.no_grad():
        rectifier.log_slope.copy_(torch.tensor([-2.0, 0.0, 1.0]))
    latent, log_det = rectifier(rows)
    slopes = torch.tensor([np.exp(-2), 1, np.e], dtype=torch.float64)
    torch.testing.assert_close(latent, torch.where(rows < 0, rows * slopes, rows))
    torch.testing.assert_close(log_det, ((rows < 0) * slopes.log()).sum(1))
    torch.testing.assert_close(rectifier.inverse(latent), rows)


# ---- the head -----------------------------------------------------------------------------------------


def curved_rows(rows=800, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=rows)
    return np.stack([first, first**2 + 0.5 * rng.normal(size=rows)], 1).astype(np.float32)


@functools.cache
def fitted(kind, **options):
    return create_head(
        "approximate-flow",
        space="standardize",
        by_class=False,
        kind=kind,
        layers=10,
        epochs=20,
        batch_size=200,
        lr=2e-2,
        validation=0,
        **options,
    ).fit(curved_rows())


@pytest.mark.parametrize("kind", KINDS)
def test_after_training_the_density_integrates_to_one(kind, tmp_path):
    head = fitted(kind)
    axis = np.arange(-8, 16, 0.08)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    area = 0.08**2 / float(head.state["space.scale"].prod())
    assert np.exp(-head.score(grid)).sum() * area == pytest.approx(1, abs=0.02)
    # better than a Gaussian, whose entropy is determined by its covariance
    rows = curved_rows(seed=1)
    covariance = np.cov(rows.T) / np.outer(head.state["space.scale"], head.state["space.scale"])
    gaussian = np.log(2 * np.pi * np.e) + 0.5 * np.linalg.slogdet(covariance)[1]
    assert head.score(rows).mean() < gaussian - 0.05
    again = load_head(head.save(tmp_path / kind))
    np.testing.assert_allclose(again.score(rows), head.score(rows), rtol=1e-12)


@pytest.mark.parametrize("kind", FREE)
def test_the_penalty_keeps_the_determinants_in_training_close_to_exact(kind):
    def error(head):
        model, _ = head.prepare(head.state)
        exact = model(torch.zeros(1, 2, dtype=torch.float64))[1]
        return abs(float(model.train()(torch.zeros(1, 2, dtype=torch.float64))[1] - exact))

    assert error(fitted(kind)) < 0.1
    assert error(fitted(kind, penalty=0.05)) > 0.5, "with a small weight, the determinants are inaccurate"


def test_validation_uses_exact_determinants_without_the_penalty():
    head = create_head("approximate-flow", kind="orthogonal", layers=2, by_class=False)
    model = perturbed("orthogonal", 3, layers=2)
    rows = normal(5, 3)
    parts = head.losses(model, rows, torch.zeros(5), generator())
    torch.testing.assert_close(parts["loss"], -model.log_density(rows).mean())
    model.train()
    parts = head.losses(model, rows, torch.zeros(5), generator())
    torch.testing.assert_close(parts["loss"], -model.log_density(rows).mean() + model.penalty())


def test_unknown_kinds_are_refused():
    with pytest.raises(UsageError, match="kind must be one of"):
        create_head("approximate-flow", kind="lu")


@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precision(kind):
    rows = normal(60, 3).numpy()
    head = create_head("approximate-flow", kind=kind, precision="bfloat16", epochs=2).fit(rows)
    assert np.isfinite(head.score(rows)).all()
