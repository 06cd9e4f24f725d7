"""ODIN's input perturbation: logits of images after one small gradient step towards the predicted class."""

from __future__ import annotations

__all__ = ["Odin", "input_gradient", "likelihood_gradient", "odin_logits", "pixel_step"]

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.outputs import class_outputs

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def input_gradient(kind: str, score: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return the gradient of scores ``[B]`` with respect to inputs ``[B, ...]``, in the precision of the weights.

    Raises
    ------
    UsageError
        If the scores do not depend differentiably on the inputs; it names the column `kind`.
    """
    # half-precision gradients would underflow
    with torch.autocast(inputs.device.type, enabled=False), torch.enable_grad():
        try:
            inputs = inputs.detach().clone().requires_grad_()
            return torch.autograd.grad(score(inputs).sum(), inputs)[0]
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise UsageError(f"the column {kind}: the outputs have no gradient: {reason}") from None


def pixel_step(kind: str, epsilon: float, inputs: Tensor, setting: Setting) -> Tensor:
    """Return a step for pixels in [0, 1] as steps for the channels of normalised inputs ``[C]``.

    Raises
    ------
    UsageError
        If the transform of the inputs is unknown; it names the column `kind`.
    """
    if setting.transform is None:
        raise UsageError(f"the column {kind} needs a known transform of the inputs")
    return epsilon / torch.tensor(setting.transform.std, device=inputs.device)


def likelihood_gradient(module: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """Return ``T grad_x NLL(f(x) / T, y)``, with y the predicted class; see :func:`odin_logits`."""
    inputs = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = class_outputs(module(inputs)).float()
        likelihood = (logits / temperature).log_softmax(1).max(1).values
        # the factor T, which changes no sign, prevents underflow in half precision
        return torch.autograd.grad(-temperature * likelihood.sum(), inputs)[0]


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
        return class_outputs(module(images - step.view(-1, 1, 1) * gradient.sign())).float()


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
