"""Neuron states for neuron activation coverage: activations times the gradient of a divergence, for each stage."""

from __future__ import annotations

__all__ = ["Coverage", "coverage_states"]

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.columns import Tap
from featood.extractors.layout import Layout
from featood.extractors.outputs import class_outputs
from featood.extractors.pooling import positions_of
from featood.extractors.trace import recording

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def coverage_states(module: nn.Module, inputs: Tensor, taps: Mapping[str, Tap]) -> dict[str, Tensor]:
    """Return activations of each stage times ``dKL(uniform || softmax) / dz``, both pooled to one value per channel.

    Of tokens, those of the class token are taken, as by the authors; if there is none, or the logits do not depend on
    it after the stage (as at the last stage of a BEiT, which pools its patches), those of the patches, without register
    tokens. The authors sum activations and gradients over positions before multiplying them. Here, activations are
    averaged, which removes the factor of the number of positions, and makes the product of a stage before average
    pooling equal to that of the classifier's input. The head scales each stage, so scores are not affected otherwise.

    Parameters
    ----------
    module : Module
        The network, in evaluation mode.
    inputs : Tensor
        ``[B, ...]``.
    taps : mapping of str to Tap
        The stages by name.

    Returns
    -------
    dict of str to Tensor
        ``[B, C]`` for each stage, in float32.

    Raises
    ------
    UsageError
        If the logits do not depend differentiably on a stage.

    References
    ----------
    Liu et al., Neuron Activation Coverage: Rethinking Out-of-Distribution Detection and Generalization, ICLR 2024.
    """
    inputs = inputs.detach().clone()
    if inputs.is_floating_point():
        inputs.requires_grad_()  # for networks whose weights are frozen
    places = {name: tap.place for name, tap in taps.items()}
    # half-precision gradients would underflow, so these passes use the precision of the weights
    with (
        recording(module, set(places.values())) as seen,
        torch.autocast(inputs.device.type, enabled=False),
        torch.enable_grad(),
    ):
        divergence = -class_outputs(module(inputs)).float().log_softmax(1).mean(1)
        try:
            gradients = torch.autograd.grad(divergence.sum(), [seen[place] for place in places.values()])
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise UsageError(f"a stage of {', '.join(taps)} has no gradient: {reason}") from None
    return {
        name: _pooled(seen[tap.place].detach(), gradient, tap.layout)
        for (name, tap), gradient in zip(taps.items(), gradients, strict=True)
    }


def _pooled(values: Tensor, gradient: Tensor, layout: Layout) -> Tensor:
    if values.ndim == 2:
        return values.float() * gradient.float()
    values, gradient = (positions_of(part.float(), layout.channels) for part in (values, gradient))
    patches = values[:, layout.prefix :].mean(1) * gradient[:, layout.prefix :].sum(1)
    if layout.prefix == layout.registers:
        return patches
    used = gradient[:, 0].any(1, keepdim=True)  # the gradient of a token that has no effect is exactly 0
    return torch.where(used, values[:, 0] * gradient[:, 0], patches)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The columns ``STAGE.nac`` of the tapped stages, for the head ``nac``."""

    kind: ClassVar[str] = "nac"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the columns ``[B, C]`` of a batch."""
        if not setting.taps:
            raise UsageError("columns for nac need tapped stages: name some, as in --tap layer2,layer3")
        states = coverage_states(module, inputs, setting.taps)
        return {f"{name}.{self.kind}": values for name, values in states.items()}
