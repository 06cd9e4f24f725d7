"""ODIN's input perturbation: logits of images after one small gradient step towards the predicted class."""

from __future__ import annotations

__all__ = ["Odin", "likelihood_gradient", "odin_logits", "perturbed"]

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.gradients import pixel_step
from featood.extractors.outputs import class_outputs

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def likelihood_gradient(module: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """Return ``T grad_x NLL(f(x) / T, y)``, with y the predicted class; see :func:`odin_logits`."""
    inputs = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = class_outputs(module(inputs)).float()
        likelihood = (logits / temperature).log_softmax(1).max(1).values
        # the factor T, which changes no sign, prevents underflow in half precision
        return torch.autograd.grad(-temperature * likelihood.sum(), inputs)[0]


def perturbed(function: Callable[[Tensor], Tensor], inputs: Tensor, step: Tensor | float) -> Tensor:
    """Return ``x' = x - step * sign(grad_x sum f(x))``, inputs for which a function is smaller.

    Parameters
    ----------
    function : callable
        Inputs ``[B, ...]`` to a tensor, such as the loss of each input.
    inputs : Tensor
        ``[B, ...]``.
    step : Tensor or float
        Step size, for all values or for each channel ``[C]``, in the units of the inputs.
    """
    with torch.inference_mode(False), torch.enable_grad():
        place = inputs.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(place).sum(), place)
    return _moved(inputs, gradient, torch.as_tensor(step, device=inputs.device))


def odin_logits(module: nn.Module, images: Tensor, step: Tensor, temperature: float) -> Tensor:
    """Return the logits of ``x' = x - step * sign(grad_x NLL(f(x) / T, y))``, with y the predicted class.

    Parameters
    ----------
    module : Module
        The network f, in evaluation mode.
    images : Tensor
        Normalised images ``[B, C, H, W]``.
    step : Tensor
        Step size for each channel ``[C]``, in the units of `images`.
    temperature : float
        Temperature T.

    Returns
    -------
    Tensor
        ``[B, K]`` in float32.
    """
    gradient = likelihood_gradient(module, images, temperature)
    with torch.inference_mode():
        return class_outputs(module(_moved(images, gradient, step))).float()


def _moved(inputs: Tensor, gradient: Tensor, step: Tensor) -> Tensor:
    """Return inputs after a step against the signs of a gradient, by a step for all values or for each channel."""
    return inputs - step.reshape(-1, *[1] * (inputs.ndim - 2)) * gradient.sign()


@dataclasses.dataclass(frozen=True)
class Odin:
    """The column ``odin``: logits of perturbed images.

    Parameters
    ----------
    epsilon : float
        Step size for pixels in [0, 1]; for normalised images, it is divided by the standard deviation of each channel
        in the transform, as in the authors' code.
    temperature : float
        Softmax temperature of the differentiated likelihood.

    References
    ----------
    Liang et al., Enhancing the Reliability of Out-of-Distribution Image Detection in Neural Networks, ICLR 2018.
    """

    kind: ClassVar[str] = "odin"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    epsilon: float = 0.0014
    temperature: float = 1000.0

    def __post_init__(self) -> None:
        if not self.epsilon >= 0 or not self.temperature > 0:
            raise UsageError(
                f"ODIN needs a step of at least 0 and a temperature above 0, not {self.epsilon} and {self.temperature}"
            )

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column ``[B, K]`` of a batch."""
        step = pixel_step(self.kind, self.epsilon, inputs, setting)
        return {self.kind: odin_logits(module, inputs, step, self.temperature)}
