"""The machine and the libraries of a measurement."""

from __future__ import annotations

__all__ = ["environment"]

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("featood", "numpy", "scipy", "torch", "pytorch-ood", "faiss-cpu", "scikit-learn")


def environment(*packages: str) -> dict[str, Any]:
    """Return processor, cores, threads, the load of the machine so far, and the versions of the libraries."""
    import torch

    versions = {"python": platform.python_version()}
    for package in dict.fromkeys((*PACKAGES, *packages)):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
