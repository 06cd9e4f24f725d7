"""The last map or tokens of a network, and what the vectors after it are."""

from __future__ import annotations

__all__ = ["POOLED", "last_map", "origin_of", "pooling_name", "tap_at"]

import contextlib
import dataclasses
import re

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.columns import Column, Tap
from featood.extractors.layout import Layout, find_layout, is_map, on_grid
from featood.extractors.pooling import POOLS, pool
from featood.extractors.trace import Place, Trace

POOLED = {"token": "the class token", "avg": "the mean over positions"}
"""What poolings are called in notes."""
_ATTENTION_POOLING = re.compile(r"Attent\w*Pool")
"""In the names of classes of timm, open_clip and transformers."""


def tap_at(trace: Trace, place: Place, values: Tensor, larger: bool = True) -> Tap:
    """Return the tap of a place with the layout of its values; see :func:`featood.extractors.layout.find_layout`."""
    return Tap(place, find_layout(trace, place, values, larger), Layout(2 if values.ndim == 3 else 1))


def last_map(trace: Trace, before: int, feature: Column) -> Tap | None:
    """Find the last map before the classifier whose layout can be determined."""
    values = trace.values
    first = feature.taps[0]
    if len(feature.taps) == 1 and first.layout.positions(values[first.place]) > 1:
        return first
    width = feature.values(values).shape[1]
    inside = tuple(f"{name}." for name in _attention_poolings(trace.module))  # keys and values, not the map
    for event in reversed(trace.events[:before]):
        shape = event.value.shape
        if not is_map(event.value) or len(event.value) != len(trace.images):
            continue
        if event.place.module.startswith(inside) or event.value.data_ptr() == trace.images.data_ptr():
            continue
        with contextlib.suppress(UsageError):
            tap = tap_at(trace, event.place, event.value, larger=False)
            if (
                len(shape) == 4 and shape[1] != width == shape[3]
            ):  # keeps the fingerprints of earlier versions
                tap = dataclasses.replace(tap, assumed=Layout(3))
            of_image = shape[tap.layout.channels] == width or on_grid(trace, event.value, tap.layout)
            if of_image and tap.layout.positions(event.value) > 1:
                return tap
    return None


def pooling_name(trace: Trace, feature: Column, last: Tap | None) -> str:
    """Return ``avg`` or ``token`` if the features are that pooling of the last map, otherwise ``penultimate``."""
    if last is None or feature.unit:
        return "penultimate"
    if feature.taps == (last,):
        return feature.how if feature.how in POOLS else "penultimate"
    return _pooling(feature.values(trace.values), trace.values[last.place], last) or "penultimate"


def origin_of(trace: Trace, last: Tap) -> str:
    """Return by which layer outputs are computed from the last map, or from a pooling of it; empty if unknown."""
    for layer in _attention_poolings(trace.module):
        return f"pooled by attention in '{layer}'"
    vectors = [event for event in trace.events if event.place.side == "input" and event.value.ndim == 2]
    for event in vectors:
        name = _pooling(event.value, trace.values[last.place], last)
        if name and any(True for _ in trace.layer(event).parameters()):
            return f"computed from {POOLED[name]} by '{event.place.module}'"
    return ""


def _pooling(taken: Tensor, values: Tensor, last: Tap) -> str:
    """Return which of `POOLED` of the last map some values ``[B, C]`` are; empty if none."""
    for how in POOLED if values.ndim == 3 else ("avg",):
        pooled = pool(values.float(), how, *last.layout)
        if pooled.shape == taken.shape and torch.allclose(pooled, taken.float(), 1e-4, 1e-5):
            return how
    return ""


def _attention_poolings(module: nn.Module) -> list[str]:
    """List the modules that pool tokens by attention."""
    return [name for name, layer in module.named_modules() if _ATTENTION_POOLING.search(type(layer).__name__)]
