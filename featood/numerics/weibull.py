"""Maximum-likelihood fits of many Weibull distributions at once."""

from __future__ import annotations

__all__ = ["log_hazard", "weibull"]

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BISECTIONS = 80


def weibull(
    values: Float[Tensor, "*batch M"], present: Bool[Tensor, "*batch M"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Shape and log-scale of two-parameter Weibull distributions, each fitted to one row of values.

    Parameters
    ----------
    values : Tensor
        ``[..., M]`` positive numbers in float64.
    present : Tensor
        ``[..., M]`` mask of the values to use.

    Returns
    -------
    shape, log_scale : Tensor
        ``[...]`` each; NaN for rows with fewer than two different values, whose likelihood has no maximum.
    """
    if values.shape[-1] == 0:
        nan = values.new_full(values.shape[:-1], torch.nan)
        return nan, nan
    count = present.sum(-1)
    logs = torch.where(present, values, torch.ones_like(values)).log()
    largest = logs.masked_fill(~present, -torch.inf).amax(-1, keepdim=True)
    below = torch.where(present, logs - largest, torch.zeros_like(logs))
    mean = below.sum(-1) / count

    def powers(shape: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch M"]:
        return (shape[..., None] * below).exp() * present

    # the derivative of the likelihood decreases monotonically with the shape, from positive to negative
    low = torch.full_like(mean, -20.0)
    high = torch.full_like(mean, 20.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        weights = powers(middle.exp())
        falling = (weights * below).sum(-1) / weights.sum(-1) - (-middle).exp() - mean > 0
        low, high = torch.where(falling, low, middle), torch.where(falling, middle, high)
    shape = ((low + high) / 2).exp()
    log_scale = largest[..., 0] + (powers(shape).sum(-1) / count).log() / shape
    degenerate = (count < 2) | (below.amin(-1) == 0)
    return shape.masked_fill(degenerate, torch.nan), log_scale.masked_fill(degenerate, torch.nan)


def log_hazard(
    values: Float[Tensor, "..."], shape: Float[Tensor, "..."], log_scale: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Logarithm of ``(x / scale)^shape``: the distribution function is ``1 - exp(-exp(log_hazard))``."""
    return shape * (values.log() - log_scale)
