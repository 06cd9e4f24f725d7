"""Quality of densities learnt in the plane: every flow and every energy on toys with a known density.

Flows must integrate to one. For all heads, the rank correlation of the score with the negative true log-density is
computed on the points of a grid where the true density exceeds 1e-4 of its maximum; elsewhere, there are almost no rows
to learn from. (For a constant density, the whole square is used.)

Every head has the same options for all toys, which were selected on two-moons, rings and gaussians.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from common import save, show
from scipy.stats import spearmanr

from featood.data.tables.toys import Toy, get_toy
from featood.heads import create_head
from featood.speed.environment import environment

FLOOR = 1e-4
"""Fraction of the maximum density above which points are used in the correlation."""
ROWS = 5000
SIDE = 121
WIDE = 301
"""Points per side of the grid on the toy's square, and on a square of twice its size for the integrals of flows."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """A head with its options."""

    head: str
    options: dict[str, Any]
    normalised: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """Name in tables and figures."""
        return self.label or self.head


TRAINING: dict[str, Any] = {
    "space": "standardize", "epochs": 150, "batch_size": 250, "validation": 0.0, "lr": 5e-3,
}  # fmt: skip
FLOW: dict[str, Any] = {**TRAINING, "by_class": False}
ENERGY: dict[str, Any] = {**TRAINING, "base": "none", "width": 128, "depth": 3, "activation": "gelu"}
LANGEVIN: dict[str, Any] = {**ENERGY, "epochs": 250, "step_size": 0.005, "noise": 0.1, "sgld_steps": 10}
VERA: dict[str, Any] = {
    **ENERGY,
    "epochs": 300,
    "lr": 2e-3,
    "generator_lr": 1.5e-3,
    "posterior_lr": 5e-3,
    "noise_size": 2,
    "penalty": 0.0,
    "l2": 0.3,
    "ema": 0.998,
}
COUPLING: dict[str, Any] = {**FLOW, "lr": 3e-3, "width": 64}
FLOWS = [
    Fit("radial-flow", {**FLOW, "lr": 2e-2}, True),
    Fit(
        "radial-flow", {**FLOW, "lr": 2e-2, "by_class": True, "separate": True}, True, "radial-flow by class"
    ),
    Fit("planar-flow", {**FLOW, "lr": 1e-2, "layers": 40}, True),
    Fit("realnvp", {**COUPLING, "layers": 12}, True),
    Fit("glow-vector", COUPLING, True),
    Fit("maf", COUPLING, True),
    Fit("spline-flow", COUPLING, True),
    Fit("iresnet", COUPLING, True),
    *(
        Fit("approximate-flow", {**FLOW, "lr": 2e-2, "kind": kind}, True, kind)
        for kind in ("orthogonal", "reparameterized", "svd", "matrix-exponential")
    ),
]
ENERGIES = [
    Fit("nce", ENERGY),
    Fit("conditional-nce", {**ENERGY, "spread": 0.2}),
    Fit("flow-nce", {**ENERGY, "epochs": 250, "flow_lr": 1e-3, "threshold": 0.7}),
    Fit("ssm", {**ENERGY, "data_noise": 0.05}),
    Fit("ssm-supervised", {**ENERGY, "data_noise": 0.05}),
    Fit("cd", LANGEVIN),
    Fit("jem", LANGEVIN),
    Fit("vera", VERA),
    Fit("vera-supervised", VERA),
]


def square(toy: Toy, side: int, scale: float = 1.0) -> tuple[np.ndarray, float]:
    """Return the points ``[side ** 2, 2]`` of a grid on the toy's square scaled by `scale`, and the area per point."""
    left, right, bottom, top = (scale * edge for edge in toy.extent)
    axes = np.meshgrid(np.linspace(left, right, side), np.linspace(bottom, top, side))
    return np.stack(axes, -1).reshape(-1, 2), (right - left) * (top - bottom) / (side - 1) ** 2


def region(log_p: np.ndarray) -> np.ndarray:
    """Return which points are used in the correlation."""
    inside = log_p > log_p.max() + math.log(FLOOR)
    return inside if np.ptp(log_p[inside]) > 0 else np.ones_like(inside)


