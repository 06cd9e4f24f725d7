"""The sampler of HEAT's negatives: Langevin dynamics or Stein variational descent, with persistent chains."""

from __future__ import annotations

__all__ = ["SampledNegatives"]

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from featood.energies.recent_samples import RecentSamples
from featood.energies.sgld import SAMPLER_PRECISIONS, Gradient, sampler_net, sgld
from featood.energies.svgd import svgd
from featood.errors import UsageError
from featood.heads.base.head import Head
from featood.heads.energies._priors import FREE
from featood.heads.energies._residual_network import without_limits
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class SampledNegatives(Head):
    """Options of the sampler, and the negatives that it makes of proposals."""

    proposals: str = option(
        "normal", "standard normal rows, uniform rows on [-2, 2], or the batch itself", choices=FREE
    )

    sampler: str = option(
        "sgld",
        "Langevin dynamics, or Stein variational gradient descent: all samples of a batch move together and repel each "
        "other, without noise",
        choices=("sgld", "svgd"),
    )
    sgld_steps: int = option(0, "steps of the sampler", low=0)
    step_size: float = option(1e-4, "initial step size; that of Langevin steps decays to a tenth", low=0)
    noise: float = option(5e-3, "initial standard deviation of the Langevin noise, decayed to a tenth", low=0)
    sampler_precision: str = option(
        "float32",
        "precision of the network in the sampler; bfloat16 is faster on processors with matrix units for it",
        choices=SAMPLER_PRECISIONS,
    )
    buffer_size: int = option(
        0,
        "number of samples to keep, from which later ones continue once half of them are there; 0 for none",
        low=0,
    )
    restart: float = option(
        0.1, "probability that a sample starts from a proposal although some are kept", low=0, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buffer_size and not self.sgld_steps:
            raise UsageError(f"{self.name}: samples are kept to move on; set sgld_steps, or omit buffer_size")
        if self.proposals == "data" and not self.sgld_steps:
            raise UsageError(
                f"{self.name}: the data as proposals must move away from the data; set sgld_steps"
            )

    def make_buffer(self, size: int) -> RecentSamples | None:
        """Make the buffer of samples of `size` features, if they are kept."""
        return RecentSamples(self.buffer_size, (size,), self.restart) if self.buffer_size else None

    def negatives(
        self,
        network: nn.Sequential,
        start: Tensor,
        *,
        temperature: float,
        known: Gradient,
        project: Callable[[Tensor], Tensor],
        kept: RecentSamples | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Return samples and where they started ``[2 B, D]``; without steps, the proposals.

        Parameters
        ----------
        network : Sequential
            The energy to sample from is its output over `temperature`, and a term of which `known` is the gradient.
        start : Tensor
            ``[B, D]`` proposals.
        temperature, known, project
            See `network`, and :func:`sgld`.
        kept : RecentSamples, optional
            Samples from which to continue.
        generator : torch.Generator
            Generator of all draws.
        """
        if not self.sgld_steps:
            return start
        if kept is not None:
            start = kept.starts(start, generator)
        with sampler_net(without_limits(network), self.sampler_precision) as fast:

            def energy(rows: Tensor) -> Tensor:
                return fast(rows).squeeze(1) / temperature

            if self.sampler == "svgd":
                samples = svgd(
                    energy,
                    start,
                    steps=self.sgld_steps,
                    step_size=self.step_size,
                    project=project,
                    known=known,
                )
            else:
                samples = sgld(
                    energy,
                    start,
                    steps=self.sgld_steps,
                    step_size=self.step_size,
                    noise=self.noise,
                    generator=generator,
                    project=project,
                    known=known,
                )
        if kept is not None:
            kept.put(samples)
        return torch.cat([samples, start])
