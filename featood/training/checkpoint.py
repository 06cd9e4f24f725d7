"""Checkpoints: the complete state of a training as named tensors, so that it resumes exactly."""

from __future__ import annotations

__all__ = ["clear_checkpoint", "digest", "load_checkpoint", "restore", "save_checkpoint", "snapshot"]

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featood.errors import CacheCorrupt, Mismatch
from featood.names import name_problem
from featood.objects import Location
from featood.records import check_record, whole
from featood.sealed import read_json
from featood.storage import atomic_write, children, remove, size_of, write_json

RECORD = "checkpoint.json"
KINDS = {"step": whole(), "file": name_problem, "tensors_sha256": str, "settings": dict}


def digest(*tensors: Tensor) -> str:
    """Return a hash of the values of tensors, which identifies the data of a training."""
    sha256 = hashlib.sha256()
    for values in tensors:
        sha256.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, generators: Sequence[torch.Generator] = ()
) -> dict[str, Tensor]:
    """Copy the parameters and buffers, the optimiser's state, and the states of the generators."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    tensors |= {f"generator.{index}": one.get_state() for index, one in enumerate(generators)}
    return {name: value.detach().clone() for name, value in tensors.items()}


def restore(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: Sequence[torch.Generator] = (),
) -> None:
    """Restore a :func:`snapshot`."""
    states: dict[int, dict[str, Tensor]] = {}
    weights = {}
    for key, value in tensors.items():
        kind, name = key.split(".", 1)
        if kind == "model":
            weights[name] = value
        elif kind == "optimizer":
            index, name = name.split(".", 1)
            states.setdefault(int(index), {})[name] = value.clone()
        elif kind == "generator":
            generators[int(name)].set_state(value.cpu())
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(
    folder: Location, step: int, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> None:
    """Write a checkpoint; the previous one remains valid until this one is complete."""
    from safetensors.torch import save

    content = save({name: value.cpu().contiguous() for name, value in tensors.items()})
    file = f"step-{step}.safetensors"
    atomic_write(folder / file, content)
    sha256 = hashlib.sha256(content).hexdigest()
    write_json(
        folder / RECORD,
        {"step": step, "file": file, "tensors_sha256": sha256, "settings": _plain(settings)},
    )
    _remove_tensors(folder, keep=file)


def load_checkpoint(folder: Location, settings: Mapping[str, Any]) -> tuple[int, dict[str, Tensor]] | None:
    """Read the checkpoint in a folder; return None if there is none.

    Raises
    ------
    Mismatch
        If it belongs to a training with other settings.
    CacheCorrupt
        If it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if size_of(folder / RECORD) is None:
        return None
    try:
        record = check_record(read_json(folder / RECORD), KINDS, folder / RECORD, "")
        content = (folder / record["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != record["tensors_sha256"]:
            raise CacheCorrupt("")
        tensors = load(content)
    except (CacheCorrupt, FileNotFoundError, KeyError, SafetensorError):
        raise CacheCorrupt(
            f"the checkpoint in {folder} is damaged; delete the folder to train from scratch"
        ) from None
    theirs, ours = record["settings"], _plain(settings)
    if differing := [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]:
        raise Mismatch(
            f"{folder} contains an unfinished training with other settings ({', '.join(differing)}); "
            "use the same settings to resume it, or delete the folder to train from scratch"
        )
    return record["step"], tensors


def clear_checkpoint(folder: Location) -> None:
    """Remove the checkpoint of a completed training, and its folder if nothing else is in it."""
    remove(folder / RECORD)
    _remove_tensors(folder)
    if not children(folder):
        remove(folder)


def _remove_tensors(folder: Location, keep: str = "") -> None:
    for path in children(folder):
        if path.name.startswith("step-") and ".safetensors" in path.name and path.name != keep:
            remove(path)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as read back from JSON (tuples become lists)."""
    return json.loads(json.dumps(dict(settings)))
