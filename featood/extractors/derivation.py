"""Weight and bias of outputs that are linear in the tensors at some places, by automatic differentiation."""

from __future__ import annotations

__all__ = ["derive", "equal", "random_like"]

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from featood.errors import UsageError
from featood.extractors.columns import Column, Tap
from featood.extractors.outputs import class_outputs
from featood.extractors.pooling import MAP, positions_of
from featood.extractors.trace import Trace, rerun

TOLERANCE = 1e-4
_SLOPES = 1e-3
"""Derivatives are equal if they differ by less than this fraction of the largest."""
_MOST_ENTRIES = 1 << 28
"""Weights with more entries than this are not derived."""


def equal(made: Tensor, output: Tensor) -> bool:
    """Whether two tensors of outputs are equal, relative to the scale of the second."""
    return bool((made - output.float()).abs().max() <= TOLERANCE * output.float().abs().max())


def random_like(values: Tensor, seed: int) -> Tensor:
    """Return fixed noise with the shape and the standard deviation of some values."""
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values)
    spread = values.std()
    return noise * (spread if spread > 0 else 1.0)


def derive(trace: Trace, taps: Sequence[Tap], flat: bool = False) -> tuple[Column, Tensor, Tensor] | None:
    """Derive the linear layer from the tensors at some places to the outputs, if the outputs are linear in a pooling.

    Parameters
    ----------
    trace : Trace
        A forward pass.
    taps : sequence of Tap
        The places; those without influence are left out.
    flat : bool
        Whether a flattened map, with separate weights for each position, counts as a pooling too.

    Returns
    -------
    column : Column
        The features z: concatenated poolings, scaled to length 1 if only their direction matters.
    weight, bias : Tensor
        ``[C, D]`` and ``[C]``.
    """
    leaves = [random_like(trace.values[tap.place], seed).requires_grad_() for seed, tap in enumerate(taps)]
    passed = {tap.place: leaf for tap, leaf in zip(taps, leaves, strict=True)}
    try:
        output = class_outputs(rerun(trace, passed, grad=True)).float()
    except (RuntimeError, ValueError, IndexError, UsageError):
        return None  # these places cannot be replaced
    if not output.requires_grad:
        return None
    generator = torch.Generator().manual_seed(0)
    mixed = output @ torch.randn(output.shape[1], generator=generator).to(output)
    found = torch.autograd.grad(mixed.sum(), leaves, retain_graph=True, allow_unused=True)
    slopes = {tap: slope for tap, slope in zip(taps, found, strict=True) if slope is not None and slope.any()}
    if not slopes:
        return None
    column = Column(tuple(slopes), _pooling(slopes))
    if column.how == MAP and not (flat and all(_everywhere(*item) for item in slopes.items())):
        return None
    rows, z = _of_column(column, slopes.values()), column.values({k: v.detach() for k, v in passed.items()})
    linear = (rows - rows[:1]).abs().max() <= _SLOPES * rows.abs().max()
    radial = ((rows * z).sum(1).abs() <= _SLOPES * rows.norm(dim=1) * z.norm(dim=1)).all()
    if not (linear or radial) or output.shape[1] * rows.shape[1] > _MOST_ENTRIES:
        return None
    used = [passed[tap.place] for tap in slopes]
    if len(used) == 1 and _by_element(output, column, used):
        return None  # these are outputs, not features
    if not linear:
        return dataclasses.replace(column, unit=True), *_of_directions(
            output, _jacobian(output, column, used), z
        )
    zeros = {place: torch.zeros_like(leaf) for place, leaf in passed.items()}
    biases = class_outputs(rerun(trace, zeros)).float()
    if not equal(biases[:1], biases):
        return None  # the outputs depend on something else too
    return column, _jacobian(output, column, used)[0], biases[0]


def _positions(tap: Tap, slope: Tensor) -> Tensor:
    return slope[:, None] if slope.ndim == 2 else positions_of(slope, tap.layout.channels)


def _pooling(slopes: Mapping[Tap, Tensor]) -> str:
    """Return the pooling with these derivatives: equal at all patches, or zero except at the first token."""
    found = set()
    for tap, slope in slopes.items():
        at = _positions(tap, slope)
        before, patches = at[:, : tap.layout.prefix], at[:, tap.layout.prefix :]
        if not before.any() and (patches - patches[:, :1]).abs().max() <= _SLOPES * at.abs().max():
            found.add("avg")
        else:
            found.add("token" if slope.ndim == 3 and not at[:, 1:].any() else MAP)
    return found.pop() if len(found) == 1 else MAP


def _everywhere(tap: Tap, slope: Tensor) -> bool:
    """Whether the outputs depend on all positions of a map, not on a few that the network selects."""
    return slope.ndim > 2 and bool(_positions(tap, slope).abs().amax(2).all())


def _of_column(column: Column, slopes: Iterable[Tensor]) -> Tensor:
    """Return the derivatives ``[B, D]`` with respect to the features of a column, from those at its places."""
    parts = []
    for tap, slope in zip(column.taps, slopes, strict=True):
        at = _positions(tap, slope)
        parts.append(at[:, tap.layout.prefix :].mT.flatten(1) if column.how == MAP else at.sum(1))
    return torch.cat(parts, 1)


def _of_output(output: Tensor, unit: int, column: Column, leaves: Sequence[Tensor]) -> Tensor:
    return _of_column(column, torch.autograd.grad(output[:, unit].sum(), leaves, retain_graph=True))


def _by_element(output: Tensor, column: Column, leaves: Sequence[Tensor]) -> bool:
    """Whether each output depends on a single feature, so that the features are outputs already."""
    ends = [_of_output(output, unit, column, leaves) for unit in (0, output.shape[1] - 1)]
    return ends[0].shape[1] > 1 < output.shape[1] and all((end != 0).sum(1).max() <= 1 for end in ends)


def _jacobian(output: Tensor, column: Column, leaves: Sequence[Tensor]) -> Tensor:
    """Return the derivative of every output with respect to every feature ``[B, C, D]``."""
    return torch.stack([_of_output(output, unit, column, leaves) for unit in range(output.shape[1])], 1)


def _of_directions(output: Tensor, jacobian: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return W and b of ``W u + b`` with ``u = z / |z|``, from the derivatives ``W (I - u u') / |z|`` of two rows."""
    output, lengths = output.detach(), z.norm(dim=1)
    u = z / lengths[:, None]
    tangent = jacobian * lengths[:, None, None]
    step = u[0] - u[1]
    whole = [tangent[row] + output[row, :, None] * u[row] for row in (0, 1)]
    bias = (whole[0] - whole[1]) @ step / (step @ step)
    return whole[0] - bias[:, None] * u[0], bias
