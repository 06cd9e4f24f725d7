"""Which tensors of a checkpoint are a network's: by name, wherever they lie, whatever wrapped them.

A checkpoint is a tree of names, and the network's weights lie beneath one of its nodes: ``state_dict``,
``model_ema.module``, ``state_dict.backbone`` are all the same kind of thing, a prefix under which every name of
the network is found.
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
"""From a checkpoint's names to those of the network, and one line about it; nothing where there is nothing to do."""

_AVERAGES = {"ema", "swa", "average", "averaged", "avg", "polyak", "shadow"}
_FIRST = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net")
# what wrappers put between the names of modules: DataParallel, torch.compile, FSDP, activation checkpointing
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var")
# what profilers and older versions leave inside a network, and that changes none of its outputs
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
        Modules that make the logits: their number is free, and they may be absent.
    stem : str
        The first convolution: its channels are free.
    positions : str
        Position embeddings ``[1, N, D]``: N is free.
    """

    head: tuple[str, ...] = ()
    stem: str = ""
    positions: str = ""


@dataclasses.dataclass(frozen=True)
class Match:
    """The tensors of a checkpoint under the names of a network, and what was chosen, a line each."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    absent: frozenset[str] = frozenset()
    """The network's names that the checkpoint lacks, for it has no layer that makes logits."""


@dataclasses.dataclass
class _Candidate:
    prefix: str
    tensors: dict[str, Tensor]
    problems: list[str]
    notes: list[str]
    absent: set[str]
    rest: list[str]
    """Names in the file that are not the network's."""


def match(
    checkpoint: Checkpoint,
    own: Mapping[str, Tensor],
    what: str,
    slots: Slots = Slots(),
    conversions: Iterable[Conversion] = (),
) -> Match:
    """Find a network's tensors in a checkpoint.

    Averaged weights come before those they are the average of, unless the checkpoint was asked for an entry.
    What is beside the network is left out, and named; what is inside it and not part of it is a mismatch, for
    a smaller network's names are all found in a larger one.

    Parameters
    ----------
    checkpoint : Checkpoint
        What was read.
    own : mapping
        The network's state dict.
    what : str
        The network, for messages.
    slots : Slots
        What may differ in shape.
    conversions : iterable
        Tried in turn where the names do not fit as they are.

    Raises
    ------
    Mismatch
        If a parameter or buffer is missing, unexpected, of another shape or not of floating point.
    """
    start = f"{checkpoint.entry}." if checkpoint.entry else ""
    flat = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(start)}
    tried: list[_Candidate] = []
    for conversion in (_as_they_are, *conversions):
        names, said = conversion(flat)
        candidates = _candidates(_unwrapped(names, own), own, slots)
        fitting = sorted((one for one in candidates if not one.problems), key=lambda one: _rank(one.prefix))
        if fitting:
            best = fitting[0]
            notes = [*_choice(checkpoint, best, fitting), *([said] if said else []), *best.notes]
            return Match(best.tensors, (*notes, *_left_out(best, fitting)), frozenset(best.absent))
        tried += candidates
    nearest = min(tried, key=lambda one: (len(one.problems), _rank(one.prefix)))
    listed = "; ".join(nearest.problems[:_MAX_LISTED])
    more = len(nearest.problems) - _MAX_LISTED
    raise Mismatch(
        f"{checkpoint.name} does not fit this {what}: {listed}" + (f"; and {more} more" if more > 0 else "")
    )


