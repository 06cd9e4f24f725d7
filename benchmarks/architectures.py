"""Features and classifier found for every architecture of timm and torchvision, and their agreement with the logits.

All parameters and statistics are random, so that no head is zero. Each architecture adds a line of JSON to the file;
architectures already in the file are skipped.

    python benchmarks/architectures.py architectures.jsonl --family swin --max-params 100
"""

from __future__ import annotations

__all__ = ["examine", "randomise", "report"]

import argparse
import contextlib
import hashlib
import json
import math
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featood.errors import FeatoodError
from featood.extractors.taps import plan_taps
from featood.extractors.vision import timm, torchvision

TOLERANCE = 1e-4
SIZES = (64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Set all parameters and statistics to random values that preserve the scale of activations."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(1 << 20, generator=generator)  # new draws for each parameter would be slow

    def fill(values: Tensor, scale: float, shift: float = 0.0) -> None:
        start = int(torch.randint(0, 1 << 16, (), generator=generator))
        count = values.numel()
        rows = (
            pool[start : start + count] if count <= len(pool) - start else pool.repeat(-(-count // len(pool)))
        )
        values.copy_(rows[:count].view(values.shape) * scale + shift)

    for name, values in module.named_parameters():
        if values.ndim > 1:
            fill(values, 1 / math.sqrt(max(1, values[0].numel())))
        else:
            fill(values, 0.1, 1.0 if name.endswith(("weight", "gamma", "scale")) else 0.0)
    for name, values in module.named_buffers():
        if name.endswith("running_mean"):
            fill(values, 0.1)
        elif name.endswith("running_var"):
            fill(values, 0.1, 1.0)
            values.abs_()


@contextlib.contextmanager
def without_initialisation() -> Iterator[None]:
    """Context manager that disables the initialisation of parameters, which are randomised later."""
    names = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    before = {name: getattr(nn.init, name) for name in names}
    trunc = timm.layers.weight_init._trunc_normal_
    try:
        for name in names:
            setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        timm.layers.weight_init._trunc_normal_ = lambda tensor, *_, **__: tensor
        yield
    finally:
        for name, function in before.items():
            setattr(nn.init, name, function)
        timm.layers.weight_init._trunc_normal_ = trunc


def names() -> list[str]:
    """List all architectures, ``timm:`` and ``tv:``, in random order, so that a partial run is representative."""
    tv = torchvision.models.list_models(module=torchvision.models)
    known = [*(f"tv:{name}" for name in tv), *(f"timm:{name}" for name in timm.list_models())]
    return sorted(known, key=lambda name: hashlib.sha256(name.encode()).digest())


def build(name: str, **how: Any) -> nn.Module:
    """Build an architecture without initialising its parameters."""
    family, _, rest = name.partition(":")
    with without_initialisation():
        if family == "timm":
            return timm.create_model(rest, **how)
        aux = {"init_weights": False} if rest in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(rest, weights=None, **aux)


def count(name: str) -> int:
    """Count the parameters of an architecture without allocating them."""
    with torch.device("meta"):
        return sum(values.numel() for values in build(name).parameters())


def variants(name: str) -> Iterator[tuple[nn.Module, int]]:
    """Build an architecture for several image sizes, the smallest and fastest first."""
    module = build(name)
    cfg: Any = getattr(module, "pretrained_cfg", None) or {}
    own = cfg.get("input_size", (3, 224, 224))[-1]
    if cfg.get("fixed_input_size"):
        for side in (side for side in (64, 56, 96, 112, 128, 192) if side < own):
            with contextlib.suppress(Exception):  # the architecture may not support this size
                yield build(name, img_size=side), side
    else:
        yield from ((module, side) for side in SIZES if side < own)
    yield module, own


def examine(name: str) -> dict[str, Any]:
    """Plan the extraction of one architecture and compare W z + b with its logits on random images."""
    row: dict[str, Any] = {"name": name}
    start = time.perf_counter()
    try:
        for module, side in variants(name):
            row = _examine(name, module.eval().requires_grad_(False), side)
            if row["result"] not in ("refused", "crashed"):
                break
    except Exception as error:
        row |= {"result": "not built", "why": f"{type(error).__name__}: {error}"[:300]}
    return {**row, "seconds": round(time.perf_counter() - start, 2)}


def _examine(name: str, module: nn.Module, side: int) -> dict[str, Any]:
    randomise(module)
    millions = sum(values.numel() for values in module.parameters()) / 1e6
    row: dict[str, Any] = {"name": name, "millions": round(millions, 2), "side": side}
    channels = (getattr(module, "pretrained_cfg", None) or {}).get("input_size", (3,))[0]
    images = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plan = plan_taps(module, images)
            with plan.recording(module) as forward, torch.inference_mode():
                columns = forward(images)
    except FeatoodError as error:
        return {**row, "result": "refused", "why": str(error)}
    except Exception as error:
        return {**row, "result": "crashed", "why": f"{type(error).__name__}: {error}"[:300]}
    row |= {
        "main": plan.main,
        "features": columns[plan.main].shape[1],
        "columns": plan.columns_json(),
        "note": plan.note,
    }
    classifier = plan.classifier(module)
    if classifier is None:
        row["result"] = plan.outputs if plan.outputs != "classes" else "no linear classifier"
        return row
    weight, bias = (torch.from_numpy(part) for part in classifier)
    logits = columns["logits"]
    error = ((columns[plan.main] @ weight.T + bias - logits).abs().max() / logits.abs().max()).item()
    assert plan.head is not None
    return {
        **row,
        "classifier": f"of {plan.head.layer}" if plan.head.layer else "derived",
        "error": error,
        "spread": (logits.std() / logits.abs().max()).item(),
        "result": "resolved" if error <= TOLERANCE else "wrong",
    }


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Summarise the rows in text."""
    results = Counter(row["result"] for row in rows)
    classes = results["resolved"] + results["wrong"] + results["no linear classifier"]
    lines = [
        f"{len(rows)} architectures: " + ", ".join(f"{count} {name}" for name, count in results.most_common())
    ]
    if classes:
        share = 100 * results["resolved"] / classes
        lines.append(
            f"of {classes} classifiers, {results['resolved']} ({share:.1f} %) have W z + b = logits to {TOLERANCE}"
        )
    derived = [row["name"] for row in rows if row.get("classifier") == "derived"]
    lines.append(f"derived rather than taken from a layer: {len(derived)}: {' '.join(derived)}")
    for name in results:
        if name == "resolved":
            continue
        why = Counter()
        for row in rows:
            if row["result"] == name:
                why[row.get("why") or row.get("note", "")] += 1
        for text, number in why.most_common():
            which = [
                row["name"]
                for row in rows
                if row["result"] == name and (row.get("why") or row.get("note")) == text
            ]
            lines.append(f"{name} ({number}): {text}: {' '.join(which[:12])}{' ...' if number > 12 else ''}")
    return "\n".join(lines)


def read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file, the last of each architecture."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return list({row["name"]: row for row in map(json.loads, lines)}.values())


def done_in(path: Path, largest: float) -> set[str]:
    """Return the names in a file to skip; those left out as too large only if they still are."""
    return {row["name"] for row in read(path) if row["result"] != "too large" or row["millions"] > largest}


def main() -> None:
    """Run over all architectures, a few per process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="file of JSON lines to continue")
    parser.add_argument("--family", default="", help="only names that contain this")
    parser.add_argument("--limit", type=int, help="maximum number of new architectures")
    parser.add_argument(
        "--max-params", type=float, default=400, help="millions of parameters; larger are left out"
    )
    parser.add_argument("--chunk", type=int, default=25, help="architectures per process, as memory may leak")
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        for name in options.worker:
            line = {"name": name, "result": "crashed", "why": "the process was killed"}
            try:
                millions = count(name) / 1e6
            except Exception:
                millions = 0.0  # cannot be built on the meta device
            if millions > options.max_params:
                line = {
                    "name": name,
                    "result": "too large",
                    "why": f"over {options.max_params:g} million",
                    "millions": round(millions, 1),
                }
            else:
                line = examine(name)
            with options.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return
    done = done_in(options.file, options.max_params)
    left = [name for name in names() if options.family in name and name not in done][: options.limit]
    while left:
        batch, left = left[: options.chunk], left[options.chunk :]
        command = [
            sys.executable,
            __file__,
            str(options.file),
            "--max-params",
            str(options.max_params),
            "--worker",
            *batch,
        ]
        if subprocess.run(command, check=False).returncode:
            seen = done_in(options.file, options.max_params)
            first = next((name for name in batch if name not in seen), None)
            if first is not None:
                with options.file.open("a", encoding="utf-8") as file:
                    file.write(
                        json.dumps({"name": first, "result": "crashed", "why": "the process was killed"})
                        + "\n"
                    )
            left = [name for name in batch if name not in seen and name != first] + left
    print(report([row for row in read(options.file) if options.family in row["name"]]))


if __name__ == "__main__":
    main()
