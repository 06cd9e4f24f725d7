import numpy as np
import pytest
import torch

from featood.errors import UsageError
from featood.heads import create_head
from featood.nets.mlp import MLP


def test_a_bound_on_the_layers_bounds_the_lipschitz_constant():
    net = MLP(6, [20, 20], 4, "relu", torch.Generator().manual_seed(0), lipschitz=0.5).double()
    with torch.no_grad():
        for layer in list(net)[::2]:
            layer.weight.mul_(50)
    net.eval()
    rows = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slopes = torch.autograd.functional.jacobian(lambda x: net(x).sum(0), rows, vectorize=True)
    largest = max(float(torch.linalg.matrix_norm(slopes[:, i], 2)) for i in range(50))
    assert 1e-3 < largest <= 0.5**3 * (1 + 1e-9)


def test_a_large_bound_has_no_effect():
    free, bound = (MLP(6, [8], 4, "tanh", torch.Generator().manual_seed(0), lipschitz=c) for c in (0, 1e6))
    bound[0].load_state_dict(free[0].state_dict(), strict=False)
    bound[2].load_state_dict(free[2].state_dict(), strict=False)
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(free(rows), bound(rows))


def test_outputs_of_negative_last_layers_decrease_along_rays():
    net = MLP(3, [32, 32], 5, "relu", torch.Generator().manual_seed(0), negative=True)
    rays = torch.nn.functional.normalize(
        torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=1
    )
    far, farther = net(1e3 * rays), net(1e4 * rays)
    assert (farther < far).all() and (far.logsumexp(1) < net(rays).logsumexp(1)).all()


@pytest.mark.parametrize(("activation", "hidden"), [("silu", [4]), ("relu", [])])
def test_negative_last_layers_need_non_negative_inputs(activation, hidden):
    with pytest.raises(UsageError, match="activation"):
        MLP(3, hidden, 2, activation, negative=True)


def test_heads_have_both_options():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4)).astype(np.float32)
    options = {
        "base": "none",
        "space": "standardize",
        "depth": 1,
        "width": 16,
        "epochs": 5,
        "sgld_steps": 3,
        "buffer_size": 100,
    }
    head = create_head("cd", activation="relu", negative_linear=True, lipschitz=2.0, **options).fit(rows)
    rays = rng.normal(size=(50, 4)).astype(np.float32)
    scores = [head.score(length * rays) for length in (1e2, 1e3, 1e4)]
    assert (np.diff(scores, axis=0) > 0).all()
