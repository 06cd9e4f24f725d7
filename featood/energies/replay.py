"""Persistent chains, which continue sampling from their states at the previous step."""

from __future__ import annotations

__all__ = ["ReplayBuffer", "SampledObjective", "put_last", "random_classes"]

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from featood.energies.chain_starts import STARTS, UniformStarts
from featood.energies.classifier import class_energy, free_energy
from featood.energies.objective import EnergyObjective
from featood.energies.sgld import SAMPLER_PRECISIONS, Energy, sampler_net, sgld
from featood.options import option


class ReplayBuffer(nn.Module):
    """Chains of persistent contrastive divergence, stored as a module buffer so that checkpoints contain them.

    Parameters
    ----------
    starts : Module
        Draws initial states, such as :class:`~featood.energies.chain_starts.UniformStarts`. Chains are in as many equal
        blocks as it has classes, used by class-conditional draws.
    size : int
        Number of chains; rounded down to a multiple of the number of classes, at least one per class.
    restart : float
        Probability that a drawn chain is reinitialised.
    generator : torch.Generator
        Generator of the initial states.

    References
    ----------
    Tieleman, Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient, ICML 2008; buffer
    with restarts: Du and Mordatch, NeurIPS 2019.
    """

    gather: Callable[[Tensor], Tensor] = staticmethod(lambda rows: rows)
    """From the rows of this process to those of all that train together, so that all have the same chains."""
    samples: Float[Tensor, "chains ..."]
    restarted: Int[Tensor, ""]
    """Number of chains that diverged and were reinitialised."""

    def __init__(
        self, starts: UniformStarts, size: int = 10_000, *, generator: torch.Generator, restart: float = 0.05
    ) -> None:
        super().__init__()
        self.starts, self.classes, self.restart = starts, starts.classes, restart
        self.block = max(1, size // self.classes)
        self.register_buffer("samples", self._fresh(torch.arange(self.block * self.classes), generator))
        self.register_buffer("restarted", torch.tensor(0))

    def start_from(self, batches: Iterable[tuple[Tensor, Tensor]], generator: torch.Generator) -> None:
        """Fit the distribution of initial states to rows ``[B, ...]`` and labels ``[B]``, and restart all chains."""
        self.starts.fit(batches)
        self.samples.copy_(self._fresh(torch.arange(len(self.samples)), generator))

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
        fresh = self._fresh(chains, generator).to(self.samples)
        again = torch.rand(count, generator=generator, device=generator.device).to(device) < self.restart
        return chains, torch.where(again.reshape(-1, *[1] * (fresh.ndim - 1)), fresh, self.samples[chains])

    def put(self, chains: Int[Tensor, "B"], samples: Float[Tensor, "B ..."]) -> None:
        """Store the states of chains; see :func:`put_last`."""
        put_last(self.samples, chains, samples.detach())

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
            moved[diverged] = self._fresh(chains[diverged], generator).to(moved)
            self._count(diverged)
        self.put(self.gather(chains), self.gather(moved))
        return moved

    def _count(self, diverged: Bool[Tensor, "B"]) -> None:
        if not int(self.restarted):
            warnings.warn(
                "Langevin chains diverged and were reinitialised; use a smaller step size or limit the gradient",
                stacklevel=3,
            )
        self.restarted += diverged.sum()

    def _fresh(self, chains: Int[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B ..."]:
        return self.starts(chains // self.block, generator)


@dataclasses.dataclass(kw_only=True, eq=False)
class SampledObjective(EnergyObjective):
    """Base of the objectives with Langevin samples that are kept in a replay buffer.

    By default the noise is that of exact Langevin dynamics, with variance twice the step size, so that samples
    follow the density ``exp(-E)``.
    """

    transient: ClassVar[tuple[str, ...]] = ("chains",)

    sgld_steps: int = option(20, "Langevin steps between two updates", low=1)
    step_size: float = option(0.1, "Langevin step size", low=0)
    noise: float = option(0.447, "standard deviation of the Langevin noise", low=0)
    buffer_size: int = option(10_000, "number of persistent chains in the replay buffer", low=1)
    restart: float = option(0.05, "probability that a chain is reinitialised", low=0, high=1)
    start: str = option(
        "uniform",
        "distribution of the initial states of chains; normal: that of the training rows of each class (JEM++)",
        choices=tuple(STARTS),
    )
    spread: float = option(3.0, "initial states are in [-spread, spread]", low=0)
    gradient_clip: float = option(
        0.0, "largest absolute value of each element of the sampler's gradient; 0 for no limit", low=0
    )
    value_clamp: float = option(
        0.0, "largest absolute value of each element of a sample; 0 for no limit", low=0
    )

    sampler_precision: str = option(
        "float32",
        "precision of the network in the sampler; bfloat16 is faster on processors with matrix units for it",
        choices=SAMPLER_PRECISIONS,
    )

    def energy_parts(
        self, shape: tuple[int, ...], classes: int, generator: torch.Generator
    ) -> dict[str, nn.Module]:
        """Return the ``chains``, in a block for each logit."""
        starts = STARTS[self.start](shape, self.outputs(classes), self.spread)
        chains = ReplayBuffer(starts, self.buffer_size, generator=generator, restart=self.restart)
        return {"chains": chains}

    def start_parts(
        self,
        parts: Mapping[str, Any],
        batches: Iterable[tuple[Tensor, Tensor]],
        generator: torch.Generator,
    ) -> None:
        """Start the chains from the distribution of the training rows, if that is how they start."""
        if self.start != "uniform":
            parts["chains"].start_from(batches, generator)

    @property
    def sampling(self) -> dict[str, Any]:
        """Arguments of the sampler."""
        return {
            "steps": self.sgld_steps,
            "step_size": self.step_size,
            "noise": self.noise,
            "gradient_limit": self.gradient_clip or None,
            "bounds": (-self.value_clamp, self.value_clamp) if self.value_clamp else None,
        }

    def samples(
        self,
        net: nn.Module,
        chains: ReplayBuffer,
        count: int,
        generator: torch.Generator,
        labels: Int[Tensor, "{count}"] | None = None,
        energy: Callable[[nn.Module], Energy] = free_energy,
    ) -> Float[Tensor, "{count} ..."]:
        """Sample from an energy of a network, whose parameters get no gradients.

        Parameters
        ----------
        net : Module
            From inputs ``[B, ...]`` to logits ``[B, C]``.
        chains : ReplayBuffer
            Where samples start and end.
        count : int
            Number of samples.
        generator : torch.Generator
            Generator of all draws.
        labels : Tensor, optional
            Classes ``[count]``, from whose energies is sampled, in place of `energy`.
        energy : callable
            From the network to the energy, by default the free energy.
        """
        with sampler_net(net, self.sampler_precision) as fast:
            of = energy(fast) if labels is None else class_energy(fast, labels)
            return chains.sample(of, count, labels=labels, generator=generator, **self.sampling)


def put_last(
    states: Float[Tensor, "chains *shape"] | Int[Tensor, "chains *shape"],
    chains: Int[Tensor, "B"],
    moved: Float[Tensor, "B *shape"] | Int[Tensor, "B *shape"],
) -> None:
    """Store new states of chains; if a chain occurs several times, the last state is stored, on every device."""
    order = torch.arange(len(chains), device=chains.device)
    last = order.new_full((len(states),), -1).scatter_reduce(0, chains, order, "amax")
    kept = last[chains] == order
    states[chains[kept]] = moved[kept]


def random_classes(count: int, chains: ReplayBuffer, generator: torch.Generator) -> Int[Tensor, "{count}"]:
    """Draw a class ``[count]`` for each of some samples."""
    drawn = torch.randint(chains.classes, (count,), generator=generator, device=generator.device)
    return drawn.to(chains.samples.device)
