"""AdaSCALE's input perturbation: features of images in which the values that matter least are moved."""

from __future__ import annotations

__all__ = ["TrivialPixels", "trivially_perturbed"]

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.gradients import input_gradient
from featood.extractors.outputs import class_outputs

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def trivially_perturbed(module: nn.Module, images: Tensor, share: float, step: float) -> Tensor:
    """Return ``x' = x + step * sign(g)`` at the values of an image with the smallest ``|g|``, x elsewhere.

    Parameters
    ----------
    module : Module
        The network f, in evaluation mode; ``g = grad_x max f(x)``.
    images : Tensor
        Normalised images ``[B, C, H, W]``.
    share : float
        Share of the values of each image that are moved; their number is rounded down.
    step : float
        Step size, in the units of `images`.
    """
    gradient = input_gradient(
        TrivialPixels.kind, lambda moved: class_outputs(module(moved)).float().amax(1), images
    ).flatten(1)
    places = gradient.abs().topk(int(share * gradient.shape[1]), dim=1, largest=False).indices
    moves = torch.zeros_like(gradient).scatter_(1, places, gradient.gather(1, places).sign())
    return images + step * moves.view(images.shape)


@dataclasses.dataclass(frozen=True)
class TrivialPixels:
    """The column ``adascale``: the classifier's input for perturbed images, for ``adascale-a`` and ``adascale-l``.

    Parameters
    ----------
    share : float
        Share of the values of an image, pixels times channels, that are moved: those with the smallest gradient of the
        largest logit.
    step : float
        Step of the normalised values; it has the same size in each channel, as in the authors' code.

    References
    ----------
    Regmi, AdaSCALE: Adaptive Scaling for OOD Detection, arXiv:2503.08023, 2025, and the authors' code in OpenOOD.
    """

    kind: ClassVar[str] = "adascale"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    share: float = 0.05
    step: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.step < float("inf"):
            raise UsageError(
                f"adascale needs a share from 0 to 1 and a step of at least 0, not {self.share} and {self.step}"
            )

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column ``[B, D]`` of a batch."""
        assert setting.plan is not None
        moved = trivially_perturbed(module, inputs, self.share, self.step)
        with setting.plan.only(setting.plan.main).recording(module) as forward, torch.inference_mode():
            return {self.kind: forward(moved)[setting.plan.main]}
