"""Files of weights: read safely, load strictly, identify by content."""

from __future__ import annotations

__all__ = ["load_weights", "read_state_dict", "weights_sha256"]

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from featood.errors import DataError, Mismatch

_KEYS = ("state_dict", "model", "model_state_dict", "net", "ema", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"
_MAX_LISTED = 8


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint onto the CPU, without running anything that the file contains.

    Parameters
    ----------
    path
        A safetensors file, or one that ``torch.save`` wrote: a state dict, or a checkpoint that holds one
        under a usual key (``state_dict``, ``model``, ``ema``, ...).

    Returns
    -------
    dict
        Tensors by name, without the ``module.`` and ``_orig_mod.`` that wrappers put in front of every name.

    Raises
    ------
    DataError
        If the file is missing, damaged, or no checkpoint, or needs code to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file of weights at {path}")
    try:
        if path.suffix == ".safetensors" or _looks_like_safetensors(path):
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen types for a damaged file
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise DataError(
                f"{path}: refused, for it holds {refused[1]}, not just tensors; save the state dict alone"
            ) from error
        raise DataError(f"{path}: not a readable file of weights; damaged or of another kind") from error
    state = _find_state_dict(content)
    if state is None:
        raise DataError(f"{path}: no state dict in it, neither at the top nor under {', '.join(_KEYS)}")
    return _drop_prefixes(state)


def _looks_like_safetensors(path: Path) -> bool:
    """Whether the file starts with the length of a JSON header that fits into it, and a brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _find_state_dict(content: Any) -> dict[str, torch.Tensor] | None:
    for _ in range(3):  # checkpoints nest once or twice; a hostile one could contain itself
        if not isinstance(content, Mapping) or not content:
            return None
        if all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()):
            return dict(content)
        content = next((content[key] for key in _KEYS if isinstance(content.get(key), Mapping)), None)
    return None


def _drop_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _PREFIXES * 2:  # wrappers come in either order
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def load_weights(net: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint into ``net``, in place; every name and shape has to agree.

    Only the batch counters of batch normalisation may be absent, as in checkpoints older than they are; they
    then become zero. They change no output.

    Raises
    ------
    Mismatch
        If a parameter or buffer is missing, unexpected or of another shape. The network is then untouched.
    DataError
        If the file cannot be read, or a tensor holds NaN or infinity.
    """
    own, state = net.state_dict(), read_state_dict(path)
    for name in own.keys() - state.keys():
        if name.rpartition(".")[2] == _COUNTER:
            state[name] = torch.zeros_like(own[name])
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name} is {_shape(state[name])}, expected {_shape(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        listed = "; ".join(problems[:_MAX_LISTED])
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise Mismatch(f"{path} does not fit this {type(net).__name__}: {listed}{more}")
    if bad := next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None):
        raise DataError(f"{path}: {bad} holds NaN or infinity; the training that wrote it diverged")
    net.load_state_dict(state)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def weights_sha256(module: nn.Module) -> str:
    """Hash the state dict of a module: names, types, shapes and values, whatever their order, device or file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy())
    return digest.hexdigest()
