"""Shared code of the benchmarks: synthetic features, timing, tables, JSON."""

from __future__ import annotations

__all__ = ["clustered", "environment", "pytorch_ood", "save", "seconds", "show"]

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from featood import FeatureSet


def clustered(rows: int, size: int, classes: int, seed: int, spread: float = 1.0) -> FeatureSet:
    """Make float32 features of Gaussian classes after a ReLU, and the logits of a linear classifier.

    Parameters
    ----------
    rows, size, classes : int
        Number of rows, features and classes.
    seed : int
        Seed of the rows; the classes are the same for every seed.
    spread : float
        Standard deviation around the class means; larger for out-of-distribution rows.
    """
    fixed, rng = np.random.default_rng(12345), np.random.default_rng(seed)
    means = fixed.normal(0, 1, (classes, size)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    features = rng.standard_normal((rows, size), dtype=np.float32)
    features *= np.float32(spread)
    features += means[labels]
    np.maximum(features, 0, out=features)
    weight = 0.3 * (means - means.mean(0))
    bias = np.zeros(classes, np.float32)
    return FeatureSet(
        {"avg": features},
        logits=features @ weight.T,
        labels=labels,
        classifier=(weight, bias),
        name=f"rows-{seed}",
    )


def pytorch_ood() -> ModuleType | None:
    """Return the detectors of pytorch-ood; None if it is not installed (``pip install 'featood[peers]'``)."""
    from featood.extractors.vision import torchvision  # noqa: F401  (makes torchvision importable for pytorch-ood)

    try:
        import pytorch_ood.detector
    except ImportError:
        return None
    return pytorch_ood.detector


def seconds(run: Callable[[], Any], repeat: int = 3, budget: float = 5.0) -> tuple[float, Any]:
    """Return the minimum wall time of several runs (fewer if they exceed the budget), and the last result."""
    times: list[float] = []
    result = None
    while len(times) < repeat and sum(times) < budget:
        result = None  # frees the previous result, so that memory is not counted twice
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def environment(*packages: str) -> dict[str, Any]:
    """Describe the machine and the versions of the libraries."""
    import torch

    versions = {"python": platform.python_version()}
    for package in ("featood", "numpy", "torch", *packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **versions,
    }


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows with the same keys as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for key, value in rows[0].items():
        number = isinstance(value, int | float)
        table.add_column(key, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(table)


def save(path: str | None, about: dict[str, Any], **tables: Sequence[dict[str, Any]]) -> None:
    """Print the environment, and write it with the rows of all tables as JSON if a path is given."""
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"environment": about, **tables}, file, indent=1)
            file.write("\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
