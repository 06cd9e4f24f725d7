"""Gradients with respect to the inputs of a network, and the size of steps along them."""

from __future__ import annotations

__all__ = ["input_gradient", "pixel_step"]

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featood.errors import UsageError

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
