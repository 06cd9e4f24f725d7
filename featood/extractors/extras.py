"""Extra columns: what takes more of the network than one plain forward pass."""

from __future__ import annotations

__all__ = ["KINDS", "Extra", "Setting", "extras_from_json", "extras_to_json"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.columns import Tap
from featood.extractors.dropout import MonteCarloDropout
from featood.extractors.nac import Coverage
from featood.extractors.perturb import Odin
from featood.extractors.transform import Transform


@dataclasses.dataclass(frozen=True)
class Setting:
    """What extra columns may look at besides the network and its inputs."""

    transform: Transform | None = None
    """That of the inputs, where it is known."""
    taps: Mapping[str, Tap] = dataclasses.field(default_factory=dict)
    """The requested stages, by name."""


class Extra(Protocol):
    """A frozen dataclass of options that makes columns."""

    kind: ClassVar[str]
    """Its name in a recipe; that of the column, where it makes one."""
    by_batch: ClassVar[bool]
    """Whether its values depend on how rows are batched."""

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the rows ``[B, D]`` of each column, for a batch of inputs that begins at a row of the set."""


KINDS: dict[str, type[Extra]] = {extra.kind: extra for extra in (Odin, MonteCarloDropout, Coverage)}


def extras_to_json(extras: Sequence[Extra]) -> dict[str, dict[str, Any]]:
    """Return the options of each by its kind, as plain JSON."""
    return {extra.kind: dataclasses.asdict(extra) for extra in extras}  # type: ignore[call-overload]


def extras_from_json(body: Mapping[str, Mapping[str, Any]]) -> tuple[Extra, ...]:
    """Rebuild from :func:`extras_to_json`.

    Raises
    ------
    UsageError
        When a column is of a kind that is not known here.
    """
    for kind in body:
        if kind not in KINDS:
            raise UsageError(
                f"this featood cannot make the column '{kind}'; upgrade it with pip install -U featood"
            )
    return tuple(KINDS[kind](**options) for kind, options in body.items())
