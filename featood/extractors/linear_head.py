"""The linear classifier of any network: some of its features z, W and b, so that W z + b are its outputs.

Mostly it is the last linear layer, or a convolution of one position. Else the outputs are derived, by automatic
differentiation, for what passes a place near the end: where they are linear in it, whatever the code in between
does, the derivative is W. That finds averaged heads, heads on each position, scaled outputs, heads of other
packages, and, as functions of a direction alone, cosine heads. What is found holds for random features in
place of the network's own, or it counts as nothing.
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
from featood.extractors.layout import find_layout
from featood.extractors.outputs import class_outputs
from featood.extractors.pooling import MAP
from featood.extractors.trace import Event, Trace, rerun

TOLERANCE = 1e-4
_MOST_PLACES = 16
_MOST_SHARED = 8
"""Places tried for a tensor that several layers of a head take."""
_MOST_ENTRIES = 1 << 28
"""Weights with more entries than this are not derived."""


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A linear classifier, and the column it takes."""

    column: Column
    layer: str = ""
    """The layer whose weight and bias these are; empty where they were derived."""
    weight: Tensor | None = dataclasses.field(default=None, compare=False)
    bias: Tensor | None = dataclasses.field(default=None, compare=False)

    def classifier(self, module: nn.Module) -> Classifier:
        """Return weight ``[C, D]`` and bias ``[C]`` as NumPy arrays."""
        weight, bias = self.tensors(module)
        return Classifier(weight.detach().float().cpu().numpy(), bias.detach().float().cpu().numpy())

    def tensors(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return weight and bias as they are in the network."""
        if self.weight is not None and self.bias is not None:
            return self.weight, self.bias
        layer: Any = module.get_submodule(self.layer)
        weight: Tensor = layer.weight.detach().flatten(1)
        return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def find_linear_head(trace: Trace, output: Tensor) -> LinearHead | None:
    """Find the linear classifier whose outputs ``[B, C]`` are the network's; None where there is none."""
    plain = _plain(trace, output)
    if plain is not None:
        return plain
    joint = [_tap(trace, event) for event in head_inputs(trace, output)]
    found = _derive(trace, [tap for tap in joint if tap is not None], flat=True)
    if found is None or len(found.column.taps) > 1:
        # several layers that all take one tensor, or a head in the code between modules
        if found is None:
            return _walk(trace, trace.events, _MOST_PLACES)
        first = min(trace.index(tap.place) for tap in found.column.taps)
        return _walk(trace, trace.events[:first], _MOST_SHARED) or found
    return found


def head_inputs(trace: Trace, output: Tensor) -> list[Event]:
    """List inputs of layers with weights whose output is as wide as the network's, the last first."""
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
            continue  # normalisations are of no interest
        taken = next((e for e in trace.events if e.place == event.place._replace(side="input")), None)
        if taken is not None:
            found.append(taken)
    return found


def _plain(trace: Trace, output: Tensor) -> LinearHead | None:
    """Find the last linear layer, or convolution of one position, whose output is the network's."""
    for event in reversed(trace.events):
        layer, values = trace.layer(event), event.value
        if event.place.side != "input" or values.shape[2:].numel() != 1:
            continue
        if not isinstance(layer, nn.Linear | nn.Conv2d) or values.ndim != (
            2 if isinstance(layer, nn.Linear) else 4
        ):
            continue
        head = LinearHead(Column((Tap(event.place, assumed=(1, 0)),)), event.place.module)  # type: ignore[arg-type]
        weight, bias = head.tensors(trace.module)
        if weight.shape != (output.shape[1], values.shape[1]):
            continue
        made = nn.functional.linear(values.flatten(1), weight, bias)
        if torch.allclose(made, output, 1e-4, 1e-5) and _holds(trace, head):
            return head
    return None


def _tap(trace: Trace, event: Event) -> Tap | None:
    if event.value.data_ptr() == trace.images.data_ptr():
        return None  # pixels are no features
    try:
        return Tap(event.place, find_layout(trace, event.place, event.value, larger=False))
    except UsageError:
        return None


def _walk(trace: Trace, events: Sequence[Event], most: int) -> LinearHead | None:
    """Try what passes single places, going back from the last of some events."""
    previous: Tensor | None = None
    for event in reversed(events):
        if event.value is previous:
            continue
        if not most:
            break
        previous, most = event.value, most - 1
        tap = _tap(trace, event)
        found = None if tap is None else _derive(trace, [tap])
        if found is not None:
            return found
    return None


@torch.no_grad()
def _random_like(values: Tensor, seed: int) -> Tensor:
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values)
    spread = values.std()
    return noise * (spread if spread > 0 else 1.0)


