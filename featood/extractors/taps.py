"""Taps: module outputs that become feature columns, determined from one forward pass."""

from __future__ import annotations

__all__ = ["TapPlan", "plan_taps"]

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featood.cache.feature_set import Classifier
from featood.errors import UsageError
from featood.extractors.columns import Column, Tap
from featood.extractors.layout import VECTORS, Layout, find_layout, is_map, on_grid
from featood.extractors.linear_head import LinearHead, find_linear_head, head_inputs
from featood.extractors.outputs import (
    KINDS,
    Returned,
    class_outputs,
    declared_density,
    declared_kind,
    density_of,
    inferred_kind,
    pick_output,
)
from featood.extractors.pooling import MAP, POOLS, pool, positions_of
from featood.extractors.trace import (
    OUTPUT,
    Place,
    Trace,
    noise_like,
    recording,
    trace_forward,
)

DEFAULT = ("avg", "std")
FIRST = "the backbone returns several tensors; the first is used as its outputs"


@dataclasses.dataclass(frozen=True)
class TapPlan:
    """What to record in a forward pass, and how to compute columns from it."""

    columns: dict[str, Column]
    """Columns of features by name."""
    main: str
    """The input column of the classifier, or the column that represents a network without one."""
    outputs: str
    """Kind of the network's outputs: ``classes``, ``multi-label``, ``regression``, ``density`` or ``features``."""
    head: LinearHead | None = None
    """The linear classifier; None if there is none, or outputs are not classes."""
    map_shape: tuple[int, ...] = ()
    """``(C, H, W)``, or ``(C, T)`` for tokens, of the rows of the column ``map``; empty without this column."""
    taps: Mapping[str, Tap] = dataclasses.field(default_factory=dict)
    """The requested stages, by name."""
    note: str = ""
    """A note for the user; empty for an ordinary classifier."""
    density: str = ""
    """Column of the log-density, or the energy, that the network declares its outputs to be of; empty if none."""

    @property
    def has_logits(self) -> bool:
        """Whether the network's outputs are logits."""
        return self.outputs == "classes"

    def classifier(self, module: nn.Module) -> Classifier | None:
        """Return weight ``[C, D]`` and bias ``[C]`` from the main column to the logits, as NumPy arrays."""
        return None if self.head is None else self.head.classifier(module)

    def columns_json(self) -> dict[str, list[Any]]:
        """Return the definition of each column for the recipe, with everything that affects values."""
        return {name: column.as_json() for name, column in self.columns.items()}

    @contextlib.contextmanager
    def recording(self, module: nn.Module) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
        """Context manager of a function from a batch of images to its columns, with the hooks attached."""
        places = {tap.place for column in self.columns.values() for tap in column.taps}
        with recording(module, places) as seen:

            def run(images: Tensor) -> dict[str, Tensor]:
                output = module(images)
                if OUTPUT in places:
                    seen[OUTPUT] = _returned(output, self.outputs).values
                values = {name: column.values(seen) for name, column in self.columns.items()}
                if self.has_logits:
                    values["logits"] = class_outputs(output).float()
                if self.density:
                    values[self.density] = density_of(output, self.density)
                seen.clear()
                return values

            yield run


