"""Gibbs with gradients: sampling from an energy of tokens, changing one token per step."""

from __future__ import annotations

__all__ = ["TokenChains", "gibbs_with_gradients"]

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.energies.replay import put_last
from featood.energies.sgld import Energy


def gibbs_with_gradients(
    energy: Energy, start: Int[Tensor, "B L"], classes: int, *, steps: int, generator: torch.Generator
) -> Int[Tensor, "B L"]:
    """Sample sequences of tokens by Metropolis-Hastings with proposals from the energy's gradient.

    A step proposes to set token i to v with probability ``q(i, v | x)`` proportional to ``exp(d(i, v) / 2)``, where d
    is the decrease of the energy estimated from the gradient with respect to the one-hot input, and accepts with
    probability ``min(1, exp(E(x) - E(x')) q(i, x_i | x') / q(i, v | x))``. The chain has the stationary distribution
    ``exp(-E)``, however accurate the estimate is. Proposals always change a token. Each step needs one gradient, which
    is used for the proposal and for the reverse probability.

    Parameters
    ----------
    energy : callable
        Maps one-hot sequences ``[B, L, K]`` in float32 to ``[B]``, differentiable. Keep its parameters `frozen`.
    start : Tensor
        Tokens ``[B, L]``, int64, below `classes`.
    classes : int
        Number of token values K, at least two.
    steps : int
        Number of steps; 0 returns `start`.
    generator : torch.Generator
        Generator of proposals and decisions, on any device.

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
        # the index of the smallest of independent exponential variables with these rates is a draw
        choice = (log_q.exp() / _exponential(log_q, generator)).argmax(1, keepdim=True)
        position = choice // classes
        back = position * classes + tokens.gather(1, position)
        moved = tokens.scatter(1, position, choice % classes)
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
    """Return energies ``[B]`` and the log-probabilities of all changes of one token ``[B, L K]``."""
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


class TokenChains(nn.Module):
    """Persistent chains of token sequences, stored as a module buffer so that checkpoints contain them.

    Parameters
    ----------
    length, classes : int
        Tokens of a sequence, and their number of values K.
    size : int
        Number of chains, which start uniformly.
    restart : float
        Probability that a drawn chain is reinitialised.
    generator : torch.Generator
        Generator of the initial states.
    """

    tokens: Int[Tensor, "chains L"]

    def __init__(
        self, length: int, classes: int, size: int, *, generator: torch.Generator, restart: float = 0.05
    ) -> None:
        super().__init__()
        self.classes, self.restart = classes, restart
        self.register_buffer("tokens", self._fresh(size, length, generator))

    def sample(
        self, energy: Energy, count: int, *, steps: int, generator: torch.Generator
    ) -> Int[Tensor, "{count} L"]:
        """Draw chains, run :func:`gibbs_with_gradients`, store and return the new states ``[count, L]``."""
        device, length = self.tokens.device, self.tokens.shape[1]
        chains = torch.randint(len(self.tokens), (count,), generator=generator, device=generator.device)
        again = torch.rand(count, generator=generator, device=generator.device) < self.restart
        fresh = self._fresh(count, length, generator).to(device)
        start = torch.where(again.to(device)[:, None], fresh, self.tokens[chains.to(device)])
        moved = gibbs_with_gradients(energy, start, self.classes, steps=steps, generator=generator)
        put_last(self.tokens, chains.to(device), moved)
        return moved

    def _fresh(self, count: int, length: int, generator: torch.Generator) -> Int[Tensor, "{count} {length}"]:
        shape = (count, length)
        return torch.randint(self.classes, shape, generator=generator, device=generator.device)
