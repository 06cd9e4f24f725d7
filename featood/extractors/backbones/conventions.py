"""Names of featood's networks in the checkpoints of other code."""

from __future__ import annotations

__all__ = ["other_names"]

import math
import re
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from featood.extractors.weights import Conversion
from featood.nets.cifar_resnet import CifarResNet
from featood.nets.small_resnet import SmallResNet
from featood.nets.wide_resnet import WideResNet

_RENAMED: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    SmallResNet: ((r"\bshortcut\.", "downsample."),),
    CifarResNet: ((r"\bdownsample\.", "shortcut."),),
    WideResNet: (
        (r"\blayer(\d)\.(\d+)\.", r"block\1.layer.\2."),
        (r"\b(?:conv_)?shortcut\.(?:0\.)?", "convShortcut."),
        (r"\blinear\.", "fc."),
    ),
}
_HOOK = (
    "read 'weight_orig' as 'weight' with spectral normalisation; the file's code divides the weights of 3x3 "
    "convolutions by 1.00001 more"
)
_SPECTRAL = re.compile(r"(.*\.)weight_(orig|u|v|sigma)")


def other_names(net: nn.Module) -> Conversion:
    """Return the conversion of the names in other code to those of a network of featood.

    Renamed are the parts of residual networks, and the tensors of spectral normalisation by a hook
    (https://github.com/jhjacobsen/invertible-resnet, also used by DDU and https://github.com/selflein/MA-EBM), which
    stores its vectors flat. Left out are tensors that the forward pass of the other code does not use: the last layer
    of an encoder with a latent head (``fc_mu``), and the first normalisation of a network without one.

    Parameters
    ----------
    net : Module
        The network.
    """
    renamed = next((pairs for kind, pairs in _RENAMED.items() if isinstance(net, kind)), ())
    layers = dict(net.named_modules())

    def conversion(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
        names = dict(_renamed(flat, renamed))
        if len(names) < len(flat):  # two names became one
            return flat, ""
        notes = [f"read '{old}' as '{new}'" for old, new in _differences(flat, names)]
        found: dict[str, Tensor] = {}
        for name, tensor in names.items():
            match = _SPECTRAL.fullmatch(name)
            weight = names.get(f"{match[1]}weight_orig") if match else None
            if _unused(name, names, layers):
                notes.append(
                    f"left out {name.rpartition('.')[0]}, which the network in the file does not use"
                )
            elif match and weight is not None:
                notes.append(_HOOK)
                if match[2] != "sigma":
                    kind = match[2].replace("orig", "")
                    found["_".join(filter(None, (f"{match[1]}weight", kind)))] = _vector(tensor, kind, weight)
            else:
                found[name] = tensor
        return found, "; ".join(dict.fromkeys(notes))

    return conversion


def _renamed(flat: Mapping[str, Tensor], pairs: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in flat.items():
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        yield name, tensor


def _differences(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the parts of names that were renamed, without numbers."""
    for old, new in zip(before, after, strict=True):
        parts = [[re.sub(r"\d+", "", part) for part in name.split(".")] for name in (old, new)]
        gone, come = (
            [part for part in one if part and part not in other] for one, other in (parts, parts[::-1])
        )
        if gone and come:
            yield gone[0], come[0]


def _unused(name: str, names: Mapping[str, Tensor], layers: Mapping[str, nn.Module]) -> bool:
    if match := re.fullmatch(r"(.*\b)?encoder\.fc\.(?:weight|bias)", name):
        return f"{match[1] or ''}fc_mu.weight" in names
    first = re.fullmatch(r"(?:.*\.)?(block1\.layer\.0\.bn1)\.\w+", name)
    return first is not None and isinstance(layers.get(first[1]), nn.Identity)


def _vector(tensor: Tensor, kind: str, weight: Tensor) -> Tensor:
    """Return a flat vector of spectral normalisation as ``[1, C]``, of a convolution as a square ``[1, C, H, W]``."""
    width = weight.shape[0 if kind == "u" else 1]
    if not kind or tensor.ndim != 1 or not width or len(tensor) % width:
        return tensor
    side = math.isqrt(len(tensor) // width)
    if weight.ndim == 2:
        return tensor[None]
    return tensor.view(1, width, side, side) if side**2 * width == len(tensor) else tensor
