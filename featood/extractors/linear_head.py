"""The linear classifier of any network: features z, W and b such that W z + b are its outputs.

Usually, it is the last linear layer, or a convolution at one position. Otherwise, the outputs are differentiated with
respect to the tensor at a place near the end: if they are linear in it, whatever the code in between, the derivative is
W. This finds averaged heads, heads at each position, scaled outputs, heads of other packages, and cosine heads, which
depend only on the direction. A result is accepted only if it also holds for random features.
"""

from __future__ import annotations

__all__ = ["LinearHead", "find_linear_head", "head_inputs"]

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featood.cache.feature_set import Classifier
from featood.errors import UsageError
from featood.extractors.columns import Column, Tap
from featood.extractors.derivation import derive, equal, random_like
from featood.extractors.layout import VECTORS, find_layout
from featood.extractors.outputs import class_outputs
from featood.extractors.trace import Event, Trace, rerun

_MOST_PLACES = 16
_MOST_SHARED = 8
"""Number of places to try for a tensor shared by several layers of a head."""


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A linear classifier and its input column."""

    column: Column
    layer: str = ""
    """The layer with weight and bias; empty if they were derived."""
    weight: Tensor | None = dataclasses.field(default=None, compare=False)
    bias: Tensor | None = dataclasses.field(default=None, compare=False)

    def classifier(self, module: nn.Module) -> Classifier:
        """Return weight ``[C, D]`` and bias ``[C]`` as NumPy arrays."""
        weight, bias = self.tensors(module)
        return Classifier(weight.detach().float().cpu().numpy(), bias.detach().float().cpu().numpy())

    def tensors(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return weight and bias as tensors of the network."""
        if self.weight is not None and self.bias is not None:
            return self.weight, self.bias
        layer: Any = module.get_submodule(self.layer)
        weight: Tensor = layer.weight.detach().flatten(1)
        return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def find_linear_head(trace: Trace, output: Tensor) -> LinearHead | None:
    """Find the linear classifier that produces the outputs ``[B, C]`` of the network; None if there is none."""
    plain = _plain(trace, output)
    if plain is not None:
        return plain
    joint = [_tap(trace, event) for event in head_inputs(trace, output)]
    found = _derived(trace, [tap for tap in joint if tap is not None], flat=True)
    if found is None:  # the classifier may be in code between modules
        return _walk(trace, trace.events, _MOST_PLACES)
    if len(found.column.taps) == 1:
        return found
    first = min(trace.index(tap.place) for tap in found.column.taps)
    return _walk(trace, trace.events[:first], _MOST_SHARED) or found  # all may share one input


def head_inputs(trace: Trace, output: Tensor) -> list[Event]:
    """List the inputs of layers with weights whose output has the network's number of outputs, the last first."""
    width = output.shape[1]
    found = []
    for event in reversed(trace.events):
        layer = trace.layer(event)
        inner = [name for name, _ in layer.named_children() if name != "parametrizations"]
        if event.place.side != "output" or inner or not any(True for _ in layer.parameters()):
            continue
        shape = event.value.shape
        wide = (
            shape[-1] == width
            if isinstance(layer, nn.Linear)
            else width in (shape[-1], shape[min(1, len(shape) - 1)])
        )
        weight = getattr(layer, "weight", None)
        if len(shape) < 2 or not wide or (isinstance(weight, Tensor) and weight.ndim < 2):
            continue  # normalisations are not classifiers
        taken = next((e for e in trace.events if e.place == event.place._replace(side="input")), None)
        if taken is not None:
            found.append(taken)
    return found


def _plain(trace: Trace, output: Tensor) -> LinearHead | None:
    """Find the last linear layer, or convolution at one position, whose output is that of the network."""
    for event in reversed(trace.events):
        layer, values = trace.layer(event), event.value
        if event.place.side != "input" or values.shape[2:].numel() != 1:
            continue
        if not isinstance(layer, nn.Linear | nn.Conv2d) or values.ndim not in (2, 4):
            continue
        head = LinearHead(Column((Tap(event.place, assumed=VECTORS),)), event.place.module)
        weight, bias = head.tensors(trace.module)
        if weight.shape != (output.shape[1], values.shape[1]):
            continue
        made = nn.functional.linear(values.flatten(1), weight, bias)
        if torch.allclose(made, output, 1e-4, 1e-5) and _holds(trace, head):
            return head
    return None


def _tap(trace: Trace, event: Event) -> Tap | None:
    if event.value.data_ptr() == trace.images.data_ptr():
        return None  # pixels are not features
    try:
        return Tap(event.place, find_layout(trace, event.place, event.value, larger=False))
    except UsageError:
        return None


def _walk(trace: Trace, events: Sequence[Event], most: int) -> LinearHead | None:
    """Try single places, going back from the last of some events."""
    previous: Tensor | None = None
    for event in reversed(events):
        if event.value is previous:
            continue
        if not most:
            break
        previous, most = event.value, most - 1
        tap = _tap(trace, event)
        found = None if tap is None else _derived(trace, [tap])
        if found is not None:
            return found
    return None


def _derived(trace: Trace, taps: Sequence[Tap], flat: bool = False) -> LinearHead | None:
    """Derive the classifier on the tensors at some places, if there is one."""
    found = derive(trace, taps, flat)
    if found is None:
        return None
    column, weight, bias = found
    head = LinearHead(column, weight=weight, bias=bias)
    return _merged(trace, head) if _holds(trace, head) else None


def _merged(trace: Trace, head: LinearHead) -> LinearHead:
    """Sum the weights of places with the same tensor."""
    assert head.weight is not None
    values = [trace.values[tap.place] for tap in head.column.taps]
    if len({part.shape for part in values}) > 1:
        return head
    kept: list[int] = []
    weights: dict[int, Tensor] = {}
    for index, part in enumerate(head.weight.chunk(len(values), 1)):
        same = next((other for other in kept if torch.equal(values[other], values[index])), None)
        if same is None or not values[index].any():
            kept.append(index)
            weights[index] = part
        else:
            weights[same] = weights[same] + part
    taps = tuple(head.column.taps[index] for index in kept)
    column = dataclasses.replace(head.column, taps=taps)
    return dataclasses.replace(head, column=column, weight=torch.cat([weights[index] for index in kept], 1))


@torch.no_grad()
def _holds(trace: Trace, head: LinearHead) -> bool:
    """Whether the network returns ``W z + b``, both for its own features and for large random ones of either sign."""
    places = [tap.place for tap in head.column.taps]
    weight, bias = (part.float() for part in head.tensors(trace.module))
    if not equal(head.column.values(trace.values) @ weight.T + bias, class_outputs(trace.returned)):
        return False
    passed = {place: random_like(trace.values[place], 100) for place in places}
    size = (head.column.values(passed) @ weight.T).abs().max()
    if (
        size > 0 and not head.column.unit
    ):  # beyond the range in which soft caps and saturated units are linear
        scale = 100 * (1 + bias.abs().max()) / size
        passed = {place: value * scale for place, value in passed.items()}
    try:
        output = class_outputs(rerun(trace, passed))
    except (RuntimeError, ValueError, IndexError, UsageError):
        return False
    return equal(head.column.values(passed) @ weight.T + bias, output)
