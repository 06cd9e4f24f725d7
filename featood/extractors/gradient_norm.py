"""Approximate mass: how steeply the logsumexp of a network's outputs changes around an input."""

from __future__ import annotations

__all__ = ["GradientNorm", "gradient_norms"]

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from featood.extractors.gradients import input_gradient
from featood.extractors.outputs import class_outputs

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


def gradient_norms(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return ``|grad_x logsumexp f(x)|``, the Euclidean norms of gradients with respect to normalised inputs.

    Parameters
    ----------
    module : Module
        The network f, in evaluation mode; the logsumexp of its outputs is a log-density, up to a constant.
    inputs : Tensor
        ``[B, ...]``.

    Returns
    -------
    Tensor
        ``[B, 1]`` in float32; large where a small change of the input changes the density, as it does outside of the
        typical set.

    Raises
    ------
    UsageError
        If the outputs do not depend differentiably on the inputs.
    """
    gradients = input_gradient(
        GradientNorm.kind, lambda moved: class_outputs(module(moved)).float().logsumexp(1), inputs
    )
    return gradients.float().flatten(1).norm(dim=1, keepdim=True)


@dataclasses.dataclass(frozen=True)
class GradientNorm:
    """The column ``gradient-norm`` ``[B, 1]``, larger for outliers; the head ``column`` scores it.

    The authors call its negative an approximate mass: a density that is high at a point, but low around it, has little
    mass there.

    References
    ----------
    Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, ICLR 2020.
    """

    kind: ClassVar[str] = "gradient-norm"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("logits", "a density")

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch."""
        return {self.kind: gradient_norms(module, inputs)}