def _as_they_are(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    return flat, ""


def _unwrapped(flat: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take wrappers' names out from between those of modules, where the network itself has none such."""
    wrappers = _WRAPPERS - set(itertools.chain.from_iterable(name.split(".") for name in own))
    clean: dict[str, Tensor] = {}
    for name, tensor in flat.items():
        parts = name.split(".")
        short = ".".join(part for part in parts if part not in wrappers)
        clean[name if short in clean or short in flat else short] = tensor
    return clean


def _candidates(flat: Mapping[str, Tensor], own: Mapping[str, Tensor], slots: Slots) -> list[_Candidate]:
    votes: Counter[str] = Counter()
    for name in flat:
        cut = 0
        while cut != -1:
            if name[cut:] in own:
                votes[name[:cut]] += 1
            cut = name.find(".", cut) + 1 or -1
    most = max(votes.values(), default=0)
    prefixes = [prefix for prefix, count in votes.items() if 3 * count >= most] or [""]
    found = [_candidate(flat, own, prefix, slots) for prefix in prefixes[:32]]
    whole = next((one for one in found if not one.problems), None)
    for place, one in enumerate(found):
        absent = [name for name in own if name not in one.tensors and name not in one.absent]
        if (
            whole
            and absent
            and _is_average(one.prefix)
            and all(name.endswith(_STATISTICS) for name in absent)
        ):
            # averages kept by hand are of parameters alone; batch statistics stay those of the network
            filled = {one.prefix + name: whole.tensors[name] for name in absent}
            found[place] = _candidate({**flat, **filled}, own, one.prefix, slots)
            found[place].notes.append(
                f"the average has no running statistics; took those of {_named(whole.prefix)}"
            )
    return found


def _candidate(
    flat: Mapping[str, Tensor], own: Mapping[str, Tensor], prefix: str, slots: Slots
) -> _Candidate:
    tensors = {name: flat[prefix + name] for name in own if prefix + name in flat}
    for name in own.keys() - tensors.keys():
        if name.rpartition(".")[2] == _COUNTER:  # absent from checkpoints older than they are
            tensors[name] = torch.zeros_like(own[name])
    used = {prefix + name for name in tensors}
    head = find_head(flat, own, prefix, slots.head, used)
    tensors |= head.tensors
    rest = [name for name in flat if name not in used | head.used]
    problems = [f"missing {name}" for name in own if name not in tensors and name not in head.absent]
    children = {name.partition(".")[0] for name in own if "." in name}
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
        if own[name].is_floating_point() and not tensor.is_floating_point():
            problems.append(f"{name} is {tensor.dtype}, expected {own[name].dtype}".replace("torch.", ""))
        elif not _fits(tensor, own[name], free.get(name)):
            problems.append(f"{name} is {_shape(tensor)}, expected {_shape(own[name])}")
    return _Candidate(prefix, tensors, problems, head.notes, head.absent, rest)


def _is_inside(name: str, tensor: Tensor, children: set[str]) -> bool:
    """Whether a tensor belongs inside the network, so that this network is not the one that was saved."""
    if name.rpartition(".")[2] in _IDLE:
        return False
    # single numbers beside the network count steps or weigh losses; larger tensors are tokens and scales
    return name.partition(".")[0] in children if "." in name else tensor.numel() > 1


def _fits(tensor: Tensor, own: Tensor, free: int | None) -> bool:
    shape, wanted = list(tensor.shape), list(own.shape)
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
    """Averages first, as in timm; then the usual entries; else the order of the file."""
    words, first = _words(prefix), prefix.partition(".")[0]
    kind = 0 if words & _AVERAGES else 1 if "teacher" in words else 2
    return kind, _FIRST.index(first) if first in _FIRST else len(_FIRST)


def _named(prefix: str) -> str:
    return f"'{prefix[:-1]}'" if prefix else "the top"


def _choice(checkpoint: Checkpoint, best: _Candidate, fitting: Sequence[_Candidate]) -> list[str]:
    others = [one.prefix for one in fitting if one is not best]
    if not best.prefix and not others:
        return []
    kind = "the average" if _is_average(best.prefix) else "the weights"
    line = f"took {kind} under {_named(best.prefix)}"
    path = checkpoint.name.removesuffix(f"#{checkpoint.entry}") if checkpoint.entry else checkpoint.name
    if others:
        line += f", not those under {' or '.join(map(_named, others))}"
        if chosen := next(filter(None, others), ""):
            line += f" (--weights {path}#{chosen[:-1]} takes these)"
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
            f"the average under '{averages[0]}' does not have this network's names, so it is not used"
        )
    return lines
