"""Tracing of modules, and what prevents it in words."""

from __future__ import annotations

__all__ = ["traced"]

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from featood.errors import FeatoodError, UsageError

REASONS = {
    "Could not guard on data-dependent": "its computation branches on the values of the rows",
    "not supported for tensor subclasses": "it computes outside of PyTorch",
    "get value out of a tracing tensor": "its computation depends on values in Python",
    "Constraints violated": "its computation depends on the number of rows",
}
"""Parts of PyTorch's messages, and what they mean for a head."""


def traced(name: str, module: nn.Module, arguments: Sequence[Tensor]) -> ExportedProgram:
    """Trace a module for any number of rows.

    Parameters
    ----------
    name : str
        Name of what is exported, for messages.
    module : Module
        It takes tensors with the same number of rows.
    arguments : sequence of Tensor
        Examples of at least two rows.

    Raises
    ------
    UsageError
        If it cannot be traced; the message says why.
    """
    shapes: Any = ShapesCollection()
    for values in arguments:
        shapes[values] = {0: Dim("rows")}
    printed = io.StringIO()  # of some errors, PyTorch prints the whole graph
    with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(printed), redirect_stderr(printed):
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module.eval(), tuple(arguments), dynamic_shapes=shapes, strict=False)
        except FeatoodError:
            raise
        except Exception as error:  # PyTorch raises errors of many kinds
            raise UsageError(f"{name} cannot be exported: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(error).strip()
    for part, reason in REASONS.items():
        if part in text:
            return reason
    return text.partition("\n")[0] or type(error).__name__
