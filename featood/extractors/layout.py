"""Layout of maps: the axis of the channels, and the number of leading tokens that are not patches."""

from __future__ import annotations

__all__ = ["VECTORS", "Layout", "find_layout", "is_map", "on_grid"]

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from featood.errors import FeatoodError, UsageError
from featood.extractors.trace import OUTPUT, Place, Trace, first_tensor, trace_forward

CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
"""Layers whose second axis is documented as the channels."""
MOST_PREFIX = 16


class Layout(NamedTuple):
    """Layout of a tensor ``[B, ...]``."""

    channels: int
    """Axis of the channels, not negative."""
    prefix: int = 0
    """Number of leading positions that are not part of the image: class and register tokens."""
    registers: int = 0
    """Number of these that are register tokens; they follow the class token."""

    def positions(self, values: Tensor) -> int:
        """Return the number of image positions of a tensor with this layout."""
        return values[0].numel() // values.shape[self.channels] - self.prefix


VECTORS = Layout(1)


def is_map(values: Tensor) -> bool:
    """Whether there is more than one position, whichever axis is the channels."""
    if values.ndim == 3:
        return values.shape[1] > 1
    return values.ndim > 3 and values[0].numel() > max(values.shape[1], values.shape[-1])


def find_layout(trace: Trace, place: Place, values: Tensor, larger: bool = True) -> Layout:
    """Find the axis of the channels, and the number of leading tokens.

    They are inferred from the layers that produce or consume the tensor, and from its shape compared with the images
    and other maps. If this is inconclusive, the network is run on larger images (unless `larger` is false): positions
    grow with them, channels do not.

    Raises
    ------
    UsageError
        If they cannot be determined.
    """
    what = f"'{place.module}'" if place.module else "the output"
    shape = list(values.shape)
    if values.ndim < 2 or len(values) != len(trace.images):
        raise UsageError(
            f"{what} gives a tensor {shape} for {len(trace.images)} images, not one row per image; tap another module"
        )
    if values.ndim == 2:
        return VECTORS
    axes = _by_layers(trace, values, _of_layers)
    if len(axes) != 1:
        by_linear, by_shape = _by_layers(trace, values, _of_linear), _by_shape(trace, values)
        axes = by_linear & by_shape if by_linear and by_shape else by_linear | by_shape
    if len(axes) != 1 and larger:
        axes = _by_larger_images(trace, place, values)
    if len(axes) != 1:
        raise UsageError(
            f"{what} gives {shape}, and the axis of the channels cannot be determined; tap a module before or "
            "after it"
        )
    (channels,) = axes
    prefix = _prefix(trace, values, channels) if values.ndim == 3 else 0
    return Layout(channels, prefix, min(prefix, _registers(trace.module)))


def _by_layers(
    trace: Trace, values: Tensor, channels_of: Callable[[nn.Module, Tensor], int | None]
) -> set[int]:
    """Return the channel axes of the layers that produce or consume this tensor or a view of it.

    If there is no such layer (the tensor may be a sum), those of layers with other tensors of the same shape are used.
    """
    axes: set[int] = set()
    of_same_shape: set[int] = set()
    for event in trace.events:
        seen = event.value
        same_shape = seen.shape == values.shape
        viewed = seen.data_ptr() == values.data_ptr() and seen.numel() == values.numel() and seen.ndim > 1
        axis = channels_of(trace.layer(event), seen) if viewed or same_shape else None
        if axis is None:
            continue
        size, stride = seen.shape[axis], seen.stride(axis)
        if same_shape and values.shape[1:].count(seen.shape[axis]) == 1:
            of_same_shape.add(axis)
        if not viewed:
            continue
        if same_shape and seen.stride() == values.stride():
            axes.add(axis)
        else:  # a view: the axis of the same size and stride is the same axis
            same = [
                other
                for other in range(1, values.ndim)
                if (values.shape[other], values.stride(other)) == (size, stride)
            ]
            axes |= set(same) if len(same) == 1 else set()
    return axes or of_same_shape


def _of_layers(layer: nn.Module, values: Tensor) -> int | None:
    """Return the channel axis of the input or output of a convolution, pooling or normalisation."""
    last = values.ndim - 1
    if isinstance(layer, CHANNELS_FIRST):
        return 1 if last else None
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 1 and len(weight) > 1:  # some normalisation
        fitting = [axis for axis in range(1, last + 1) if values.shape[axis] == len(weight)]
        if len(fitting) == 1:
            return fitting[0]
        if type(layer) in (nn.LayerNorm, nn.RMSNorm):
            return last
    return None


def _of_linear(layer: nn.Module, values: Tensor) -> int | None:
    """Return the last axis for a linear layer; weaker evidence, because the layer may mix positions."""
    return values.ndim - 1 if isinstance(layer, nn.Linear) else None


