"""The layer that makes the logits, where a checkpoint has it under another name, or not at all."""

from __future__ import annotations

__all__ = ["FoundHead", "find_head"]

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_HEADS = {
    "fc", "fc_out", "head", "heads", "classifier", "classification_head", "cls_head", "linear", "linear_classifier",
    "linear_head", "last_linear", "logits", "lin", "probe", "linear_probe", "output_layer", "final",
}  # fmt: skip


class FoundHead(NamedTuple):
    """What a checkpoint has of the layers that make the logits, beside what has their names."""

    tensors: dict[str, Tensor]
    """Under the network's names."""
    used: set[str]
    """The names in the file that these had."""
    absent: set[str]
    """Names of the network that are missing, and may be."""
    notes: list[str]


def find_head(
    flat: Mapping[str, Tensor], own: Mapping[str, Tensor], prefix: str, heads: tuple[str, ...], used: set[str]
) -> FoundHead:
    """Look for the layers that make the logits where a checkpoint lacks them under their names.

    One linear layer is taken that has the right width and lies where a classifier would: beneath the module
    that holds the network's own (``fc.1`` for ``fc``), or under a usual name beside the network. Where there is
    none, or a head of several layers, whose activations no file tells, the network goes without.

    Parameters
    ----------
    flat : mapping
        The checkpoint.
    own : mapping
        The network's state dict.
    prefix : str
        Where in the checkpoint the network lies.
    heads : tuple of str
        The network's modules that make logits; none means that its own names are all there may be.
    used : set of str
        The names in the checkpoint that have been taken.
    """
    names = [f"{head}.{kind}" for head in heads for kind in ("weight", "bias") if f"{head}.{kind}" in own]
    missing = [name for name in names if prefix + name not in used]
    if not missing:
        return FoundHead({}, set(), set(), [])
    weight, bias = f"{heads[0]}.weight", f"{heads[0]}.bias"
    if missing == [bias] and len(heads) == 1:
        zeros = torch.zeros(len(flat[prefix + weight]))
        return FoundHead({bias: zeros}, set(), set(), [f"{heads[0]} has no bias in the file: it is 0"])
    groups = _groups(flat, prefix, heads[0].partition(".")[0], used)
    layers = {group: _one_linear(flat, members, own[weight]) for group, members in groups.items()}
    found = [layer for layer in layers.values() if layer]
    if len(heads) == 1 and len(found) == 1:
        layer = found[0]
        tensors = {weight: flat[f"{layer}.weight"].reshape(-1, *own[weight].shape[1:])}
        if bias in own:
            tensors[bias] = flat.get(f"{layer}.bias", torch.zeros(len(tensors[weight])))
        members = {name for name in flat if name.startswith(f"{layer}.")}
        return FoundHead(tensors, members, set(), [f"took the layer '{layer}' for its classifier {heads[0]}"])
    # without its classifier, a network may also come without all that surrounds it
    around = [name for name in own if name.partition(".")[0] == heads[0].partition(".")[0]]
    absent = set(missing) if any(prefix + name in used for name in around) else set(around)
    why = (
        f"the head in the file, {', '.join(groups)}, is not one linear layer"
        if groups
        else "no head in the file"
    )
    members = {name for group in groups.values() for name in group}
    return FoundHead({}, members, absent, [f"{why}: features only, without logits"])


def _groups(flat: Mapping[str, Tensor], prefix: str, home: str, used: set[str]) -> dict[str, list[str]]:
    """Names by the module that could be a head, at every level at or above the network's."""
    levels = [prefix[:cut] for cut in range(len(prefix), 0, -1) if prefix[cut - 1] == "."] + [""]
    groups: dict[str, list[str]] = {}
    for name in flat:
        if name in used:
            continue
        for level in levels:
            first = name.removeprefix(level).partition(".")[0] if name.startswith(level) else ""
            if first in _HEADS or (level == prefix and first == home):
                groups.setdefault(level + first, []).append(name)
                break
    return groups


def _one_linear(flat: Mapping[str, Tensor], members: list[str], own: Tensor) -> str:
    """Return the module that a group of names consists of, if it is one layer of the right width."""
    modules = {name.rpartition(".")[0] for name in members}
    module = next(iter(modules)) if len(modules) == 1 else ""
    weight = flat.get(f"{module}.weight")
    kinds = {name.rpartition(".")[2] for name in members}
    if weight is None or not kinds <= {"weight", "bias"}:
        return ""
    return module if weight.ndim >= 2 and weight[:1].numel() == own[:1].numel() else ""
