"""Extra columns: what takes more of the network than one plain forward pass."""

from __future__ import annotations

__all__ = ["Extra", "extras_from_json", "extras_to_json"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.dropout import MonteCarloDropout
from featood.extractors.perturb import Odin
from featood.extractors.transform import Transform


class Extra(Protocol):
    """A frozen dataclass of options that makes one column of logits."""

    column: ClassVar[str]
    by_batch: ClassVar[bool]
    """Whether its values depend on how rows are batched."""

    def __call__(self, module: nn.Module, images: Tensor, transform: Transform, row: int) -> Tensor:
        """Return the rows ``[B, D]`` of a batch of images that begins at a row of the set."""


KINDS: dict[str, type[Extra]] = {kind.column: kind for kind in (Odin, MonteCarloDropout)}


def extras_to_json(extras: Sequence[Extra]) -> dict[str, dict[str, Any]]:
    """Return the options of each by its column, as plain JSON."""
    return {extra.column: dataclasses.asdict(extra) for extra in extras}  # type: ignore[call-overload]


def extras_from_json(body: Mapping[str, Mapping[str, Any]]) -> tuple[Extra, ...]:
    """Rebuild from :func:`extras_to_json`.

    Raises
    ------
    UsageError
        When a column is of a kind that is not known here.
    """
    for column in body:
        if column not in KINDS:
            raise UsageError(
                f"this featood cannot make the column '{column}'; upgrade it with pip install -U featood"
            )
    return tuple(KINDS[column](**options) for column, options in body.items())
