"""GAIA: gradients at the outputs of normalisation layers, which are abnormal for outliers."""

from __future__ import annotations

__all__ = ["AverageAbnormality", "ZeroDeflation", "average_abnormality", "zero_deflation"]

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.columns import Column
from featood.extractors.gradients import input_gradient
from featood.extractors.outputs import class_outputs
from featood.extractors.trace import recording

if TYPE_CHECKING:
    from featood.extractors.extras import Setting

LAYERS = (nn.BatchNorm2d, nn.GroupNorm)
"""Those at whose outputs the authors take gradients."""


@contextlib.contextmanager
def _watched(kind: str, module: nn.Module, stages: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Context manager of the gradients ``[B, C, H, W]`` that arrive at outputs of normalisation layers, by layer."""
    found: dict[str, Tensor] = {}

    def watch(name: str, values: Tensor) -> None:
        if values.ndim == 4:
            # a hook on the tensor, because later layers may modify it in place
            values.register_hook(lambda gradient: found.__setitem__(name, gradient))

    with contextlib.ExitStack() as hooks:
        for name, layer in module.named_modules():
            inside = not stages or any(f"{name}.".startswith(f"{stage}.") for stage in stages)
            if not inside or not isinstance(layer, LAYERS):
                continue
            activation = getattr(layer, "act", None)
            if isinstance(activation, nn.Module):  # timm joins the activation to the layer
                hook = activation.register_forward_pre_hook(
                    lambda _, inputs, name=name: watch(name, inputs[0])
                )
            else:
                hook = layer.register_forward_hook(lambda _, __, output, name=name: watch(name, output))
            hooks.callback(hook.remove)
        yield found
    if not found:
        where = f" in {', '.join(stages)}" if stages else ""
        raise UsageError(f"the column {kind} needs layers of batch or group normalisation of maps{where}")


def zero_deflation(module: nn.Module, inputs: Tensor, stages: tuple[str, ...] = ()) -> Tensor:
    """Return the mean over channels of the squared share of positions at which a gradient is not zero.

    Parameters
    ----------
    module : Module
        The network, in evaluation mode; the gradient is that of its largest output.
    inputs : Tensor
        ``[B, ...]``.
    stages : tuple of str
        Modules within which normalisation layers count; all if empty.

    Returns
    -------
    Tensor
        ``[B, 1]`` in float32, larger for outliers.

    Raises
    ------
    UsageError
        If no normalisation layer of maps counts.
    """
    kind = ZeroDeflation.kind
    with _watched(kind, module, stages) as found:
        input_gradient(kind, lambda images: class_outputs(module(images)).amax(1), inputs)
    shares = torch.cat([(gradient != 0).float().mean((2, 3)) for gradient in found.values()], 1)
    return shares.square().mean(1, keepdim=True)


def average_abnormality(
    module: nn.Module, inputs: Tensor, feature: Column, stages: tuple[str, ...] = ()
) -> Tensor:
    """Return ``mean_i a_i^2 / mean_j |b_j|`` over channels i of normalisation layers and features j.

    a_i is the gradient of the sum of all features at the output of a layer, averaged over positions, and b_j that of
    the sum of all log-probabilities at the features. The authors take b at the map before average pooling, which
    multiplies all values by the number of positions.

    Parameters
    ----------
    module, inputs, stages
        See :func:`zero_deflation`.
    feature : Column
        The classifier's input.

    Returns
    -------
    Tensor
        ``[B, 1]`` in float32, larger for outliers.

    Raises
    ------
    UsageError
        If no normalisation layer of maps counts.
    """
    kind = AverageAbnormality.kind
    outer: list[Tensor] = []
    places = [tap.place for tap in feature.taps]

    def features(images: Tensor) -> Tensor:
        log_probabilities = class_outputs(module(images)).float().log_softmax(1)
        outer[:] = torch.autograd.grad(
            log_probabilities.sum(), [seen[place] for place in places], retain_graph=True
        )
        return feature.values(seen).sum(1)

    with recording(module, set(places)) as seen, _watched(kind, module, stages) as found:
        input_gradient(kind, features, inputs)
    inner = torch.cat([gradient.float().mean((2, 3)) for gradient in found.values()], 1)
    plain = dataclasses.replace(feature, unit=False)
    sizes = plain.values(dict(zip(places, outer, strict=True))).abs().mean(1, keepdim=True)
    return inner.square().mean(1, keepdim=True) / sizes


@dataclasses.dataclass(frozen=True)
class ZeroDeflation:
    """The column ``gaia-z`` ``[B, 1]``, larger for outliers; for the head ``gaia-z``.

    It counts the zeros in gradients of the largest logit at the outputs of all normalisation layers, or of those
    within the tapped stages: the gradients of outliers have fewer.

    References
    ----------
    Chen et al., GAIA: Delving into Gradient-based Attribution Abnormality for Out-of-distribution Detection,
    NeurIPS 2023.
    """

    kind: ClassVar[str] = "gaia-z"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch."""
        return {self.kind: zero_deflation(module, inputs, tuple(setting.taps))}


@dataclasses.dataclass(frozen=True)
class AverageAbnormality:
    """The column ``gaia-a`` ``[B, 1]``, larger for outliers; for the head ``gaia-a``.

    It compares gradients of the features at the outputs of normalisation layers with the gradient of the
    log-probabilities at the features. The authors use the layers of the last two stages of ResNet-34 and ResNet-50,
    which are tapped for this (``--tap layer3,layer4``), and all of WRN-40-2, as without a tap.

    References
    ----------
    Chen et al., GAIA: Delving into Gradient-based Attribution Abnormality for Out-of-distribution Detection,
    NeurIPS 2023.
    """

    kind: ClassVar[str] = "gaia-a"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch."""
        assert setting.plan is not None
        feature = setting.plan.columns[setting.plan.main]
        return {self.kind: average_abnormality(module, inputs, feature, tuple(setting.taps))}
