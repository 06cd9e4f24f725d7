"""How well the learnt energies order a plane whose density is known: rank correlation and seconds.

Run ``python benchmarks/energies.py``; a perfect energy has a correlation of 1 with minus the log-density.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from featood.heads import create_head

CENTERS, SPREADS = np.array([[-2.0, 0.0], [2.0, 0.0]]), np.array([1.0, 0.7])
SMALL: dict[str, Any] = {"width": 32, "depth": 2, "batch_size": 100, "epochs": 60, "lr": 2e-3}
VERA: dict[str, Any] = {"generator_lr": 2e-3, "noise_size": 4}
RUNS: list[tuple[str, dict[str, Any]]] = [
    ("cd", {}),
    ("jem", {}),
    ("ssm", {}),
    ("ssm-supervised", {}),
    ("nce", {}),
    ("conditional-nce", {"spread": 0.3}),
    ("vera", VERA),
    ("vera-supervised", {**VERA, "classification": 1.0}),
]


def main() -> None:
    """Fit every head to 2,000 rows of two Gaussians, and score a grid."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    rows = (CENTERS[labels] + rng.normal(size=(2000, 2)) * SPREADS).astype(np.float32)
    axes = np.meshgrid(np.linspace(-4.5, 4.5, 31), np.linspace(-2.5, 2.5, 31))
    points = np.stack(axes, -1).reshape(-1, 2)
    log_p = np.logaddexp(*[-0.5 * (((points - center) / SPREADS) ** 2).sum(1) for center in CENTERS])
    for name, options in RUNS:
        start = time.perf_counter()
        head = create_head(name, **SMALL, **options).fit(rows, labels)
        seconds = time.perf_counter() - start
        correlation = spearmanr(head.score(points.astype(np.float32)), -log_p)[0]
        print(f"{name:18} {correlation:6.3f} {seconds:7.1f} s")


if __name__ == "__main__":
    main()
