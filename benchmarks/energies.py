"""Throughput of Langevin sampling and of radial flows, compared with loops over classes.

Both sides of a ratio are timed in the same run, and deterministic results are compared. The quality of learnt energies
is measured by ``densities.py``.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from common import save, show
from torch import Tensor, nn

from featood.energies import class_energy, frozen, sgld
from featood.flows import RadialFlows
from featood.nets.mlp import MLP
from featood.speed.environment import environment
from featood.speed.timing import seconds

STEP, NOISE = 0.01, 0.14


def loop_over_classes(net: nn.Module, start: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Sample class by class with `backward`, which also computes the gradients of all parameters."""
    found = torch.empty_like(start)
    for label in labels.unique().tolist():
        found[labels == label] = langevin(net, start[labels == label], label, steps)
    return found


def langevin(net: nn.Module, start: Tensor, label: int | Tensor, steps: int) -> Tensor:
    """Sample as in many training loops: with graphs through the parameters, whose gradients accumulate."""
    x = start.clone()
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        logits = net(x)
        own = logits[:, label] if isinstance(label, int) else logits.gather(1, label[:, None])
        (-own.sum()).backward()
        x = x - STEP * x.grad - NOISE * torch.randn_like(x)
    net.zero_grad()
    return x.detach()


def sampling(classes: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Time Langevin steps of chains distributed evenly over the classes."""
    generator = torch.Generator().manual_seed(0)
    net = MLP(given.size, [given.width] * 2, classes, "silu", generator)
    start = torch.randn(given.chains, given.size, generator=generator)
    labels = torch.arange(given.chains) % classes

    def ours() -> Tensor:
        with frozen(net):
            return sgld(
                class_energy(net, labels),
                start,
                steps=given.steps,
                step_size=STEP,
                noise=NOISE,
                generator=generator,
                final=1.0,
            )

    others = {
        "loop over classes": lambda: loop_over_classes(net, start, labels, given.steps),
        "one batch, with gradients of parameters": lambda: langevin(net, start, labels, given.steps),
    }
    mine, _ = seconds(ours, given.repeat)
    rows = []
    for name, run in others.items():
        theirs, _ = seconds(run, given.repeat)
        rate = given.chains * given.steps
        row = {"what": "Langevin steps", "classes": classes, "compared with": name}
        rows.append({**row, "ours /s": rate / mine, "theirs /s": rate / theirs, "ratio": theirs / mine})
    return rows


def textbook_density(flow: RadialFlows, rows: Tensor) -> Tensor:
    """Return log-densities ``[B]`` of the flow of one class, layer by layer."""
    alpha, beta = flow.coefficients()
    size, log_det = rows.shape[1], torch.zeros(())
    for layer in range(flow.centers.shape[1]):
        offset = rows - flow.centers[0, layer]
        radius = offset.norm(dim=1, keepdim=True)
        h = 1 / (alpha[0, layer] + radius)
        stretch = beta[0, layer] * h
        rows = rows + stretch * offset
        log_det = log_det + (size - 1) * torch.log1p(stretch) + torch.log1p(stretch - stretch * h * radius)
    return log_det.squeeze(1) - 0.5 * (rows.square().sum(1) + size * math.log(2 * math.pi))


def radial(classes: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the densities of all classes, and for few classes a training step, whose loop stores all activations."""
    flows = RadialFlows(classes, given.layers, given.size, torch.Generator().manual_seed(0))
    rows = torch.randn(given.rows, given.size, generator=torch.Generator().manual_seed(1))
    single = []
    for one in range(classes):
        flow = RadialFlows(1, given.layers, given.size)
        with torch.no_grad():
            for mine, all_classes in zip(flow.parameters(), flows.parameters(), strict=True):
                mine.copy_(all_classes[one : one + 1])
        single.append(flow)

    def loop() -> Tensor:
        return torch.stack([textbook_density(flow, rows) for flow in single], 1)

    def timed(what: str, ours: Any, theirs: Any, gap: float | None = None) -> dict[str, Any]:
        (mine, _), (other, _) = seconds(ours, given.repeat), seconds(theirs, given.repeat)
        rate = given.rows * classes
        row = {"what": what, "classes": classes, "ours /s": rate / mine, "theirs /s": rate / other}
        return {**row, "ratio": other / mine, "largest gap": gap}

    with torch.no_grad():
        gap = float((flows.log_density(rows) - loop()).abs().max())
        table = [timed("densities", lambda: flows.log_density(rows), loop, gap)]
    if classes <= 100:
        table.append(
            timed(
                "densities and gradients",
                lambda: flows.log_density(rows).sum().backward(),
                lambda: loop().sum().backward(),
            )
        )
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Langevin steps and radial flows versus loops over classes.")
    parser.add_argument("--size", type=int, default=512, help="features")
    parser.add_argument("--classes", default="10,1000", help="comma-separated")
    parser.add_argument("--chains", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5, help="Langevin steps")
    parser.add_argument("--width", type=int, default=512, help="units of the two hidden layers of the energy")
    parser.add_argument("--rows", type=int, default=256, help="rows for densities")
    parser.add_argument("--layers", type=int, default=6, help="layers of each flow")
    parser.add_argument("--repeat", type=int, default=3, help="number of runs; the fastest is reported")
    parser.add_argument("--json", help="write the tables as JSON")
    given = parser.parse_args()
    numbers = [int(text) for text in given.classes.split(",")]
    chains = [row for classes in numbers for row in sampling(classes, given)]
    show(f"{given.chains} chains of {given.size} features, {given.steps} steps, energies of classes", chains)
    flows = [row for classes in numbers for row in radial(classes, given)]
    show(f"Radial flows of {given.layers} layers on {given.rows} x {given.size} rows, versus a loop", flows)
    save(given.json, environment(), sampling=chains, radial=flows)


if __name__ == "__main__":
    main()
