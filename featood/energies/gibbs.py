"""Gibbs with gradients: samples of an energy of tokens, one token changed at a step."""

from __future__ import annotations

__all__ = ["gibbs_with_gradients"]

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featood.energies.sgld import Energy


def gibbs_with_gradients(
    energy: Energy, start: Int[Tensor, "B L"], classes: int, *, steps: int, generator: torch.Generator
) -> Int[Tensor, "B L"]:
    """Sample sequences of tokens by Metropolis-Hastings with proposals that know the energy's gradient.

    A step proposes to set token i to v with probability ``q(i, v | x)`` proportional to ``exp(d(i, v) / 2)``, where
    d is what the gradient with respect to the one-hot input says of the energy's decrease, and accepts with
    probability ``min(1, exp(E(x) - E(x')) q(i, x_i | x') / q(i, v | x))``: the chain has the density ``exp(-E)``
    whatever the gradient is worth. No token is proposed to stay as it is. One gradient a step serves the
    proposal and the next step's reverse.

    Parameters
    ----------
    energy : callable
        One-hot sequences ``[B, L, K]`` in float32 to ``[B]``, differentiable. Keep its parameters `frozen`.
    start : Tensor
        Tokens ``[B, L]``, int64, below `classes`.
    classes : int
        K, two or more.
    steps : int
        Number of steps; none returns the start.
    generator : torch.Generator
        Source of proposals and decisions, on any device.

    Returns
    -------
    Tensor
        Tokens ``[B, L]``.

    References
    ----------
    Grathwohl et al., Oops I Took A Gradient: Scalable Sampling for Discrete Distributions, ICML 2021.
    """
    tokens = start.detach()
    level, log_q = _proposal(energy, tokens, classes)
    for _ in range(steps):
        # of exponential clocks with these rates, the first to ring is a draw
        choice = (log_q.exp() / _exponential(log_q, generator)).argmax(1, keepdim=True)
        place = choice // classes
        back = place * classes + tokens.gather(1, place)
        moved = tokens.scatter(1, place, choice % classes)
        moved_level, moved_log_q = _proposal(energy, moved, classes)
        reverse = moved_log_q.gather(1, back) - log_q.gather(1, choice)
        log_ratio = level - moved_level + reverse.squeeze(1)
        accepted = _exponential(level, generator) > -log_ratio
        tokens = torch.where(accepted[:, None], moved, tokens)
        level = torch.where(accepted, moved_level, level)
        log_q = torch.where(accepted[:, None], moved_log_q, log_q)
    return tokens


def _proposal(
    energy: Energy, tokens: Int[Tensor, "B L"], classes: int
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B L*{classes}"]]:
    """Return energies ``[B]`` and, for every change of one token, the logarithm of its probability ``[B, L K]``."""
    one_hot = F.one_hot(tokens, classes).float().requires_grad_(True)
    with torch.enable_grad():
        level = energy(one_hot)
        (gradient,) = torch.autograd.grad(level.sum(), one_hot)
    decrease = gradient.gather(2, tokens[:, :, None]) - gradient
    changes = (decrease / 2).masked_fill(one_hot.detach().bool(), -torch.inf)
    return level.detach(), changes.flatten(1).log_softmax(1)


def _exponential(like: Float[Tensor, "*shape"], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    draws = torch.empty(like.shape, device=generator.device, dtype=like.dtype)
    return draws.exponential_(generator=generator).clamp_(min=torch.finfo(like.dtype).tiny).to(like.device)