def plan_taps(
    module: nn.Module,
    example: Tensor,
    taps: Sequence[str] = (),
    pools: Sequence[str] | None = None,
    maps: bool = False,
    outputs: str = "auto",
) -> TapPlan:
    """Run one forward pass and decide which columns to record.

    The classifier's input is always a column, named ``avg`` or ``token`` if it equals that pooling of the last map,
    otherwise ``penultimate``. Poolings of the last map are named by the pooling, those of a tapped module
    ``MODULE.POOL``. A network without a linear classifier is represented by the input of its last layer, or its last
    map; a network that returns features, by these (``output``). A network that is not a classifier can name the
    submodule whose output represents it, in its attribute ``feature_layer``.

    Parameters
    ----------
    module : Module
        A network in evaluation mode.
    example : Tensor
        A batch of at least two images ``[B, C, H, W]``, of which only the shape matters.
    taps : sequence of str
        Names of further submodules whose output to pool.
    pools : sequence of str, optional
        Some of ``avg, std, max, avg_std, token, gram``; by default ``avg``, and ``std`` if there is more than one
        position.
    maps : bool
        Add the column ``map``: the last map, whose average over positions is the classifier's input.
    outputs : str
        Kind of the network's outputs. ``classes`` adds a column of logits; ``multi-label`` and ``regression`` add a
        column of features ``outputs``; ``features`` makes them the main column. ``auto`` infers the kind, and states it
        in the note of the plan.

    Raises
    ------
    UsageError
        If a tap or a pooling does not exist or is impossible; `maps` is true, but the classifier's input is not the
        average of the last map; or the outputs cannot be used.
    """
    for how in pools or ():
        if how not in POOLS:
            raise UsageError(f"there is no pooling '{how}'; choose from {', '.join(POOLS)}")
    if outputs not in KINDS:
        raise UsageError(f"outputs must be one of {', '.join(KINDS)}, not {outputs}")
    padded = getattr(module, "padded", False)
    if padded and (taps or pools or maps):
        raise UsageError(
            "inputs of this backbone are padded to the same length, which poolings of its modules would include: omit "
            "--tap, --pool and --maps"
        )
    trace = trace_forward(module, noise_like(example))
    kind, head, notes = _outputs(trace, outputs)
    columns: dict[str, Column] = {}
    map_shape: tuple[int, ...] = ()
    if kind == "features":
        main = "output"
        columns[main] = Column((_tap(trace, OUTPUT),))
    else:
        declared = _declared_feature(trace)
        feature = declared or (head.column if head is not None else _feature(trace))
        before = min(trace.index(tap.place) for tap in feature.taps)
        last = None if declared or padded else _last_map(trace, before, feature)
        main = _name(trace, feature, last)
        if last is not None:
            columns = {how: Column((last,), how) for how in pools or DEFAULT if how != main}
            if maps and main == "avg" and head is not None:
                columns[MAP] = Column((last,), MAP)
                map_shape = _map_shape(trace, last)
        if padded and any(trace.values[tap.place].ndim > 2 for tap in feature.taps):
            raise UsageError(
                "the classifier of this backbone is applied to each token, so there is no vector of features per "
                "input: let a callable return one, or take an encoder"
            )
        columns = {main: feature, **columns}
        if kind not in ("classes", "density"):
            columns["outputs"] = Column((Tap(OUTPUT, assumed=VECTORS),))
    if maps and not map_shape:
        raise UsageError(
            "the classifier's input in this backbone is not the average of the last map, so heads cannot use that map; "
            "omit --maps"
        )
    stages = {name: _stage_tap(trace, name) for name in taps}
    for name, tap in stages.items():
        if tap.place in trace.several:
            notes.append(f"'{name}' returns several tensors; the first is used")
        many = tap.layout.positions(trace.values[tap.place]) > 1
        for how in pools or (DEFAULT if many else DEFAULT[:1]):
            columns[f"{name}.{how}"] = Column((tap,), how)
    for name, column in columns.items():
        if column.how == "token" and name != main and not column.taps[0].layout.prefix:
            raise UsageError(f"there is no class token for the column '{name}'; omit token in --pool")
    plan = TapPlan(
        columns, main, kind, head if kind == "classes" else None, map_shape, stages, "; ".join(notes),
        declared_density(module),
    )  # fmt: skip
    with plan.recording(module) as run, torch.inference_mode():
        run(trace.images)  # raises errors now rather than during the extraction
    return plan


def _returned(output: Any, kind: str) -> Returned:
    """Select the outputs; if they are features, a single map or tokens are accepted."""
    if kind == "features" and isinstance(output, Tensor) and output.ndim > 2 and output.shape[2:].numel() > 1:
        return Returned(output)
    return pick_output(output)


def _outputs(trace: Trace, requested: str) -> tuple[str, LinearHead | None, list[str]]:
    """Return the kind of the outputs, the linear classifier that computes them, and notes on unusual outputs."""
    makers = trace.makers()
    without = any(getattr(maker, "num_classes", None) == 0 for maker in makers)
    returned = _returned(trace.returned, "features" if requested == "features" or without else "")
    notes = [FIRST] if returned.among > 1 else []
    if not torch.isfinite(returned.values).all():
        raise UsageError("the backbone's outputs are not finite, even for random images: check its weights")
    kind, why = (requested, "") if requested != "auto" else declared_kind(makers, returned) or ("", "")
    if declared_density(trace.module) and returned.values.shape[1] == 1:
        return "density", None, notes
    if kind == "features":
        return kind, None, [*notes, *([f"the outputs are used as features: {why}"] if why else [])]
    head = None if _declared_feature(trace) else find_linear_head(trace, returned.values)
    if not kind:
        wide = any(event.value.ndim == 2 for event in head_inputs(trace, returned.values))
        kind, why = inferred_kind(makers, returned, head is not None, wide)
    if kind == "classes":
        if head is None:
            notes.append(
                "the backbone has no linear classifier: its outputs are stored as logits, and heads that need weights "
                "and biases do not apply" + (f" ({why})" if why else "")
            )
    elif kind == "features":
        notes.append(f"the outputs are used as features: {why}")
    else:
        notes.append(
            f"the backbone's outputs are {kind}{f' ({why})' if why else ''}: they are stored in the column 'outputs', "
            "and heads that need classes do not apply"
        )
    return kind, head, notes


