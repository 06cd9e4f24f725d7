"""Fit and score every closed-form head on one GPU, at the size of ImageNet-1K, beside bare matrix products.

    python benchmarks/gpu_scale.py --json scale.json
    python benchmarks/gpu_scale.py --device cpu --rows 20000 --features 256     # the same, small

Clustered float16 features, float32 logits and labels are made on the device and stay there. ``peak`` is the memory of
the device beyond them. TFLOP/s count the products that a formula cannot do without, as in `featood.speed.floors`, and
no decompositions; the first table has what bare products reach on the same device. Covariances are sums of float64
products, most else is float32. With ``tf32``, float32 products round their inputs to TF32; ``gap`` is the largest
change of a score, in standard deviations of the scores, and ``equal`` whether it is below 0.001. No head computes in
bfloat16 on a GPU; what its bare product reaches is in the first table. Heads that do not start before the time is over
are named.
"""

from __future__ import annotations

__all__: list[str] = []

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from common import show
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.files import atomic_write
from featood.heads import create_head, head_class
from featood.numerics.devices import pick_device
from featood.speed.environment import environment
from featood.speed.floors import FLOORS, Operations
from featood.speed.synthetic import Size
from featood.speed.timing import peak_bytes, reset_peak

HEADS = (
    "msp", "max-logit", "energy", "entropy", "gen", "doctor", "margin", "kl-matching", "openmax", "norm", "cosine",
    "mcm", "fdbd", "nci", "she", "gradnorm", "react", "ash-p", "ash-b", "ash-s", "scale", "vra", "dice", "lts",
    "mahalanobis", "mahalanobis-pp", "relative-mahalanobis", "rmd-pp", "residual", "vim", "neco",
    "pca-reconstruction", "pnml", "gem", "wdiscood", "gmm", "knn", "nnguide",
)  # fmt: skip
"""In the order of their cost; without weiper, whose 100 perturbed layers take longer than all others together."""
OPTIONS: dict[str, dict[str, Any]] = {"gmm": {"covariance": "tied"}}  # 1,000 covariances take 33 GB
BLOCK = 8192
EQUAL = 1e-3


class Flops:
    """Operations of floors that count floating-point operations instead of measuring seconds."""

    def product(self, rows: int, inner: int, columns: int) -> float:
        """Count those of a product."""
        return 2.0 * rows * inner * columns

    def syrk(self, rows: int, features: int) -> float:
        """Count those of half of a symmetric product."""
        return float(rows) * features * features

    def eigh(self, size: int) -> float:
        """Leave out decompositions."""
        return 0.0

    def copy(self, values: int) -> float:
        """Leave out copies."""
        return 0.0


def made(size: Size, rows: int, seed: int, device: torch.device) -> FeatureSet:
    """Make rows on the device: Gaussian classes after a ReLU, and the logits of a linear classifier."""
    fixed = torch.Generator(device).manual_seed(12345)
    own = torch.Generator(device).manual_seed(seed)
    means = torch.randn(size.classes, size.features, device=device, generator=fixed)
    weight, bias = 20 / size.features * (means - means.mean(0)), torch.zeros(size.classes, device=device)
    labels = torch.randint(size.classes, (rows,), device=device, generator=own)
    features = torch.empty(rows, size.features, dtype=torch.float16, device=device)
    logits = torch.empty(rows, size.classes, device=device)
    for label, feature, logit in zip(
        labels.split(BLOCK), features.split(BLOCK), logits.split(BLOCK), strict=True
    ):
        noise = torch.randn(feature.shape, device=device, generator=own)
        feature.copy_((means[label] + noise).relu_())
        torch.mm(feature.float(), weight.T, out=logit)
    return FeatureSet(
        {"avg": features}, logits=logits, labels=labels, classifier=(weight, bias), name=f"rows-{seed}"
    )


def elapsed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return seconds until the device is done, and the result."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = run()
    wait()
    return time.perf_counter() - start, result