def _derive(trace: Trace, taps: Sequence[Tap], flat: bool = False) -> LinearHead | None:
    """Derive the outputs for what passes some places, if they are linear in poolings of it (`flat`: or in all)."""
    leaves = [_random_like(trace.values[tap.place], seed).requires_grad_() for seed, tap in enumerate(taps)]
    passed = {tap.place: leaf for tap, leaf in zip(taps, leaves, strict=True)}
    try:
        output = class_outputs(rerun(trace, passed, grad=True)).float()
    except (RuntimeError, ValueError, IndexError, UsageError):
        return None  # this place cannot be replaced
    if not output.requires_grad:
        return None
    generator = torch.Generator().manual_seed(0)
    mixed = output @ torch.randn(output.shape[1], generator=generator).to(output)
    slopes = torch.autograd.grad(mixed.sum(), leaves, retain_graph=True, allow_unused=True)
    kept = [index for index, slope in enumerate(slopes) if slope is not None and slope.abs().max() > 0]
    taps, leaves = [taps[index] for index in kept], [leaves[index] for index in kept]
    if not taps:
        return None
    poolings = {_pooling(tap, slopes[index]) for tap, index in zip(taps, kept, strict=True)}
    (how,) = poolings if len(poolings) == 1 else {MAP}
    if how == MAP and not (
        flat and all(_everywhere(tap, slopes[index]) for tap, index in zip(taps, kept, strict=True))
    ):
        return None
    rows = torch.cat([_summed(tap, slopes[index], how) for tap, index in zip(taps, kept, strict=True)], 1)
    column = Column(tuple(taps), how)
    z = column.values({tap.place: leaf.detach() for tap, leaf in zip(taps, leaves, strict=True)})
    size = rows.abs().max()
    linear = (rows - rows[:1]).abs().max() <= 1e-3 * size
    radial = ((rows * z).sum(1).abs() <= 1e-3 * rows.norm(dim=1) * z.norm(dim=1)).all()
    if not (linear or radial) or output.shape[1] * rows.shape[1] > _MOST_ENTRIES:
        return None
    if len(taps) == 1 and _by_element(output, taps[0], leaves[0]):
        return None  # outputs, or some of them, and not features
    if linear:
        zeros = {place: torch.zeros_like(leaf) for place, leaf in passed.items()}
        biases = class_outputs(rerun(trace, zeros)).float()
        if not _equal(biases[:1], biases):
            return None  # something else has a share in the outputs
        weight, bias = _jacobian(output, taps, leaves, how)[0], biases[0]
    else:
        column = dataclasses.replace(column, unit=True)
        weight, bias = _of_directions(output.detach(), _jacobian(output, taps, leaves, how), z)
    head = _merged(trace, LinearHead(column, weight=weight, bias=bias))
    return head if _holds(trace, head) else None


def _positions(tap: Tap, slope: Tensor) -> Tensor:
    return slope[:, None] if slope.ndim == 2 else slope.movedim(tap.layout.channels, -1).flatten(1, -2)


def _pooling(tap: Tap, slope: Tensor | None) -> str:
    """Return the pooling whose derivative this is: the same at all positions, or nothing beyond the first."""
    assert slope is not None
    at = _positions(tap, slope)
    prefix, size = tap.layout.prefix, at.abs().max()
    patches = at[:, prefix:]
    if not at[:, :prefix].any() and (patches - patches[:, :1]).abs().max() <= 1e-3 * size:
        return "avg"
    return "token" if slope.ndim == 3 and not at[:, 1:].any() else MAP


