"""i-ODIN's input perturbation: ODIN's step, on the one value of an image that the prediction depends on most."""

from __future__ import annotations

__all__ = ["InvariantOdin", "iodin_logits"]

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.gradients import pixel_step
from featood.extractors.outputs import class_outputs
from featood.extractors.perturb import Odin, likelihood_gradient

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def iodin_logits(module: nn.Module, images: Tensor, step: Tensor, temperature: float) -> Tensor:
    """Return the logits of images in which only the value with the largest gradient is moved by ODIN's step.

    Parameters and result are those of :func:`featood.extractors.perturb.odin_logits`.
    """
    gradient = likelihood_gradient(module, images, temperature)
    values = gradient.flatten(1)
    place = values.abs().argmax(1, keepdim=True)
    moves = torch.zeros_like(values).scatter_(1, place, values.gather(1, place).sign()).view(images.shape)
    with torch.inference_mode():
        return class_outputs(module(images - step.view(-1, 1, 1) * moves)).float()


@dataclasses.dataclass(frozen=True)
class InvariantOdin(Odin):
    """The column ``i-odin``: logits of images perturbed in one value; the options are those of ``odin``.

    The authors take the gradient's largest absolute value as the place of a feature that does not vary within the
    class, and leave all other values as they are.

    References
    ----------
    Regmi, Going Beyond Conventional OOD Detection, arXiv:2411.10794, 2024, and the authors' code in OpenOOD.
    """

    kind: ClassVar[str] = "i-odin"

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column ``[B, K]`` of a batch."""
        step = pixel_step(self.kind, self.epsilon, inputs, setting)
        return {self.kind: iodin_logits(module, inputs, step, self.temperature)}
