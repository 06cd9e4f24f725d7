"""Finding the layer of the logits in a checkpoint where it has another name or is missing."""

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
    """The layers of the logits that a checkpoint has under other names."""

    tensors: dict[str, Tensor]
    """Their tensors under the names of the network."""
    used: set[str]
    """Their names in the file."""
    absent: set[str]
    """Names of the network that may be missing."""
    notes: list[str]


def find_head(
    flat: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    prefix: str,
    heads: tuple[str, ...],
    used: set[str],
) -> FoundHead:
    """Find the layers of the logits, if a checkpoint does not have them under the names of the network.

    A single linear layer of the right width is accepted inside the module of the network's own layer (``fc.1`` for
    ``fc``), or under a usual name outside the network. If there is none, or a head of several layers, whose activation
    functions are not in the file, the network is used without classifier.

    Parameters
    ----------
    flat : mapping
        The checkpoint.
    expected : mapping
        The network's state dict.
    prefix : str
        Prefix of the network in the checkpoint.
    heads : tuple of str
        The modules of the network that compute logits; if empty, other names are not searched.
    used : set of str
        The names in the checkpoint that are already used.
    """
    names = [
        f"{head}.{kind}" for head in heads for kind in ("weight", "bias") if f"{head}.{kind}" in expected
    ]
    missing = [name for name in names if prefix + name not in used]
    if not missing:
        return FoundHead({}, set(), set(), [])
    weight, bias = f"{heads[0]}.weight", f"{heads[0]}.bias"
    if missing == [bias] and len(heads) == 1:
        zeros = torch.zeros(len(flat[prefix + weight]))
        return FoundHead({bias: zeros}, set(), set(), [f"{heads[0]} has no bias in the file: it is set to 0"])
    groups = _groups(flat, prefix, heads[0].partition(".")[0], used)
    layers = {group: _one_linear(flat, members, expected[weight]) for group, members in groups.items()}
    found = [layer for layer in layers.values() if layer]
    if len(heads) == 1 and len(found) == 1:
        layer = found[0]
        tensors = {weight: flat[f"{layer}.weight"].reshape(-1, *expected[weight].shape[1:])}
        if bias in expected:
            tensors[bias] = flat.get(f"{layer}.bias", torch.zeros(len(tensors[weight])))
        members = {name for name in flat if name.startswith(f"{layer}.")}
        return FoundHead(tensors, members, set(), [f"used the layer '{layer}' as classifier {heads[0]}"])
    # without its classifier, the whole module around it may be missing too
    around = [name for name in expected if name.partition(".")[0] == heads[0].partition(".")[0]]
    absent = set(missing) if any(prefix + name in used for name in around) else set(around)
    why = (
        f"the head in the file, {', '.join(groups)}, is not one linear layer"
        if groups
        else "the file has no head"
    )
    members = {name for group in groups.values() for name in group}
    return FoundHead({}, members, absent, [f"{why}: features only, without logits"])


def _groups(flat: Mapping[str, Tensor], prefix: str, home: str, used: set[str]) -> dict[str, list[str]]:
    """Group the names by modules that could be a head, at the level of the network or above."""
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


def _one_linear(flat: Mapping[str, Tensor], members: list[str], expected: Tensor) -> str:
    """Return the module of a group of names if it is a single layer of the right width, or an empty string."""
    modules = {name.rpartition(".")[0] for name in members}
    module = next(iter(modules)) if len(modules) == 1 else ""
    weight = flat.get(f"{module}.weight")
    kinds = {name.rpartition(".")[2] for name in members}
    if weight is None or not kinds <= {"weight", "bias"}:
        return ""
    return module if weight.ndim >= 2 and weight[:1].numel() == expected[:1].numel() else ""
