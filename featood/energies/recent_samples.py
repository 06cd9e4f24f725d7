"""The last samples of a sampler, from which its chains continue."""

from __future__ import annotations

__all__ = ["RecentSamples"]

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class RecentSamples(nn.Module):
    """Samples from which chains continue, stored as a module buffer so that checkpoints contain them.

    Unlike the chains of a :class:`~featood.energies.replay.ReplayBuffer`, they are not there from the start: the newest
    samples replace the oldest, and chains continue once half of the places are taken.

    Parameters
    ----------
    size : int
        Largest number of samples.
    shape : sequence of int
        Shape of a sample.
    restart : float
        Probability that a chain does not continue from a stored sample.

    References
    ----------
    Du and Mordatch, Implicit Generation and Modeling with Energy-Based Models, NeurIPS 2019.
    """

    samples: Float[Tensor, "size ..."]
    stored: Int[Tensor, ""]
    """Number of samples stored so far, including those that were replaced."""

    def __init__(self, size: int, shape: tuple[int, ...], restart: float) -> None:
        super().__init__()
        self.restart = restart
        self.register_buffer("samples", torch.zeros(size, *shape))
        self.register_buffer("stored", torch.tensor(0))

    def starts(
        self, fresh: Float[Tensor, "B *shape"], generator: torch.Generator
    ) -> Float[Tensor, "B *shape"]:
        """Replace each of some new states ``[B, ...]`` by a stored sample, with probability ``1 - restart``."""
        filled = min(int(self.stored), len(self.samples))
        if 2 * filled < len(self.samples):
            return fresh
        count, device = len(fresh), generator.device
        picks = torch.randint(filled, (count,), generator=generator, device=device).to(fresh.device)
        restarts = torch.rand(count, generator=generator, device=device).to(fresh.device) < self.restart
        return fresh.where(restarts.reshape(-1, *[1] * (fresh.ndim - 1)), self.samples[picks])

    def put(self, samples: Float[Tensor, "B *shape"]) -> None:
        """Store samples ``[B, ...]`` in the places of the oldest; of more than there are places, the last."""
        size = len(self.samples)
        places = (self.stored + torch.arange(len(samples), device=self.stored.device)) % size
        self.samples[places[-size:]] = samples.detach()[-size:]
        self.stored += len(samples)
