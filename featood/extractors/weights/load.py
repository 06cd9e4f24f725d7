"""Loading weights into a network, and the digest of its state dict."""

from __future__ import annotations

__all__ = ["fill", "load_weights", "weights_sha256"]

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.errors import DataError, Mismatch
from featood.extractors.weights.files import read_checkpoint
from featood.extractors.weights.matching import match


def load_weights(net: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Load a checkpoint into ``net``, in place; every name and shape must match.

    Only the batch counters of batch normalisation may be missing, as in old checkpoints. They are set to zero, and do
    not affect outputs.

    Parameters
    ----------
    net
        The network.
    path
        See :func:`read_checkpoint`.

    Returns
    -------
    tuple of str
        What was chosen, one line each.

    Raises
    ------
    Mismatch
        If a parameter or buffer is missing, unexpected or of another shape. The network is then unchanged.
    DataError
        If the file cannot be read, or a tensor contains NaN or infinity.
    """
    checkpoint = read_checkpoint(path)
    found = match(checkpoint, net.state_dict(), type(net).__name__)
    return found.notes + fill(net, found.tensors, checkpoint.name)


def fill(net: nn.Module, tensors: Mapping[str, Tensor], path: str) -> tuple[str, ...]:
    """Load matched tensors into a network, and return a note about rounded ones.

    Raises
    ------
    Mismatch
        If a shape differs; buffers of the network without elements take the size in the file.
    DataError
        If a tensor contains NaN or infinity, or declares more numbers than the file contains.
    """
    expected = net.state_dict()
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise DataError(f"{path}: {name} is not a plain tensor, but sparse, quantised or without values")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise DataError(f"{path}: {name} declares more numbers than the file contains")
        if tensor.shape != expected[name].shape and expected[name].numel():
            raise Mismatch(
                f"{path}: {name} has the shape {list(tensor.shape)}, not {list(expected[name].shape)}"
            )
        numbers = tensor.float() if tensor.element_size() == 1 else tensor
        if tensor.is_floating_point() and not torch.isfinite(numbers).all():
            raise DataError(f"{path}: {name} contains NaN or infinity; the training diverged")
    state = OrderedDict(tensors)
    # versions of modules, by which they detect old layouts; the names here are current
    state._metadata = expected._metadata  # type: ignore[attr-defined]
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # a buffer of a size that its layer does not take
        raise Mismatch(f"{path}: {' '.join(str(error).split())[:300]}") from error
    wide = sum(tensor.dtype == torch.float64 != expected[name].dtype for name, tensor in tensors.items())
    return (f"{wide} tensors are float64 in the file and rounded to float32",) if wide else ()


def weights_sha256(module: nn.Module) -> str:
    """Hash the state dict of a module: names, types, shapes and values, independent of order, device and file.

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
