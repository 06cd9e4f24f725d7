"""Matching the tensors of a checkpoint with a network by name, under any prefix and wrapper.

A checkpoint is a tree of names, and the weights of the network are below one of its nodes: ``state_dict``,
``model_ema.module`` and ``state_dict.backbone`` are all prefixes under which every name of the network is found.
"""

from __future__ import annotations

__all__ = ["Conversion", "Match", "Slots", "match"]

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from featood.errors import Mismatch
from featood.extractors.weights.files import Checkpoint
from featood.extractors.weights.head import find_head

Conversion = Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Tensor], str]]
"""Converts the names of a checkpoint to those of the network, and returns a note, empty if nothing changed."""

_AVERAGES = {"ema", "swa", "average", "averaged", "avg", "polyak", "shadow"}
_FIRST = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net")
# names inserted by wrappers: DataParallel, torch.compile, FSDP, activation checkpointing
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var")
# tensors of profilers and older versions that do not affect the outputs of a network
_IDLE = {
    _COUNTER,
    "total_ops",
    "total_params",
    "relative_position_index",
    "attn_mask",
    "mask_token",
    "position_ids",
}
_MAX_LISTED = 8


@dataclasses.dataclass(frozen=True)
class Slots:
    """The tensors of a network that may have another shape in a file.

    Parameters
    ----------
    head : tuple of str
        Modules of the logits: the number of outputs may differ, and they may be missing.
    stem : str
        The first convolution: the number of input channels may differ.
    positions : str
        Position embeddings ``[1, N, D]``: N may differ.
    """

    head: tuple[str, ...] = ()
    stem: str = ""
    positions: str = ""


@dataclasses.dataclass(frozen=True)
class Match:
    """The tensors of a checkpoint under the names of a network, and notes on what was chosen."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    absent: frozenset[str] = frozenset()
    """Names of the network that are missing because the checkpoint has no layer of logits."""


@dataclasses.dataclass
class _Candidate:
    prefix: str
    tensors: dict[str, Tensor]
    problems: list[str]
    notes: list[str]
    absent: set[str]
    rest: list[str]
    """Names in the file that do not belong to the network."""


def match(
    checkpoint: Checkpoint,
    expected: Mapping[str, Tensor],
    what: str,
    slots: Slots = Slots(),
    conversions: Iterable[Conversion] = (),
) -> Match:
    """Find the tensors of a network in a checkpoint.

    Averaged weights are preferred to the latest ones, unless an entry of the checkpoint was selected. Tensors outside
    the network are left out and reported. Unknown tensors inside the network are a mismatch, because a larger network
    contains all names of a smaller one.

    Parameters
    ----------
    checkpoint : Checkpoint
        The content of the file.
    expected : mapping
        The state dict of the network.
    what : str
        Name of the network for messages.
    slots : Slots
        Tensors that may differ in shape.
    conversions : iterable
        Conversions to try in order if the names do not match.

    Raises
    ------
    Mismatch
        If a parameter or buffer is missing, unexpected, of another shape or not of floating point.
    """
    start = f"{checkpoint.entry}." if checkpoint.entry else ""
    flat = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(start)}
    tried: list[_Candidate] = []
    for conversion in (_unchanged, *conversions):
        names, note = conversion(flat)
        candidates = _candidates(_unwrapped(names, expected), expected, slots)
        fitting = sorted((one for one in candidates if not one.problems), key=lambda one: _rank(one.prefix))
        if fitting:
            best = fitting[0]
            notes = [*_choice(checkpoint, best, fitting), *([note] if note else []), *best.notes]
            return Match(best.tensors, (*notes, *_left_out(best, fitting)), frozenset(best.absent))
        tried += candidates
    nearest = min(tried, key=lambda one: (len(one.problems), _rank(one.prefix)))
    listed = "; ".join(nearest.problems[:_MAX_LISTED])
    more = len(nearest.problems) - _MAX_LISTED
    raise Mismatch(
        f"{checkpoint.name} does not match this {what}: {listed}" + (f"; and {more} more" if more > 0 else "")
    )


def _unchanged(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    return flat, ""


def _unwrapped(flat: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the names of wrappers, unless the network itself has modules of these names."""
    wrappers = _WRAPPERS - set(itertools.chain.from_iterable(name.split(".") for name in expected))
    clean: dict[str, Tensor] = {}
    for name, tensor in flat.items():
        parts = name.split(".")
        short = ".".join(part for part in parts if part not in wrappers)
        clean[name if short in clean or short in flat else short] = tensor
    return clean


def _candidates(flat: Mapping[str, Tensor], expected: Mapping[str, Tensor], slots: Slots) -> list[_Candidate]:
    votes: Counter[str] = Counter()
    for name in flat:
        cut = 0
        while cut != -1:
            if name[cut:] in expected:
                votes[name[:cut]] += 1
            cut = name.find(".", cut) + 1 or -1
    most = max(votes.values(), default=0)
    prefixes = [prefix for prefix, count in votes.items() if 3 * count >= most] or [""]
    found = [_candidate(flat, expected, prefix, slots) for prefix in prefixes[:32]]
    whole = next((one for one in found if not one.problems), None)
    for place, one in enumerate(found):
        absent = [name for name in expected if name not in one.tensors and name not in one.absent]
        if (
            whole
            and absent
            and _is_average(one.prefix)
            and all(name.endswith(_STATISTICS) for name in absent)
        ):
            # some averages contain only parameters; batch statistics are taken from the network
            filled = {one.prefix + name: whole.tensors[name] for name in absent}
            found[place] = _candidate({**flat, **filled}, expected, one.prefix, slots)
            found[place].notes.append(
                f"the average has no running statistics; used those of {_named(whole.prefix)}"
            )
    return found


