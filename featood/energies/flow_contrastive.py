"""Flow-contrastive estimation: noise-contrastive estimation against a flow trained to resemble the data."""

from __future__ import annotations

__all__ = ["Flow", "FlowContrastiveObjective", "flow_contrastive", "importance_likelihood"]

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.classifier import free_energy
from featood.energies.noise_contrastive import Noise, noise_contrastive
from featood.energies.objective import EnergyObjective
from featood.energies.sgld import Energy, frozen
from featood.options import option


@runtime_checkable
class Flow(Noise, Protocol):
    """A noise distribution given by an invertible map, differentiable in its parameters."""

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B *shape"]:
        """Map points ``[B, D]`` of the standard normal base to inputs."""


def flow_contrastive(
    energy: Energy, rows: Float[Tensor, "B *shape"], flow: Flow, generator: torch.Generator
) -> dict[str, Float[Tensor, ""]]:
    """Return the flow's loss against an energy that classifies data and draws by ``-E(x) - log q(x)``.

    It is the logistic loss of :func:`noise_contrastive` with exchanged labels. The loss of the energy is
    :func:`noise_contrastive` with the flow as noise. Keep the parameters that must not be updated `frozen`.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``.
    rows : Tensor
        Data ``[B, ...]``.
    flow : Flow
        q; its parameters get gradients through its draws and its density.
    generator : torch.Generator
        Generator of the draws.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the share that the energy classifies correctly as ``accuracy``.

    References
    ----------
    Gao et al., Flow Contrastive Estimation of Energy-Based Models, CVPR 2020.
    """
    shape = len(rows), rows[0].numel()
    base = torch.randn(shape, generator=generator, device=generator.device, dtype=rows.dtype)
    draws = flow.inverse(base.to(rows.device))
    data_margin = -energy(rows) - flow.log_density(rows)
    draw_margin = -energy(draws) - flow.log_density(draws)
    loss = F.softplus(data_margin).mean() + F.softplus(-draw_margin).mean()
    correct = torch.cat([data_margin > 0, draw_margin < 0])
    return {"loss": loss, "accuracy": correct.double().mean()}


def importance_likelihood(
    energy: Energy, rows: Float[Tensor, "B D"], noise: Noise, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of rows ``[B, D]``, with the energy normalised by importance sampling.

    ``mean E(x) + log mean exp(-E(x~) - log q(x~))`` with as many draws as rows. Unlike a contrastive loss, it can be
    compared between steps with different noise distributions.
    """
    draws = noise.sample(len(rows), generator).to(rows)
    log_weights = -energy(draws) - noise.log_density(draws)
    return energy(rows).mean() + log_weights.logsumexp(0) - math.log(len(rows))


class Turn(nn.Module):
    """Whether the flow is updated next."""

    gather: Callable[[Tensor], Tensor] = staticmethod(lambda values: values)
    """From the values of this process to those of all that train together, so that all have the same turn."""
    of_flow: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("of_flow", torch.tensor(False))


@dataclasses.dataclass(kw_only=True, eq=False)
class FlowContrastiveObjective(EnergyObjective):
    """Learn an energy that tells inputs from draws of a flow, and the flow to resemble the inputs, in turns.

    Each step updates one of the two: the flow after a batch on which the energy was more accurate than `threshold`,
    otherwise the energy. A subclass makes the flow, and trains it with another learning rate than the energy.
    """

    transient: ClassVar[tuple[str, ...]] = ("turn",)

    threshold: float = option(0.55, "accuracy of the energy above which the flow is updated", low=0, high=1)

    def make_flow(self, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Return a flow of inputs of a shape."""
        raise NotImplementedError

    def energy_parts(
        self, shape: tuple[int, ...], classes: int, generator: torch.Generator
    ) -> dict[str, nn.Module]:
        """Return the ``flow``, and the record of the ``turn``."""
        return {"flow": self.make_flow(shape, generator), "turn": Turn()}

    def start_parts(
        self,
        parts: Mapping[str, Any],
        batches: Iterable[tuple[Tensor, Tensor]],
        generator: torch.Generator,
    ) -> None:
        """Initialise the normalisations of the flow by the first batch."""
        parts["flow"].initialize(next(iter(batches))[0])

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the loss of the network to be updated; the other gets no gradients and thus no update."""
        flow, turn = parts["flow"], parts["turn"].of_flow
        now = bool(turn)
        learn = flow_contrastive if now else noise_contrastive
        with frozen(net if now else flow):
            losses = learn(free_energy(net), rows, flow, generator)
        turn.fill_(float(parts["turn"].gather(losses["accuracy"].detach()[None]).mean()) >= self.threshold)
        return losses
