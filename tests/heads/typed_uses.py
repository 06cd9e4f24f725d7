"""What a type checker sees of heads; `make lint` checks this file, nothing runs it."""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

from featood.cache import FeatureSet
from featood.heads import KNN


def scores_have_the_type_of_the_rows(
    rows: NDArray[np.float32], tensor: torch.Tensor, features: FeatureSet
) -> None:
    """A set has columns of either kind, so that its scores are of no type known beforehand."""
    head = assert_type(KNN(k=5).fit(rows), KNN)
    assert_type(head.score(rows), NDArray[np.float64])
    assert_type(head.score(tensor), torch.Tensor)
    assert_type(head.score(features), Any)


def options_have_names_and_types() -> None:
    """What strict mypy would not accept any more is reported as an unused ignore."""
    KNN(neighbours=5)  # type: ignore[call-arg]
    KNN(k="five")  # type: ignore[arg-type]
