"""Stochastic gradient Langevin dynamics: samples of low energy, by descent with noise."""

from __future__ import annotations

__all__ = ["Energy", "decay", "frozen", "sgld"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

Energy = Callable[[Float[Tensor, "B ..."]], Float[Tensor, "B"]]
"""From inputs ``[B, ...]`` to energies ``[B]``; low = likely."""


def decay(step: int, steps: int, final: float) -> float:
    """Factor on step size and noise at `step`: quadratic from 1 at the first towards `final` after the last."""
    return final + (1 - final) * (1 - step / steps) ** 2


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model in evaluation mode without gradients to its parameters, and back at the end."""
    training = {module: module.training for module in model.modules()}
    learning = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        for module, was in training.items():
            module.training = was
        for parameter, was in learning.items():
            parameter.requires_grad_(was)


def sgld(
    energy: Energy,
    start: Float[Tensor, "B *shape"],
    *,
    steps: int,
    step_size: float,
    noise: float,
    generator: torch.Generator,
    final: float = 0.1,
    project: Callable[[Float[Tensor, "B *shape"]], Float[Tensor, "B *shape"]] | None = None,
    gradient_limit: float | None = None,
    bounds: tuple[float, float] | None = None,
) -> Float[Tensor, "B *shape"]:
    """Sample by ``x <- P(x - a_t dE/dx - b_t n)`` with normal noise n, and a_t, b_t decaying together.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``. Keep its parameters `frozen` meanwhile, so that only the inputs get gradients.
    start : Tensor
        ``[B, ...]`` where the chains begin.
    steps : int
        Number of steps; none returns the start.
    step_size, noise : float
        a_0 and b_0 (a standard deviation).
    generator : torch.Generator
        Source of the noise, on any device.
    final : float
        a_T / a_0 and b_T / b_0, approached along a quadratic; 1 keeps both constant.
    project : callable, optional
        P, back to where the data lie.
    gradient_limit : float, optional
        Clamp on each element of the gradient.
    bounds : pair of float, optional
        Clamp on each element of a sample, before P.

    Returns
    -------
    Tensor
        ``[B, ...]`` detached.

    References
    ----------
    Welling and Teh, Bayesian Learning via Stochastic Gradient Langevin Dynamics, ICML 2011; the decay is
    that of Lafon et al., Hybrid Energy Based Model in the Feature Space, ICML 2023.
    """
    x = start.detach()
    for step in range(steps):
        x.requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        if gradient_limit is not None:
            gradient = gradient.clamp(-gradient_limit, gradient_limit)
        draw = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        factor = decay(step, steps, final)
        x = x.detach() - factor * step_size * gradient - factor * noise * draw
        if bounds is not None:
            x = x.clamp(*bounds)
        if project is not None:
            x = project(x).detach()
    return x
