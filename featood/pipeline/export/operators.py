"""ONNX functions for the operators of PyTorch that its exporter lacks.

The exporter calls them with values of the graph, and adds the nodes that they create to it.
"""

from __future__ import annotations

__all__ = ["translations"]

import math
from collections.abc import Callable, Sequence
from typing import Any

SHIFT = 8
"""Asymptotic series are used this far from zero and more, where they are exact to 14 digits."""
DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)
"""Coefficients ``B_2k / 2k`` of the series of digamma."""
LGAMMA = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
"""Coefficients ``B_2k / (2k (2k - 1))`` of the series of the logarithm of the gamma function."""
INT64, FLOAT64 = 7, 11
"""Numbers of types in ONNX."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the functions by operator, as ``torch.onnx.export`` takes them."""
    import torch
    from onnxscript import opset18

    op: Any = opset18

    def axis(number: int) -> Any:
        return op.Constant(value_ints=[number])

    def number(value: float) -> Any:
        import onnx

        return op.Constant(value=onnx.helper.make_tensor("value", FLOAT64, [], [value]))

    def sort_stable(
        values: Any, stable: bool = True, dim: int = -1, descending: bool = False
    ) -> tuple[Any, Any]:
        # among equal values, TopK returns the lower index first
        size = op.Gather(op.Shape(values), axis(dim))
        return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    def searchsorted(
        ordered: Any, values: Any, out_int32: bool = False, right: bool = False, side: Any = None, sorter: Any = None
    ) -> Any:  # fmt: skip
        ordered, values = op.Unsqueeze(ordered, axis(-2)), op.Unsqueeze(values, axis(-1))
        before = op.LessOrEqual(ordered, values) if right or side == "right" else op.Less(ordered, values)
        return op.ReduceSum(op.Cast(before, to=INT64), axis(-1), keepdims=0)

    def distances(rows: Any, others: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
        gaps = op.Sub(op.Unsqueeze(rows, axis(-2)), op.Unsqueeze(others, axis(-3)))
        return op.ReduceL2(gaps, axis(-1), keepdims=0)

    def series(coefficients: Sequence[float], square: Any) -> Any:
        total = number(0.0)
        for coefficient in reversed(coefficients):
            total = op.Add(number(coefficient), op.Mul(square, total))
        return total

    def digamma(x: Any) -> Any:
        # of positive numbers in float64: psi(x) = psi(x + n) - sum_k 1 / (x + k)
        far = op.Add(x, number(SHIFT))
        square = op.Reciprocal(op.Mul(far, far))
        found = op.Sub(op.Log(far), op.Div(number(0.5), far))
        found = op.Sub(found, op.Mul(square, series(DIGAMMA, square)))
        for step in range(SHIFT):
            found = op.Sub(found, op.Reciprocal(op.Add(x, number(step))))
        return found

    def lgamma(x: Any) -> Any:
        # of positive numbers in float64: ln G(x) = ln G(x + n) - sum_k ln(x + k)
        far = op.Add(x, number(SHIFT))
        inverse = op.Reciprocal(far)
        found = op.Sub(op.Mul(op.Sub(far, number(0.5)), op.Log(far)), far)
        found = op.Add(found, number(math.log(2 * math.pi) / 2))
        found = op.Add(found, op.Mul(inverse, series(LGAMMA, op.Mul(inverse, inverse))))
        for step in range(SHIFT):
            found = op.Sub(found, op.Log(op.Add(x, number(step))))
        return found

    return {
        torch.ops.aten.sort.stable: sort_stable,
        torch.ops.aten.searchsorted.Tensor: searchsorted,
        torch.ops.aten._cdist_forward.default: distances,
        torch.ops.prims.digamma.default: digamma,
        torch.ops.prims.lgamma.default: lgamma,
    }