def _tap(trace: Trace, place: Place, larger: bool = True) -> Tap:
    values = _returned(trace.returned, "features").values if place == OUTPUT else trace.values[place]
    return Tap(place, find_layout(trace, place, values, larger), Layout(2 if values.ndim == 3 else 1))


def _declared_feature(trace: Trace) -> Column | None:
    """Return the output of the submodule that the network declares, as its features."""
    name = getattr(trace.module, "feature_layer", "")
    return Column((_stage_tap(trace, name),)) if name else None


def _feature(trace: Trace) -> Column:
    """Select the features of a network without a linear classifier: the input of the last layer, or the last map."""
    output = class_outputs(trace.returned)
    inputs = head_inputs(trace, output)
    others = [
        e for e in reversed(trace.events) if e.value.ndim > 1 and e.value.shape[1:].numel() != output.shape[1]
    ]
    for event in [*inputs[:1], *(e for e in others if is_map(e.value)), *others]:
        with contextlib.suppress(UsageError):
            return Column((_tap(trace, event.place, larger=False),))
    raise UsageError("no features can be found in this backbone: use its outputs with --outputs features")


def _last_map(trace: Trace, before: int, feature: Column) -> Tap | None:
    """Find the last map before the classifier whose layout can be determined."""
    values = trace.values
    first = feature.taps[0]
    if len(feature.taps) == 1 and first.layout.positions(values[first.place]) > 1:
        return first
    width = feature.values(values).shape[1]
    for event in reversed(trace.events[:before]):
        shape = event.value.shape
        if not is_map(event.value) or len(event.value) != len(trace.images):
            continue
        with contextlib.suppress(UsageError):
            tap = _tap(trace, event.place, larger=False)
            if (
                len(shape) == 4 and shape[1] != width == shape[3]
            ):  # keeps the fingerprints of earlier versions
                tap = dataclasses.replace(tap, assumed=Layout(3))
            of_image = shape[tap.layout.channels] == width or on_grid(trace, event.value, tap.layout)
            if of_image and tap.layout.positions(event.value) > 1:
                return tap
    return None


def _name(trace: Trace, feature: Column, last: Tap | None) -> str:
    """Return ``avg`` or ``token`` if the features are that pooling of the last map, otherwise ``penultimate``."""
    if last is None or feature.unit:
        return "penultimate"
    values = trace.values
    if feature.taps == (last,):
        return feature.how if feature.how in POOLS else "penultimate"
    taken = feature.values(values)
    for how in ("token", "avg") if values[last.place].ndim == 3 else ("avg",):
        pooled = pool(values[last.place].float(), how, *last.layout)
        if pooled.shape == taken.shape and torch.allclose(pooled, taken, 1e-4, 1e-5):
            return how
    return "penultimate"


def _map_shape(trace: Trace, last: Tap) -> tuple[int, ...]:
    values = trace.values[last.place]
    if values.ndim == 3:
        positions = positions_of(values, last.layout.channels)[:, last.layout.prefix :]
        return (positions.shape[2], positions.shape[1])
    return tuple(values.movedim(last.layout.channels, 1).shape[1:])


def _stage_tap(trace: Trace, name: str) -> Tap:
    module, place = trace.module, Place(name, "output")
    names = dict(module.named_modules())
    if name not in names or not name:
        known = [child for child, _ in module.named_children()]
        raise UsageError(f"the backbone has no module '{name}' to tap (its stages: {', '.join(known)})")
    if place not in trace.values:
        ran = "returns no tensor" if trace.calls.get(name) else "is not run"
        raise UsageError(f"the module '{name}' {ran} in a forward pass, so it cannot be tapped")
    return _tap(trace, place)