def _by_shape(trace: Trace, values: Tensor) -> set[int]:
    """Return the axis for which the other axes have the aspect ratio of the images; empty if ambiguous."""
    sizes = values.shape[1:]
    if values.ndim == 3:
        tokens = _token_counts(trace)
        fitting = {axis for axis in (1, 2) if sizes[2 - axis] in tokens}
        return fitting if len(fitting) == 1 else set()
    if values.ndim == 4:
        fitting = {axis for axis, (p, q) in ((1, sizes[1:]), (3, sizes[:2])) if _like_images(trace, p, q)}
        return fitting if len(fitting) == 1 else set()
    return set()


def on_grid(trace: Trace, values: Tensor, layout: Layout) -> bool:
    """Whether the positions of a map have the aspect ratio of the images, or are their patches."""
    if values.ndim == 3:
        return layout.positions(values) in _grids(trace)
    at = [size for axis, size in enumerate(values.shape) if axis not in (0, layout.channels)]
    return _like_images(trace, *at[-2:])


def _like_images(trace: Trace, p: int, q: int) -> bool:
    height, width = trace.images.shape[-2:]
    return p <= height and q <= width and abs(p - q * height / width) < (1 if height != width else 0.5)


def _grids(trace: Trace) -> set[int]:
    """Return the numbers of positions of the maps of this network, which may become tokens."""
    counts = set()
    for _, value in trace.events:
        if value.ndim == 4:
            first, last = (_like_images(trace, *pair) for pair in (value.shape[2:], value.shape[1:3]))
            if first != last:
                counts.add(value.shape[2:].numel() if first else value.shape[1:3].numel())
    counts.discard(trace.images.shape[2:].numel())
    if counts:
        return counts
    patches = next((value for _, value in trace.events if value.ndim == 3), None)  # without a convolution
    return set() if patches is None else {patches.shape[1]}


def _known_prefix(module: nn.Module) -> int:
    """Return timm's attribute ``num_prefix_tokens`` of the network or of one of its modules, or 0."""
    counts = [getattr(layer, "num_prefix_tokens", 0) for layer in module.modules()]
    return max((count for count in counts if isinstance(count, int)), default=0)


def _registers(module: nn.Module) -> int:
    """Return the number of learnt tokens that are called register tokens, as in timm and transformers."""
    named = [(name.rpartition(".")[2], values) for name, values in module.named_parameters()]
    return sum(
        values.shape[1]
        for name, values in named
        if name.startswith("reg") and values.ndim == 3 and len(values) == 1
    )


def _token_counts(trace: Trace) -> set[int]:
    extras = {0, _known_prefix(trace.module), *_small_tokens(trace.module)}
    return {size + extra for size in _grids(trace) for extra in extras}


def _small_tokens(module: nn.Module) -> set[int]:
    """Return the numbers of learnt tokens ``[1, T, C]`` of each parameter, and their total."""
    counts = [values.shape[1] for values in module.parameters() if values.ndim == 3 and len(values) == 1]
    counts = [count for count in counts if count <= MOST_PREFIX]  # larger ones are position embeddings
    return {*counts, sum(counts)}


def _prefix(trace: Trace, tokens: Tensor, channels: int) -> int:
    """Return the number of tokens in addition to a grid of patches."""
    count, grids = tokens.shape[3 - channels], _grids(trace)
    known = _known_prefix(trace.module)
    if known and count - known in grids:
        return known
    if count in grids:
        return 0
    fitting = [extra for extra in _small_tokens(trace.module) if count - extra in grids]
    if fitting or not 0 < known < count:
        return min(fitting, default=0)
    longer = any(value.ndim == 3 and count + known in value.shape for _, value in trace.events)
    return 0 if longer else known  # a longer sequence means that the tokens are added later


def _by_larger_images(trace: Trace, place: Place, values: Tensor) -> set[int]:
    """Return the axes that do not grow with the images; empty if the network does not accept larger ones."""
    *rest, height, width = trace.images.shape
    larger = torch.zeros(*rest, height + 64, width + 64, device=trace.images.device, dtype=trace.images.dtype)
    try:
        other = trace_forward(copy.deepcopy(trace.module), larger)  # some networks cache tables for a size
    except (FeatoodError, RuntimeError, ValueError, TypeError):
        return set()
    grown = first_tensor(other.returned) if place == OUTPUT else other.values.get(place)
    if grown is None or grown.ndim != values.ndim:
        return set()
    return _unchanged(values.shape, grown.shape)


def _unchanged(before: Sequence[int], after: Sequence[int]) -> set[int]:
    return {axis for axis in range(1, len(before)) if before[axis] == after[axis]}
