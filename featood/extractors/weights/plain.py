"""Stand-ins for the plain types that checkpoints hold beside tensors.

PyTorch's restricted unpickler calls what it is told that a name stands for. These names are told to stand for
the functions and classes of this module, so that neither the types' own code nor NumPy's parsers run on what a
file holds: numbers, strings and arrays are read from their bytes, everything else is let go.
"""

from __future__ import annotations

__all__ = ["Array", "plain_types"]

from collections import OrderedDict
from typing import Any

import numpy as np


class _Inert:
    """An object whose content does not matter."""

    def __new__(cls, *_: Any) -> Any:
        """Let go of what the object is made with."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Type:
    """An element type of NumPy: numbers, booleans and strings, and nothing with fields or objects in it."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def read(self, content: Any) -> np.ndarray | None:
        """Return the bytes as a vector of elements, or None where they are not of a plain type."""
        content = content.encode("latin1") if isinstance(content, str) else content
        if (
            not isinstance(content, bytes)
            or self.code[:1] not in tuple("biufcSU")
            or self.order not in "<>|="
        ):
            return None
        if not self.code[1:].isdigit() or len(self.code) > 8:
            return None
        kind = np.dtype(self.order + self.code)
        return np.frombuffer(content, kind).astype(kind.newbyteorder("="))


class Array:
    """An array of NumPy; ``value`` is the array, the list of its objects, or None."""

    value: Any = None

    def __new__(cls, *_: Any) -> Any:
        """Let go of the type and the shape: both come with the state."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if isinstance(content, list):
            self.value = content
        elif isinstance(kind, _Type) and (flat := kind.read(content)) is not None:
            self.value = flat.reshape(shape, order="F" if by_columns else "C")


def _scalar(kind: Any, content: Any = None) -> Any:
    values = kind.read(content) if isinstance(kind, _Type) else None
    return values[0].item() if values is not None and len(values) else None


def _list(*_: Any) -> list[Any]:
    return []


def _dict(*_: Any) -> dict[str, Any]:
    return {}


class _Dict:
    """A dictionary with attributes."""

    def __new__(cls, *_: Any) -> Any:
        """Make the one dictionary that the unpickler gives attributes to."""
        return OrderedDict()


_INERT = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "builtins": "bool bytes dict float frozenset int list object range slice str tuple",
    "numpy": "bool bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 str_",
    **dict.fromkeys(
        ("pathlib", "pathlib._local"), "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
    ),
    # older versions of Lightning number their callbacks' states by class
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
}
_DICTS = (
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "addict.addict.Dict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)


def plain_types() -> list[Any]:
    """Return what ``torch.serialization.safe_globals`` takes: stand-ins and the names they stand for."""
    found: list[Any] = [
        (_Inert, f"{module}.{name}") for module, names in _INERT.items() for name in names.split()
    ]
    found += [(_Dict, name) for name in _DICTS]
    found += [(_dict, "collections.defaultdict"), (_list, "collections.deque")]
    found += [(_Type, "numpy.dtype"), (Array, "numpy.ndarray")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found += [(_scalar, f"{module}.scalar"), (Array, f"{module}._reconstruct")]
    return found
