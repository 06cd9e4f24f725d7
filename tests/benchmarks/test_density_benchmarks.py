import argparse

import numpy as np
import pytest
import torch

from featood.data.tables.toys import get_toy
from featood.heads import head_class


def test_energies_times_both_sides(script):
    energies = script("energies")
    given = argparse.Namespace(size=8, chains=12, steps=2, width=8, rows=20, layers=3, repeat=1)
    rows = energies.sampling(3, given)
    assert len(rows) == 2 and all(row["ratio"] > 0 for row in rows)
    rows = energies.radial(3, given)
    assert [row["what"] for row in rows] == ["densities", "densities and gradients"]
    assert rows[0]["largest gap"] < 1e-4


def test_the_naive_sampler_descends_the_same_energy(script, monkeypatch):
    energies = script("energies")
    monkeypatch.setattr(energies, "NOISE", 0.0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.SiLU(), torch.nn.Linear(5, 3))
    start, labels = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
    found = energies.loop_over_classes(net, start, labels, 4)
    expected = energies.sgld(
        energies.class_energy(net, labels),
        start,
        steps=4,
        step_size=energies.STEP,
        noise=0.0,
        generator=torch.Generator(),
        final=1.0,
    )
    torch.testing.assert_close(found, expected)


def test_every_fit_is_valid(script):
    densities = script("densities")
    fits = densities.FLOWS + densities.ENERGIES
    assert len({fit.name for fit in fits}) == len(fits)
    for fit in fits:
        head_class(fit.head)(**fit.options)


def test_a_learnt_density_is_measured_and_drawn(script, tmp_path):
    densities = script("densities")
    toy = get_toy("gaussians")
    fit = densities.Fit("spline-flow", {**densities.COUPLING, "layers": 2, "bins": 4}, True)
    row, scores = densities.measure(fit, toy, 0.03, 0)
    assert row["integral"] == pytest.approx(1, abs=0.02) and row["gap"] > 0
    assert -1 <= row["correlation"] <= 1 and scores.shape == (densities.SIDE**2,)
    densities.draw(str(tmp_path / "all.png"), [toy], {("spline-flow", toy.name): scores})
    assert (tmp_path / "all.png").read_bytes()[:4] == b"\x89PNG"


def test_points_used_in_the_correlation(script):
    densities = script("densities")
    inside = densities.region(np.array([0.0, -9, -10, -np.inf]))
    assert inside.tolist() == [True, True, False, False]
    assert densities.region(np.array([-1.0, -1, -np.inf])).all(), (
        "a constant density has no order within its support"
    )


def test_grids_cover_twice_the_square(script):
    points, area = script("densities").square(get_toy("two-moons"), 5, 2.0)
    assert points.min() == -8 and points.max() == 8 and len(points) == 25 and area == 16