def products(size: int, device: torch.device) -> list[dict[str, Any]]:
    """Return TFLOP/s of bare products of square matrices."""
    found = []
    for name, dtype, tf32 in (
        ("float64", torch.float64, False),
        ("float32", torch.float32, False),
        ("float32, tf32", torch.float32, True),
        ("float16", torch.float16, False),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.mm(left, right)
        took = min(elapsed(lambda: torch.mm(left, right, out=out), device)[0] for _ in range(3))  # noqa: B023
        found.append({"product": name, "size": size, "TFLOP/s": 2 * size**3 / took / 1e12})
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def run(name: str, train: FeatureSet, test: FeatureSet, device: torch.device) -> tuple[float, float, Tensor]:
    """Fit and score; return the seconds of both, and the scores."""
    head = create_head(name, **OPTIONS.get(name, {}))
    fitted, _ = elapsed(lambda: head.fit(train, device=str(device)), device)
    head.score(test.rows(slice(0, 256)))  # what is prepared once, at the first score
    took, scores = elapsed(lambda: head.score(test), device)
    return fitted, took, scores.double().cpu()


def measured(
    name: str, train: FeatureSet, test: FeatureSet, size: Size, device: torch.device
) -> dict[str, Any]:
    """Measure a head with float32 products, and on a GPU with TF32."""
    row: dict[str, Any] = dict.fromkeys(
        (
            "head",
            "fit s",
            "score s",
            "peak GB",
            "fit TFLOP/s",
            "score TFLOP/s",
            "tf32 fit s",
            "tf32 score s",
            "gap",
            "equal",
        )
    ) | {"head": name, "note": ""}
    gpu = device.type == "cuda"
    try:
        before = torch.cuda.memory_allocated() if gpu else reset_peak()
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        fitted, scored, scores = run(name, train, test, device)
        peak = torch.cuda.max_memory_allocated() if gpu else peak_bytes()
        learns = head_class(name).card.learns
        row |= {"fit s": fitted if learns else None, "score s": scored, "peak GB": (peak - before) / 1e9}
        # with one covariance, a mixture computes what this distance does
        floor = FLOORS.get("mahalanobis" if name == "gmm" else name)
        counted = cast(Operations, Flops())
        if floor is not None and floor.fit is not None and (work := floor.fit(size, counted)):
            row["fit TFLOP/s"] = work / fitted / 1e12
        if floor is not None and floor.score is not None and (work := floor.score(size, counted)):
            row["score TFLOP/s"] = work / scored / 1e12
        if gpu:
            torch.backends.cuda.matmul.allow_tf32 = True
            fitted, scored, other = run(name, train, test, device)
            gap = float(((other - scores).abs().max() / scores.std()).item())
            row |= {
                "tf32 fit s": fitted if learns else None,
                "tf32 score s": scored,
                "gap": gap,
                "equal": gap < EQUAL,
            }
    except Exception as error:  # out of memory, for example: the other heads are measured
        row["note"] = f"{type(error).__name__}: {error}".splitlines()[0][:80]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        if gpu:
            torch.cuda.empty_cache()
    return row


def main() -> None:
    """Measure each head, and write after each what is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--minutes", type=float, default=9.0, help="no head starts after these")
    parser.add_argument("--json")
    given = parser.parse_args()
    began, device = time.monotonic(), pick_device(given.device)
    warnings.simplefilter("ignore")  # the rows are synthetic
    size = Size(given.rows, given.features, given.classes, given.queries)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    about = {"card": card, "cuda": torch.version.cuda, **size._asdict(), **environment()}
    bare = products(8192 if device.type == "cuda" else 1024, device)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    show(f"bare products on {card}", bare)
    took, train = elapsed(lambda: made(size, size.rows, 0, device), device)
    test = made(size, size.test_rows, 1, device)
    print(f"made the rows in {took:.1f} s", file=sys.stderr, flush=True)
    rows: list[dict[str, Any]] = []
    late = [*given.heads]
    while late and time.monotonic() - began < 60 * given.minutes:
        rows.append(measured(late.pop(0), train, test, size, device))
        print(" ".join(str(value) for value in rows[-1].values()), file=sys.stderr, flush=True)
        if given.json:
            body = {"environment": about, "products": bare, "heads": rows}
            atomic_write(Path(given.json), json.dumps(body, indent=1).encode())
    if rows:
        show("closed-form heads", rows)
    print(f"not started: {', '.join(late) or 'none'}; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
