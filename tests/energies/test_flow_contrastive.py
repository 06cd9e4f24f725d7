import math

import numpy as np
import pytest
import torch
from draws import SPREADS, generator, grid, two_gaussians
from scipy.stats import spearmanr

from featood.energies import GaussianNoise, flow_contrastive, importance_likelihood
from featood.errors import UsageError
from featood.flows import glow
from featood.heads import create_head, load_head
from featood.heads.base.fit import FitContext

SMALL = {"base": "none", "space": "standardize", "width": 32, "depth": 2, "batch_size": 200, "flow_layers": 2}


def small_flow(seed=0):
    flow, draws = glow(2, 2, [8], "tanh", generator(seed)), generator(seed + 1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draws)
    return flow


# ---- objectives ---------------------------------------------------------------------------------------


def test_loss_of_the_flow_by_a_loop():
    flow, rows = small_flow(), torch.randn(30, 2, generator=generator(5))

    def energy(x):
        return x.square().sum(1) + 2

    found = flow_contrastive(energy, rows, flow, generator(3))
    draws = flow.inverse(torch.randn(30, 2, generator=generator(3)))
    total, right = 0.0, 0
    for is_data, values in ((1, rows), (0, draws.detach())):
        for row in values:
            margin = float(-energy(row[None]) - flow.log_density(row[None]).detach())
            p_data = 1 / (1 + math.exp(-margin))
            total -= math.log(1 - p_data if is_data else p_data) / 30
            right += (margin > 0) == is_data
    assert found["loss"].item() == pytest.approx(total, rel=1e-4)
    assert float(found["accuracy"]) == pytest.approx(right / 60)


def test_the_flow_learns_the_density_of_a_known_energy():
    rows = torch.randn(4000, 2, generator=generator(1)) * torch.tensor([1.5, 0.4]) + torch.tensor([1.0, -1.0])
    constant = math.log(2 * math.pi * 1.5 * 0.4)

    def energy(x):  # minus the log-density of the rows
        return 0.5 * ((x - torch.tensor([1.0, -1.0])) / torch.tensor([1.5, 0.4])).square().sum(1) + constant

    flow, source = glow(2, 1, [8], generator=generator()), generator(2)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.03)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 200)
        optimizer.zero_grad()
        batch = rows[torch.randint(4000, (200,), generator=source)]
        flow_contrastive(energy, batch, flow, source)["loss"].backward()
        optimizer.step()
    gap = (flow.log_density(rows) + energy(rows)).detach()
    assert abs(float(gap.mean())) < 0.03 and float(gap.std()) < 0.15


def test_importance_likelihood_of_a_gaussian_energy():
    rows = torch.randn(50_000, 2, generator=generator(), dtype=torch.float64)
    noise = GaussianNoise.of(1.3 * torch.randn(50_000, 2, generator=generator(1)))
    found = importance_likelihood(lambda x: 0.5 * x.square().sum(1) + 7, rows, noise, generator(2))
    expected = 0.5 * rows.square().sum(1).mean() + math.log(2 * math.pi)
    assert float(found) == pytest.approx(float(expected), abs=0.02), "for any constant"


# ---- the head -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    return create_head("flow-nce", **SMALL, epochs=40, lr=5e-3, flow_lr=3e-3, validation=0).fit(
        two_gaussians()
    )


def test_energy_and_flow_rank_points_like_the_density(fitted, tmp_path):
    points, log_p = grid()
    assert spearmanr(fitted.score(points), -log_p)[0] > 0.9
    head = load_head(fitted.save(tmp_path / "head"))
    np.testing.assert_array_equal(head.score(points), fitted.score(points))
    model, state = fitted.prepare(fitted.state)
    rows = (torch.from_numpy(points.features["x"]).double() - state["space.center"]) / state["space.scale"]
    other = create_head("flow-nce", **SMALL, which="flow")
    of_flow = other.score_rows(model, rows)
    torch.testing.assert_close(of_flow, -model.flow.log_density(rows))
    assert spearmanr(of_flow, -log_p)[0] > 0.9
    with pytest.raises(UsageError, match="which must be one of"):
        create_head("flow-nce", which="generator")


def test_the_energy_is_normalised(fitted):
    points, log_p = grid()
    energies = fitted.score(points) + float(fitted.state["space.scale"].log().sum())
    log_p = log_p - math.log(2 * 2 * math.pi * SPREADS.prod())
    likely = log_p > log_p.max() - 3
    assert abs(np.mean(energies[likely] + log_p[likely])) < 0.15


def test_energy_or_flow_is_trained_depending_on_the_accuracy():
    head = create_head("flow-nce", **SMALL, threshold=0.7)
    model = head.build(2, 1, generator())
    with torch.no_grad():
        # this energy classifies as data only rows of very low density under the flow
        model.net[-1].bias.fill_(-20)
    model.train()
    draws = model.flow.sample(200, generator(2))
    for separated, flow_turn in ((False, False), (True, False), (True, True), (False, True), (False, False)):
        model.zero_grad(set_to_none=True)
        assert bool(model.turn.of_flow) == flow_turn
        parts = head.losses(model, draws + 9.0 * separated, torch.zeros(200), generator(2))
        parts["loss"].backward()
        moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert moved == {"flow" if flow_turn else "net"}
        assert bool(model.turn.of_flow) == (float(parts["accuracy"]) >= 0.7) == separated
        assert all(p.requires_grad for p in model.parameters()) and model.net.training and model.flow.training
    head.validation_loss(model, draws + 9, torch.zeros(200), generator())
    assert not bool(model.turn.of_flow)


def test_resumed_training_is_the_same(tmp_path):
    class Killed(BaseException):
        pass

    def stop(step, total, **values):
        if step == 60:
            raise Killed

    options = {**SMALL, "epochs": 8, "lr": 5e-3}
    whole = create_head("flow-nce", **options).fit(two_gaussians())
    with pytest.raises(Killed):
        create_head("flow-nce", **options).fit(two_gaussians(), context=FitContext(stop, tmp_path))
    resumed = create_head("flow-nce", **options).fit(two_gaussians(), context=FitContext(checkpoint=tmp_path))
    assert {key.split(".")[1] for key in whole.state if key.startswith("model.")} == {"net", "flow"}
    for key, value in whole.state.items():
        assert torch.equal(resumed.state[key], value), key
