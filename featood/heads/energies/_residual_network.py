"""The network of HEAT's residual energy."""

from __future__ import annotations

__all__ = ["residual_network", "without_limits"]

import torch
from torch import nn

from featood.nets.initialise import seeded
from featood.nets.linear import Linear
from featood.nets.lipschitz import LipschitzLinear
from featood.nets.mlp import MLP


def residual_network(
    size: int,
    width: int,
    depth: int,
    layout: str,
    generator: torch.Generator | None = None,
    lipschitz: float = 0.0,
) -> nn.Sequential:
    """Build the network of the residual energy, ``[B, size]`` to ``[B, 1]``, with leaky ReLUs (slope 0.2).

    Parameters
    ----------
    size, width, depth : int
        Number of features, units of the first layer, and number of hidden layers after it.
    layout : str
        ``tied``: all hidden layers share their weights (as in the published models); ``untied``: separate
        weights; ``halving``: each of `depth` stages has three layers, the last of which halves the width.
    generator : torch.Generator, optional
        Source of the initial weights.
    lipschitz : float
        Largest spectral norm of each layer; 0 for no limit.
    """
    if layout == "untied":
        return MLP(size, [width] * (depth + 1), 1, generator=generator, lipschitz=lipschitz)
    if layout == "halving":
        stages = [width >> stage for stage in range(depth)]
        hidden = [units for stage in stages for units in (stage, stage, stage // 2)]
        return MLP(size, [width, *hidden], 1, generator=generator, lipschitz=lipschitz)
    with seeded(generator):
        first, hidden_layer, last = (
            LipschitzLinear(*pair, lipschitz) if lipschitz else Linear(*pair)
            for pair in ((size, width), (width, width), (width, 1))
        )
    return nn.Sequential(first, nn.LeakyReLU(0.2), *[hidden_layer, nn.LeakyReLU(0.2)] * depth, last)


def without_limits(network: nn.Sequential) -> nn.Sequential:
    """Return the network with ordinary linear layers, whose matrices are those that layers with a limit use.

    Matrices are exact in evaluation mode, and samplers need not ask at each pass whether the weights have changed.
    """
    plain: dict[nn.Module, nn.Module] = {}
    for layer in network:
        plain[layer] = layer
        if isinstance(layer, LipschitzLinear):
            with torch.no_grad():
                matrix = layer.matrix()
            linear = plain[layer] = Linear(matrix.shape[1], matrix.shape[0], device="meta")
            linear.weight, linear.bias = nn.Parameter(matrix), layer.bias
    return nn.Sequential(*[plain[layer] for layer in network])
