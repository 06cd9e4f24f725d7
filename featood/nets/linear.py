"""Linear layers whose matrix products use AVX-512 on every processor that has it."""

from __future__ import annotations

__all__ = ["Linear", "linear"]

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# PyTorch computes products in float32 by MKL, which reaches less than half the speed of AVX-512 on processors of other
# makers than Intel (110 of 257 GFLOP/s on an AMD EPYC), and only those in bfloat16 by oneDNN. Its operator for compiled
# graphs gives access to oneDNN in float32.
_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # neither name is public
    and hasattr(torch._C, "_are_functorch_transforms_active")
)
WORK = 2**21
"""Multiplications below which the time of a call matters more than that of the product."""


def linear(
    rows: Float[Tensor, "*rows size"],
    weight: Float[Tensor, "outputs size"],
    bias: Float[Tensor, "outputs"] | None = None,
) -> Float[Tensor, "*rows outputs"]:
    """Return ``rows @ weight.T + bias``, as :func:`torch.nn.functional.linear` does, to rounding.

    Large products of matrices in float32 on processors with AVX-512 are those of oneDNN, all others those of PyTorch.

    Parameters
    ----------
    rows : Tensor
        ``[..., size]``.
    weight, bias : Tensor
        ``[outputs, size]`` and ``[outputs]``.

    Returns
    -------
    Tensor
        ``[..., outputs]``, differentiable any number of times.

    Examples
    --------
    >>> import torch
    >>> linear(torch.ones(1, 3), torch.ones(2, 3), torch.ones(2))
    tensor([[4., 4.]])
    """
    if not _by_onednn(rows, weight):
        return F.linear(rows, weight, bias)
    product: Any = _Product.apply if torch.is_grad_enabled() else _product
    return product(rows, weight, bias)


class Linear(nn.Linear):
    """A linear layer that computes by :func:`linear`."""

    def forward(
        self, input: Float[Tensor, "... {self.in_features}"]
    ) -> Float[Tensor, "... {self.out_features}"]:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        return linear(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """:func:`_product` with its gradients, which the operator lacks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,), (rows, weight) = gradients, ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            linear(slope, weight.T) if of_rows else None,
            linear(slope.T, rows.T) if of_weight else None,
            slope.sum(0) if of_bias else None,
        )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    operator: Any = torch.ops.mkldnn._linear_pointwise
    return operator(_dense(rows), _dense(weight), bias, "none", [], "")


def _by_onednn(rows: Tensor, weight: Tensor) -> bool:
    return (
        _ONEDNN
        and not torch.compiler.is_compiling()  # exported graphs run elsewhere, for any number of rows
        and rows.ndim == 2
        and len(rows) * weight.numel() >= WORK
        and rows.dtype == weight.dtype == torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # they have rules for PyTorch's operators alone
    )


def _dense(matrix: Tensor) -> Tensor:
    """Return a matrix whose elements are contiguous, in rows or in columns."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()
