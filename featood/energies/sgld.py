"""Stochastic gradient Langevin dynamics: sampling from an energy by gradient descent with noise."""

from __future__ import annotations

__all__ = ["SAMPLER_PRECISIONS", "Energy", "Gradient", "decay", "frozen", "sampler_net", "sgld"]

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

Energy = Callable[[Float[Tensor, "B ..."]], Float[Tensor, "B"]]
"""Maps inputs ``[B, ...]`` to energies ``[B]``; low = likely."""
Gradient = Callable[[Float[Tensor, "B ..."]], Float[Tensor, "B ..."]]
"""Maps inputs ``[B, ...]`` to the gradient of an energy at each, ``[B, ...]``."""


def decay(step: int, steps: int, final: float) -> float:
    """Return the factor on step size and noise at `step`, which decays quadratically from 1 towards `final`."""
    return final + (1 - final) * (1 - step / steps) ** 2


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Set a model to evaluation mode, without gradients of its parameters, within a context."""
    training = {module: module.training for module in model.modules()}
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        for module, was in training.items():
            module.training = was
        for parameter, was in requires_grad.items():
            parameter.requires_grad_(was)


SAMPLER_PRECISIONS = ("float32", "bfloat16")


class _Reduced(nn.Module):
    """A network in bfloat16, with inputs and outputs in other types."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        return self.net(x.bfloat16()).to(x.dtype)


@contextmanager
def sampler_net(net: nn.Module, precision: str = "float32") -> Iterator[nn.Module]:
    """Provide a network to sample with within a context: `frozen`, or a copy of it in bfloat16.

    The copy is faster where the processor has matrix units for bfloat16, and much slower elsewhere. The energies of
    samples are to be computed by the network itself.

    Parameters
    ----------
    net : Module
        The network.
    precision : str
        One of `SAMPLER_PRECISIONS`; ``float32`` stands for the network's own precision.
    """
    if precision == "float32":
        with frozen(net):
            yield net
        return
    yield _Reduced(copy.deepcopy(net).bfloat16()).eval().requires_grad_(False)


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
    known: Gradient | None = None,
    gradient_limit: float | None = None,
    bounds: tuple[float, float] | None = None,
) -> Float[Tensor, "B *shape"]:
    """Sample by ``x <- P(x - a_t dE/dx - b_t n)`` with normal noise n, and a_t and b_t decaying together.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``. Keep its parameters `frozen`, so that only the inputs get gradients.
    start : Tensor
        ``[B, ...]`` initial states of the chains.
    steps : int
        Number of steps; 0 returns `start`.
    step_size, noise : float
        a_0, and b_0 (a standard deviation).
    generator : torch.Generator
        Generator of the noise, on any device.
    final : float
        a_T / a_0 and b_T / b_0, with quadratic decay; 1 for constant values.
    project : callable, optional
        P, a projection to the domain of the data.
    known : callable, optional
        Gradient, in closed form, of a term that is added to `energy`.
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
    Welling and Teh, Bayesian Learning via Stochastic Gradient Langevin Dynamics, ICML 2011; decay: Lafon et al.,
    Hybrid Energy Based Model in the Feature Space, ICML 2023.
    """
    x = start.detach()
    for step in range(steps):
        x.requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x.detach()
        if known is not None:
            gradient = gradient + known(x)
        if gradient_limit is not None:
            gradient = gradient.clamp(-gradient_limit, gradient_limit)
        draw = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        factor = decay(step, steps, final)
        x = x.sub(gradient, alpha=factor * step_size).sub_(draw, alpha=factor * noise)
        if bounds is not None:
            x = x.clamp(*bounds)
        if project is not None:
            x = project(x).detach()
    return x