def _everywhere(tap: Tap, slope: Tensor | None) -> bool:
    """Say whether all positions of a map count, and not some few that the network picks."""
    return slope is not None and slope.ndim > 2 and bool(_positions(tap, slope).abs().amax(2).all())


def _summed(tap: Tap, slope: Tensor | None, how: str) -> Tensor:
    assert slope is not None
    at = _positions(tap, slope)
    return at[:, tap.layout.prefix :].mT.flatten(1) if how == MAP else at.sum(1)


def _by_element(output: Tensor, tap: Tap, leaf: Tensor) -> bool:
    """Say whether each output comes from one feature alone, so that these are outputs already."""
    if output.shape[1] == 1 or leaf.shape[tap.layout.channels] == 1:
        return False
    for unit in {0, output.shape[1] - 1}:
        (slope,) = torch.autograd.grad(output[:, unit].sum(), leaf, retain_graph=True)
        if (_summed(tap, slope, "avg") != 0).sum(1).max() > 1:
            return False
    return True


def _jacobian(output: Tensor, taps: Sequence[Tap], leaves: Sequence[Tensor], how: str) -> Tensor:
    """Differentiate every output for every feature ``[B, C, D]``."""
    rows = []
    for unit in range(output.shape[1]):
        slopes = torch.autograd.grad(output[:, unit].sum(), leaves, retain_graph=True)
        rows.append(torch.cat([_summed(tap, slope, how) for tap, slope in zip(taps, slopes, strict=True)], 1))
    return torch.stack(rows, 1)


def _of_directions(output: Tensor, jacobian: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """W and b of ``W u + b`` with ``u = z / |z|``, from its derivatives ``W (I - u u') / |z|`` in two rows."""
    lengths = z.norm(dim=1)
    u = z / lengths[:, None]
    tangent = jacobian * lengths[:, None, None]
    step = u[0] - u[1]
    whole = [tangent[row] + output[row, :, None] * u[row] for row in (0, 1)]
    bias = (whole[0] - whole[1]) @ step / (step @ step)
    return whole[0] - bias[:, None] * u[0], bias


def _merged(trace: Trace, head: LinearHead) -> LinearHead:
    """Add up the weights of places that the same tensor passes."""
    assert head.weight is not None
    taps: list[Tap] = []
    weights: list[Tensor] = []
    parts = head.weight.chunk(len(head.column.taps), 1) if head.column.taps else ()
    if len({trace.values[tap.place].shape for tap in head.column.taps}) > 1:
        return head
    for tap, part in zip(head.column.taps, parts, strict=True):
        same = next(
            (
                i
                for i, other in enumerate(taps)
                if torch.equal(trace.values[other.place], trace.values[tap.place])
            ),
            None,
        )
        if same is None:
            taps.append(tap)
            weights.append(part)
        else:
            weights[same] = weights[same] + part
    column = dataclasses.replace(head.column, taps=tuple(taps))
    return dataclasses.replace(head, column=column, weight=torch.cat(weights, 1))


@torch.no_grad()
def _holds(trace: Trace, head: LinearHead) -> bool:
    """Say whether the network gives ``W z + b``, for its own features and for large random ones of either sign."""
    places = [tap.place for tap in head.column.taps]
    weight, bias = (part.float() for part in head.tensors(trace.module))
    if not _equal(head.column.values(trace.values) @ weight.T + bias, class_outputs(trace.returned)):
        return False
    passed = {place: _random_like(trace.values[place], 100) for place in places}
    size = (head.column.values(passed) @ weight.T).abs().max()
    if size > 0 and not head.column.unit:  # beyond where soft caps and saturated units look linear
        scale = 100 * (1 + bias.abs().max()) / size
        passed = {place: value * scale for place, value in passed.items()}
    try:
        output = class_outputs(rerun(trace, passed))
    except (RuntimeError, ValueError, IndexError, UsageError):
        return False
    return _equal(head.column.values(passed) @ weight.T + bias, output)


def _equal(made: Tensor, output: Tensor) -> bool:
    return bool((made - output.float()).abs().max() <= TOLERANCE * output.float().abs().max())
