"""Detection by heat-gmm with its Langevin sampler in float32 and in bfloat16, with the same seeds.

Where the processor has no matrix units for bfloat16, products with it are slow, so they are emulated: inputs, weights,
outputs and gradients of each layer are rounded to bfloat16, and products are accumulated in float32, as such units do.

    python benchmarks/sampler_precision.py --cache feature_cache --backbone NAME --ood a,b,c
"""

from __future__ import annotations

__all__ = ["emulated", "main"]

import argparse
import contextlib
import copy
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import save, show
from torch import Tensor, nn

from featood.cache import FeatureCache
from featood.energies import frozen
from featood.heads import create_head
from featood.heads.energies import _sampling
from featood.metrics import auroc
from featood.pipeline.selection import select
from featood.speed.environment import environment

HEAT = {"preset": "cifar10", "batch_size": 256, "width": 256, "lr": 1e-4, "sgld_steps": 20}
BATCH = 512


class _Round(torch.autograd.Function):
    """Rounding to bfloat16, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].bfloat16().float()


class _Rounded(nn.Module):
    """A layer whose inputs and outputs are rounded."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return _Round.apply(self.layer(_Round.apply(x)))


class _RoundedLinear(_Rounded):
    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self.layer
        return _Round.apply(F.linear(_Round.apply(x), layer.weight, layer.bias))


@contextlib.contextmanager
def emulated(net: nn.Module, precision: str = "float32") -> Iterator[nn.Module]:
    """Provide a network to sample with, as :func:`featood.energies.sgld.sampler_net` does."""
    if precision == "float32":
        with frozen(net) as same:
            yield same
        return
    rounded = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16().float())
    for name, layer in list(rounded.named_modules()):
        if name and not list(layer.children()):
            kind = _RoundedLinear if isinstance(layer, nn.Linear) else _Rounded
            rounded.set_submodule(name, kind(layer))
    yield rounded.eval().requires_grad_(False)


def main() -> None:
    """Fit with every seed in both precisions, and print the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", default="feature_cache")
    parser.add_argument("--backbone", nargs="+", required=True)
    parser.add_argument("--dataset", default="", help="in-distribution dataset")
    parser.add_argument("--ood", required=True, help="OOD sets, comma-separated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=1000, help=f"updates of {BATCH} rows in each fit")
    parser.add_argument("--native", action="store_true", help="use the processor's bfloat16 products")
    parser.add_argument("--json", default="sampler_precision.json")
    given = parser.parse_args()
    if not given.native:
        _sampling.sampler_net = emulated  # type: ignore[assignment]
    torch.set_num_threads(1)
    cache, rows = FeatureCache(given.cache), []
    for backbone in given.backbone:
        selection = select(cache, backbone, given.dataset)
        train, test = (
            selection.open(split) for split in (selection.train_split(""), selection.test_split(""))
        )
        odd = {name: cache[f"{selection.backbone}/{name}/test"] for name in given.ood.split(",")}
        epochs = max(1, round(given.updates * BATCH / len(train)))
        for seed in range(given.seeds):
            row: dict[str, Any] = {"backbone": backbone.partition("@")[0], "seed": seed}
            for precision in ("float32", "bfloat16"):
                head = create_head(
                    "heat-gmm", "cifar10", **HEAT, epochs=epochs, seed=seed, sampler_precision=precision
                )
                began = time.process_time()
                head.fit(train)
                inside = head.score(test)
                areas = [100 * auroc(inside, head.score(outside)) for outside in odd.values()]
                row[precision] = float(np.mean(areas))
                row[f"{precision} s"] = round(time.process_time() - began)
            row["difference"] = row["bfloat16"] - row["float32"]
            rows.append(row)
            print(row, flush=True)
    show("mean AUROC in %", rows)
    save(given.json, environment(), rows=rows)


if __name__ == "__main__":
    main()
