"""Mean and standard error of the results of several seeds."""

from __future__ import annotations

__all__ = ["mean_and_error"]

import math
from collections.abc import Sequence


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of independent repetitions and its standard error ``s / sqrt(n)``, s dividing by n - 1.

    The standard error of a single value is NaN.

    Examples
    --------
    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt(variance / count)