def _candidate(
    flat: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str, slots: Slots
) -> _Candidate:
    tensors = {name: flat[prefix + name] for name in expected if prefix + name in flat}
    for name in expected.keys() - tensors.keys():
        if name.rpartition(".")[2] == _COUNTER:  # missing in old checkpoints
            tensors[name] = torch.zeros_like(expected[name])
    used = {prefix + name for name in tensors}
    head = find_head(flat, expected, prefix, slots.head, used)
    tensors |= head.tensors
    rest = [name for name in flat if name not in used | head.used]
    problems = [f"missing {name}" for name in expected if name not in tensors and name not in head.absent]
    children = {name.partition(".")[0] for name in expected if "." in name}
    inside = [
        name.removeprefix(prefix)
        for name in rest
        if name.startswith(prefix)
        and (problems or _is_inside(name.removeprefix(prefix), flat[name], children))
    ]
    problems += [f"unexpected {name}" for name in inside]
    free = {f"{module}.{kind}": 0 for module in slots.head for kind in ("weight", "bias")}
    free |= {f"{slots.stem}.weight": 1, slots.positions: 1}
    for name, tensor in tensors.items():
        if expected[name].is_floating_point() and not tensor.is_floating_point():
            problems.append(
                f"{name} is {tensor.dtype}, expected {expected[name].dtype}".replace("torch.", "")
            )
        elif not _fits(tensor, expected[name], free.get(name)):
            problems.append(f"{name} is {_shape(tensor)}, expected {_shape(expected[name])}")
    return _Candidate(prefix, tensors, problems, head.notes, head.absent, rest)


def _is_inside(name: str, tensor: Tensor, children: set[str]) -> bool:
    """Whether a tensor is inside the network, which means that another network was saved."""
    if name.rpartition(".")[2] in _IDLE:
        return False
    # scalars outside the network are counters or weights of losses; larger tensors are tokens and scales
    return name.partition(".")[0] in children if "." in name else tensor.numel() > 1


def _fits(tensor: Tensor, expected: Tensor, free: int | None) -> bool:
    if not expected.numel():  # a buffer that takes the size in the file
        return True
    shape, wanted = list(tensor.shape), list(expected.shape)
    if free is not None and len(shape) == len(wanted) > free:
        shape[free] = wanted[free] = 0
    return shape == wanted


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _words(prefix: str) -> set[str]:
    return set(re.split(r"[^a-z]+", prefix.lower()))


def _is_average(prefix: str) -> bool:
    return bool(_words(prefix) & (_AVERAGES | {"teacher"}))


def _rank(prefix: str) -> tuple[int, int]:
    """Return the sorting key: averages first, as in timm; then usual entries; then the order of the file."""
    words, first = _words(prefix), prefix.partition(".")[0]
    kind = 0 if words & _AVERAGES else 1 if "teacher" in words else 2
    return kind, _FIRST.index(first) if first in _FIRST else len(_FIRST)


def _named(prefix: str) -> str:
    return f"'{prefix[:-1]}'" if prefix else "the top level"


def _choice(checkpoint: Checkpoint, best: _Candidate, fitting: Sequence[_Candidate]) -> list[str]:
    others = [one.prefix for one in fitting if one is not best]
    if not best.prefix and not others:
        return []
    kind = "the average" if _is_average(best.prefix) else "the weights"
    line = f"used {kind} under {_named(best.prefix)}"
    path = checkpoint.name.removesuffix(f"#{checkpoint.entry}") if checkpoint.entry else checkpoint.name
    if others:
        line += f", not those under {' or '.join(map(_named, others))}"
        if chosen := next(filter(None, others), ""):
            line += f" (use --weights {path}#{chosen[:-1]} for these)"
    return [line]


def _left_out(best: _Candidate, fitting: Sequence[_Candidate]) -> list[str]:
    others = tuple(one.prefix for one in fitting if one is not best and one.prefix)
    here = best.prefix.split(".")[:-1]
    groups: Counter[str] = Counter()
    for name in best.rest:
        if not name.startswith(others or "\0"):
            parts = name.split(".")
            common = next((at for at, part in enumerate(here) if parts[at : at + 1] != [part]), len(here))
            groups[".".join(parts[: common + 1])] += 1
    if not groups:
        return []
    listed = ", ".join(list(groups)[:_MAX_LISTED]) + (", ..." if len(groups) > _MAX_LISTED else "")
    lines = [f"left out {listed}: not part of this network"]
    averages = [name for name, count in groups.items() if count > 1 and _words(name) & _AVERAGES]
    if averages and not _is_average(best.prefix):
        lines.append(
            f"the average under '{averages[0]}' does not have the names of this network, so it is not used"
        )
    return lines