def measure(fit: Fit, toy: Toy, budget: float, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Fit one head to one toy.

    Returns
    -------
    row : dict
        Row of the table. For flows, ``integral`` is that of the density over a square of twice the size, and ``gap``
        the mean of ``log p - log q`` in nats over new rows.
    scores : ndarray
        Scores on the grid ``[SIDE ** 2]``.
    """
    rows, labels = toy.sample(ROWS, np.random.default_rng(seed))
    options = {**fit.options, "epochs": max(1, round(budget * fit.options["epochs"])), "seed": seed}
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = create_head(fit.head, **options).fit(rows.astype(np.float32), labels)
    seconds = time.perf_counter() - start
    points, _ = square(toy, SIDE)
    log_p, scores = toy.log_density(points), np.asarray(head.score(points))
    inside = region(log_p)
    integral = gap = None
    if fit.normalised:
        wide, area = square(toy, WIDE, 2.0)
        volume = float(head.state["space.scale"].double().log().sum())  # scores are for standardised rows
        integral = float(np.exp(-np.asarray(head.score(wide)) - volume).sum() * area)
        fresh = toy.sample(ROWS, np.random.default_rng(seed + 1))[0]
        gap = float(np.mean(toy.log_density(fresh) + head.score(fresh) + volume))
    finite = np.nan_to_num(log_p[inside], neginf=-1e9)
    correlation = float(spearmanr(-scores[inside], finite)[0])
    row = {"head": fit.name, "toy": toy.name, "correlation": correlation, "integral": integral, "gap": gap}
    return {**row, "seconds": seconds}, scores


def draw(path: str, toys: Sequence[Toy], pictures: dict[tuple[str, str], np.ndarray]) -> None:
    """Write one PNG of densities: a row for each head, the truth first, and a column for each toy."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for name, _ in pictures))
    across = len(toys)
    down = min(6, len(names) + 1)
    columns = math.ceil((len(names) + 1) / down)  # of heads, side by side
    size = (1.3 * columns * across, 1.4 * down)
    figure, axes = plt.subplots(down, columns * across, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for index, name in enumerate(["truth", *names]):
        for place, toy in enumerate(toys):
            axis = axes[index % down, index // down * across + place]
            if name == "truth":
                values = -toy.log_density(square(toy, SIDE)[0])
            elif (name, toy.name) in pictures:
                values = pictures[name, toy.name]
            else:
                continue
            density = np.exp(np.nanmin(values) - values).reshape(SIDE, SIDE)
            axis.imshow(density, origin="lower", cmap="magma", vmin=0, vmax=np.quantile(density, 0.995))
            if not place:
                axis.set_title(name, fontsize=8, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Learnt and true densities in the plane.")
    parser.add_argument("--toys", default="two-moons,rings,gaussians", help="comma-separated")
    parser.add_argument("--heads", help="comma-separated names of the table (default: all)")
    parser.add_argument("--budget", type=float, default=1.0, help="factor on the epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="write all densities as one PNG")
    parser.add_argument("--json", help="write the table as JSON")
    given = parser.parse_args()
    toys = [get_toy(name) for name in given.toys.split(",")]
    wanted = given.heads.split(",") if given.heads else None
    chosen = [fit for fit in FLOWS + ENERGIES if wanted is None or fit.name in wanted or fit.head in wanted]
    if not chosen:
        parser.error(f"there are {', '.join(fit.name for fit in FLOWS + ENERGIES)}")
    rows, pictures = [], {}
    for fit in chosen:
        for toy in toys:
            if not toy.components and fit.options.get("by_class"):
                continue
            row, pictures[fit.name, toy.name] = measure(fit, toy, given.budget, given.seed)
            rows.append(row)
            print(f"{fit.name} on {toy.name}: {row['correlation']:.3f}, {row['seconds']:.0f} s", flush=True)
    show(f"{ROWS} rows; correlation where the density exceeds {FLOOR:g} of its largest value", rows)
    save(given.json, environment("zuko"), densities=rows)
    if given.picture:
        draw(given.picture, toys, pictures)


if __name__ == "__main__":
    main()
