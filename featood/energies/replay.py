"""Persistent chains, which continue sampling from their states at the previous step."""

from __future__ import annotations

__all__ = ["ReplayBuffer"]

import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from featood.energies.sgld import Energy, sgld


class ReplayBuffer(nn.Module):
    """Chains of persistent contrastive divergence, stored as a module buffer so that checkpoints contain them.

    Parameters
    ----------
    shape : sequence of int
        Shape of one sample.
    size : int
        Number of chains; rounded down to a multiple of `classes`, at least one per class.
    classes : int
        Number of equal blocks of chains, used by class-conditional draws.
    spread : float
        Initial states are uniform on ``[-spread, spread]``.
    restart : float
        Probability that a drawn chain is reinitialised.
    generator : torch.Generator
        Generator of the initial states.

    References
    ----------
    Tieleman, Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient, ICML 2008; buffer
    with restarts: Du and Mordatch, NeurIPS 2019.
    """

    samples: Float[Tensor, "chains ..."]
    restarted: Int[Tensor, ""]
    """Number of chains that diverged and were reinitialised."""

    def __init__(
        self,
        shape: tuple[int, ...],
        size: int = 10_000,
        *,
        generator: torch.Generator,
        classes: int = 1,
        spread: float = 1.0,
        restart: float = 0.05,
    ) -> None:
        super().__init__()
        self.block = max(1, size // classes)
        self.classes, self.spread, self.restart = classes, spread, restart
        self.register_buffer("samples", self._fresh((self.block * classes, *shape), generator))
        self.register_buffer("restarted", torch.tensor(0))

    def draw(
        self, count: int, generator: torch.Generator, labels: Int[Tensor, "{count}"] | None = None
    ) -> tuple[Int[Tensor, "{count}"], Float[Tensor, "{count} ..."]]:
        """Draw chains, from the blocks of the labels ``[count]`` if given.

        Returns
        -------
        chains, start : Tensor
            Numbers ``[count]`` and states ``[count, ...]`` of the chains, some reinitialised.
        """
        device = self.samples.device
        limit = len(self.samples) if labels is None else self.block
        chains = torch.randint(limit, (count,), generator=generator, device=generator.device).to(device)
        if labels is not None:
            chains = chains + self.block * labels
        fresh = self._fresh((count, *self.samples.shape[1:]), generator).to(self.samples)
        again = torch.rand(count, generator=generator, device=generator.device).to(device) < self.restart
        return chains, torch.where(again.reshape(-1, *[1] * (fresh.ndim - 1)), fresh, self.samples[chains])

    def put(self, chains: Int[Tensor, "B"], samples: Float[Tensor, "B ..."]) -> None:
        """Store the states of chains; if a chain occurs several times, the last state is stored, on every device."""
        order = torch.arange(len(chains), device=chains.device)
        last = order.new_full((len(self.samples),), -1).scatter_reduce(0, chains, order, "amax")
        kept = last[chains] == order
        self.samples[chains[kept]] = samples.detach()[kept]

    def sample(
        self,
        energy: Energy,
        count: int,
        *,
        steps: int,
        step_size: float,
        noise: float,
        generator: torch.Generator,
        labels: Int[Tensor, "{count}"] | None = None,
        gradient_limit: float | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> Float[Tensor, "{count} ..."]:
        """Draw chains, run Langevin steps of constant size (see :func:`sgld`), and store the new states.

        A chain that ends with a non-finite state or energy is reinitialised, so the returned samples are always finite.

        Returns
        -------
        Tensor
            ``[count, ...]`` detached.

        Warns
        -----
        UserWarning
            If a chain diverges for the first time; :attr:`restarted` counts all.
        """
        chains, start = self.draw(count, generator, labels)
        moved = sgld(
            energy,
            start,
            steps=steps,
            step_size=step_size,
            noise=noise,
            generator=generator,
            final=1.0,
            gradient_limit=gradient_limit,
            bounds=bounds,
        )
        with torch.no_grad():
            diverged = ~(torch.isfinite(moved).flatten(1).all(1) & torch.isfinite(energy(moved)))
        if bool(diverged.any()):
            moved[diverged] = self._fresh((int(diverged.sum()), *moved.shape[1:]), generator).to(moved)
            self._count(diverged)
        self.put(chains, moved)
        return moved

    def _count(self, diverged: Bool[Tensor, "B"]) -> None:
        if not int(self.restarted):
            warnings.warn(
                "Langevin chains diverged and were reinitialised; use a smaller step size or limit the gradient",
                stacklevel=3,
            )
        self.restarted += diverged.sum()

    def _fresh(self, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
        return self.spread * (2 * torch.rand(shape, generator=generator, device=generator.device) - 1)
