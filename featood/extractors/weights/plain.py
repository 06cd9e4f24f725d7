"""Safe replacements of plain types that checkpoints contain besides tensors.

PyTorch's restricted unpickler calls the functions that are registered for names. The names of plain types are
registered with the functions and classes of this module, so that neither the code of these types nor NumPy's parsers
run on the content of a file: numbers, strings and arrays are read from their bytes, everything else is discarded.
"""

from __future__ import annotations

__all__ = ["Array", "plain_types"]

from collections import OrderedDict
from typing import Any

import numpy as np


class _Inert:
    """An object whose content is discarded."""

    def __new__(cls, *_: Any) -> Any:
        """Discard the arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Type:
    """A data type of NumPy: numbers, booleans and strings, but no fields or objects."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def read(self, content: Any) -> np.ndarray | None:
        """Convert bytes to a vector of elements, or None if the type is not plain."""
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
    """A NumPy array; ``value`` is the array, the list of its objects, or None."""

    value: Any = None

    def __new__(cls, *_: Any) -> Any:
        """Discard type and shape, which are part of the state."""
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
        """Make an ordinary dictionary, which the unpickler fills."""
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
    # older versions of Lightning use classes as keys of the states of callbacks
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
    """Return the replacements with their names, for ``torch.serialization.safe_globals``."""
    found: list[Any] = [
        (_Inert, f"{module}.{name}") for module, names in _INERT.items() for name in names.split()
    ]
    found += [(_Dict, name) for name in _DICTS]
    found += [(_dict, "collections.defaultdict"), (_list, "collections.deque")]
    found += [(_Type, "numpy.dtype"), (Array, "numpy.ndarray")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found += [(_scalar, f"{module}.scalar"), (Array, f"{module}._reconstruct")]
    return found
