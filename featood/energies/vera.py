"""VERA: training of an energy against a generator whose entropy is estimated by importance sampling."""

from __future__ import annotations

__all__ = [
    "LEAST_SIGMA", "SupervisedVeraObjective", "VeraObjective", "VeraSampler", "gradient_penalty", "vera_loss",
]  # fmt: skip

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.classifier import classification_loss, free_energy
from featood.energies.gaussian_base import TiltedNet, learned_energy
from featood.energies.objective import EnergyObjective
from featood.energies.sgld import Energy
from featood.options import option

LEAST_SIGMA = 0.01


class VeraSampler(nn.Module):
    """Generator ``x = g(h) + sigma e`` with normal h and e, and a Gaussian posterior of h.

    Parameters
    ----------
    network : Module
        g, from ``[B, size]`` to ``[B, ...]``, independently for each row (no batch normalisation).
    size : int
        Dimensions of h.
    sigma : pair of float
        Bounds of sigma, whose initial value is the upper bound (in the paper, the lower bound): the estimated gradient
        of the entropy is proportional to 1 / sigma, and for a small sigma it dominates that of the energy early in
        training.
    posterior : float
        Initial standard deviation of the posterior, in each dimension of h.
    """

    def __init__(
        self,
        network: nn.Module,
        size: int,
        *,
        sigma: tuple[float, float] = (0.01, 0.3),
        posterior: float = 0.1,
    ) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.bounds = math.log(sigma[0]), math.log(sigma[1])
        self.log_sigma = nn.Parameter(torch.tensor(self.bounds[1]))
        self.log_posterior = nn.Parameter(torch.full((size,), math.log(posterior)))

    @property
    def sigma(self) -> Float[Tensor, ""]:
        """Standard deviation of the noise, within its bounds."""
        with torch.no_grad():  # projection after each step; the gradient is not affected
            self.log_sigma.clamp_(*self.bounds)
        return self.log_sigma.exp()

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "{count} ..."], Float[Tensor, "{count} {self.size}"]]:
        """Draw ``x [count, ...]``, which is differentiable, and its ``h [count, size]``."""
        h = _normal((count, self.size), generator, self.log_posterior)
        mean = self.network(h)
        return mean + self.sigma * _normal(tuple(mean.shape), generator, mean), h

    def entropy_gradient(
        self, x: Float[Tensor, "B *shape"], h: Float[Tensor, "B size"], draws: int, generator: torch.Generator
    ) -> Float[Tensor, "B *shape"]:
        """Estimate ``-d log q(x)/dx`` ``[B, ...]`` by self-normalised importance sampling around the true h.

        Parameters
        ----------
        x, h : Tensor
            As returned by :meth:`sample`.
        draws : int
            Number of proposals per row, from ``N(h, posterior^2)``.
        generator : torch.Generator
            Generator of the proposals.
        """
        with torch.no_grad():
            width = self.log_posterior.exp()
            noise = _normal((draws, *h.shape), generator, h)
            near = h + width * noise
            offsets = x - self.network(near.flatten(0, 1)).unflatten(0, (draws, len(h)))
            variance = self.sigma.square()
            fit = -0.5 * offsets.flatten(2).square().sum(2) / variance
            # the normalising constant of the proposal is the same for all draws
            weights = (fit - 0.5 * near.square().sum(2) + 0.5 * noise.square().sum(2)).softmax(0)
            return (weights.reshape(*weights.shape, *[1] * (x.ndim - 1)) * offsets).sum(0) / variance

    def posterior_loss(
        self, x: Float[Tensor, "B ..."], h: Float[Tensor, "B size"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the negative evidence lower bound of x, with gradients only for the width of the posterior."""
        x, h = x.detach(), h.detach()
        near = h + self.log_posterior.exp() * _normal(tuple(h.shape), generator, h)
        at = near.detach().requires_grad_(True)
        with torch.enable_grad():
            offsets = (x - self.network(at)).flatten(1)
            joint = -0.5 * offsets.square().sum(1) / self.sigma.detach().square() - 0.5 * at.square().sum(1)
            (slope,) = torch.autograd.grad(joint.sum(), at)
        return -(slope * near).sum(1).mean() - self.log_posterior.sum()


def vera_loss(
    energy: Energy,
    sampler: VeraSampler,
    rows: Float[Tensor, "B ..."],
    generator: torch.Generator,
    *,
    entropy: float = 1e-4,
    penalty: float = 0.1,
    l2: float = 0.0,
    draws: int = 20,
    learned: Energy | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return the sum of the losses of energy, generator and posterior, which have gradients only for their parameters.

    The energy minimises ``mean E(x) - mean E(x~) + penalty/2 mean |dE/dx|^2 + l2 (mean E(x)^2 + mean E(x~)^2)``. The
    generator minimises ``mean E(x~) - entropy H(q)``, with the gradient of ``<dE/dx~ - entropy c, x~>``, where c is the
    estimated gradient of the entropy. The posterior maximises its evidence lower bound. One step on the sum updates all
    three, so one optimiser with three learning rates is sufficient.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``.
    sampler : VeraSampler
        Generator of inputs with the shape of the rows.
    rows : Tensor
        Data ``[B, ...]``.
    generator : torch.Generator
        Random generator.
    entropy, penalty, l2 : float
        Weights of the generator's entropy, of the gradient penalty on data, and of the squared energies. With the
        squares, energies are within ``1 / (2 l2)`` of zero, and barriers between modes are low; at the optimum, the
        energy is ``(q - p) / (2 l2 (p + q))``, which decreases with p if q is proportional to ``exp(-E)``.
    draws : int
        Number of proposals of the importance sampling.
    learned : callable, optional
        The part of the energy that is learned, ``[B, ...]`` to ``[B]``, to which the weights and the returned energies
        apply; by default the energy.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the mean energies ``positive`` and ``negative``.

    References
    ----------
    Grathwohl et al., No MCMC for Me: Amortized Sampling for Fast and Stable Training of Energy-Based Models,
    ICLR 2021.
    """
    x, h = sampler.sample(len(rows), generator)
    at = x.detach().requires_grad_(True)
    with torch.enable_grad():
        high = energy(at)
        (slope,) = torch.autograd.grad(high.sum(), at, retain_graph=learned is None)
    if learned is None:
        learned = energy
    else:
        high = learned(x.detach())
    low = learned(rows)
    direction = slope - entropy * sampler.entropy_gradient(x.detach(), h, draws, generator)
    loss = low.mean() - high.mean() + (direction * x).flatten(1).sum(1).mean()
    if l2:
        loss = loss + l2 * (low.square().mean() + high.square().mean())
    if penalty:
        loss = loss + penalty * gradient_penalty(learned, rows)
    loss = loss + sampler.posterior_loss(x, h, generator)
    return {"loss": loss, "positive": low.mean(), "negative": high.mean()}


def gradient_penalty(energy: Energy, rows: Float[Tensor, "B ..."]) -> Float[Tensor, ""]:
    """Return ``(1/2) mean |dE/dx|^2`` over rows ``[B, ...]``."""
    rows = rows.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(energy(rows).sum(), rows, create_graph=True)
    return 0.5 * slope.flatten(1).square().sum(1).mean()


def _normal(
    shape: tuple[int, ...], generator: torch.Generator, like: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


@dataclasses.dataclass(kw_only=True, eq=False)
class VeraObjective(EnergyObjective):
    """Learn an energy by contrast with samples of an entropy-regularised generator; see :func:`vera_loss`.

    A subclass makes the generator, and trains it with another learning rate than the energy.
    """

    transient: ClassVar[tuple[str, ...]] = ("sampler",)

    noise_size: int = option(16, "input size of the generator; 0 for the size of the inputs", low=0)
    sigma: float = option(
        0.3,
        "initial and largest standard deviation of the generator's noise, which is learned",
        low=LEAST_SIGMA,
    )
    entropy: float = option(1.0, "weight of the generator's entropy; 1 is maximum likelihood", low=0)
    penalty: float = option(0.1, "weight of the squared gradient of the energy at the inputs", low=0)
    l2: float = option(0.2, "weight of the squared energies in the loss", low=0)
    l2_per_feature: bool = option(
        True, "divide that weight by the size of the inputs, because energies grow with it"
    )
    draws: int = option(20, "proposals of the importance sampling", low=1)

    def generator_net(self, size: int, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Return the generator's network, from noise ``[B, size]`` to inputs ``[B, *shape]``."""
        raise NotImplementedError

    def energy_parts(
        self, shape: tuple[int, ...], classes: int, generator: torch.Generator
    ) -> dict[str, nn.Module]:
        """Return the ``sampler``."""
        size = self.noise_size or math.prod(shape)
        network = self.generator_net(size, shape, generator)
        return {"sampler": VeraSampler(network, size, sigma=(LEAST_SIGMA, self.sigma))}

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Draw samples from the generator and return the losses of energy, generator and posterior."""
        return vera_loss(
            free_energy(net),
            parts["sampler"],
            rows,
            generator,
            entropy=self.entropy,
            penalty=self.penalty,
            l2=self.l2 / (rows[0].numel() if self.l2_per_feature else 1),
            draws=self.draws,
            learned=learned_energy(net) if isinstance(net, TiltedNet) else None,
        )


@dataclasses.dataclass(kw_only=True, eq=False)
class SupervisedVeraObjective(VeraObjective):
    """Learn a classifier, and its free energy by contrast with samples of a generator."""

    supervised: ClassVar[bool] = True

    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Add the cross-entropy."""
        losses = super().energy_losses(net, parts, rows, labels, generator)
        named = classification_loss(net, rows, labels)
        return {**losses, "loss": losses["loss"] + self.classification * named, "classification": named}
