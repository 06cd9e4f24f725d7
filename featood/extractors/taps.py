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
from featood.extractors.last_map import POOLED, last_map, origin_of, pooling_name, tap_at
from featood.extractors.layout import VECTORS, is_map
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
from featood.extractors.pooling import MAP, POOLS, positions_of
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

    def only(self, name: str) -> TapPlan:
        """Return the plan that records only one of the columns, besides the logits."""
        return dataclasses.replace(self, columns={name: self.columns[name]}, density="")

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
    map; a network that returns features, by these, named ``output`` unless a pooling is requested and they equal the
    class token or the mean of the patches. A network that is not a classifier can name the
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
        Some of :data:`featood.extractors.pooling.POOLS`; by default ``avg``, and ``std`` if there is more than one
        position; for a network that returns features, none of the last map.
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
        main, columns, identity = _of_features(trace, pools)
        notes += [f"they are {identity}"] if identity else []
    else:
        declared = _declared_feature(trace)
        feature = declared or (head.column if head is not None else _feature(trace))
        before = min(trace.index(tap.place) for tap in feature.taps)
        last = None if declared or padded else last_map(trace, before, feature)
        main = pooling_name(trace, feature, last)
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
    notes += _check_tokens(columns, main)
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
    return tap_at(trace, place, values, larger)


def _of_features(trace: Trace, pools: Sequence[str] | None) -> tuple[str, dict[str, Column], str]:
    """Return the main column of a network that returns features, its columns, and what the features are."""
    tap = _tap(trace, OUTPUT)
    trace = dataclasses.replace(
        trace, values={**trace.values, OUTPUT: _returned(trace.returned, "features").values}
    )
    feature = Column((tap,))
    last = last_map(trace, len(trace.events), feature)
    name = pooling_name(trace, feature, last)
    if last is None:
        what = "not from a map or tokens, so --pool does not apply" if pools else ""
    else:
        what = POOLED.get(name) or origin_of(trace, last)
    if last is None or not pools:
        return "output", {"output": feature}, what
    main = "output" if name == "penultimate" else name
    return main, {main: feature, **{how: Column((last,), how) for how in pools if how != main}}, what


def _check_tokens(columns: Mapping[str, Column], main: str) -> list[str]:
    """Return a note on register tokens that no column contains.

    Raises
    ------
    UsageError
        If a pooling needs tokens that are not there.
    """
    left_out = set()
    for name, column in columns.items():
        layout = column.taps[0].layout
        if column.how in ("token", "token_avg") and name != main and layout.prefix == layout.registers:
            raise UsageError(f"there is no class token for the column '{name}'; omit {column.how} in --pool")
        if column.how == "registers" and not layout.registers:
            raise UsageError(
                f"there are no register tokens for the column '{name}'; omit registers in --pool"
            )
        left_out.add(layout.registers)
    count = max(left_out)
    if not count or any(column.how == "registers" for column in columns.values()):
        return []
    return [f"the {count} register tokens are not pooled (--pool registers adds their mean)"]


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
