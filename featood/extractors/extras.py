"""Extra columns: those that need more than one plain forward pass."""

from __future__ import annotations

__all__ = ["KINDS", "Extra", "Setting", "extras_from_json", "extras_paths", "extras_to_json", "usual_extras"]

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.adascale import TrivialPixels
from featood.extractors.attention import AttentionEntropy
from featood.extractors.background import Background
from featood.extractors.columns import Tap
from featood.extractors.complexity import Complexity
from featood.extractors.dropout import MonteCarloDropout
from featood.extractors.gaia import AverageAbnormality, ZeroDeflation
from featood.extractors.gradient_norm import GradientNorm
from featood.extractors.iodin import InvariantOdin
from featood.extractors.mahalanobis_odin import MahalanobisOdin
from featood.extractors.nac import Coverage
from featood.extractors.outputs import declared_density
from featood.extractors.perturb import Odin
from featood.extractors.reconstruction import Reconstruction
from featood.extractors.regret import Regret
from featood.extractors.taps import TapPlan
from featood.extractors.transform import Transform


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """What extra columns of one extraction can use besides the network and its inputs."""

    transform: Transform | None = None
    """Transform of the inputs, if known."""
    plan: TapPlan | None = None
    """What a plain forward pass records, if known."""

    @property
    def taps(self) -> Mapping[str, Tap]:
        """The requested stages, by name."""
        return {} if self.plan is None else self.plan.taps


class Extra(Protocol):
    """A frozen dataclass of options that makes columns."""

    kind: ClassVar[str]
    """Its name in a recipe, and the name of the column if there is only one."""
    by_batch: ClassVar[bool]
    """Whether its values depend on the division into batches."""
    needs: ClassVar[tuple[str, ...]]
    """Which outputs a network may have, out of ``logits`` and ``a density``; empty for any."""

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the values ``[B, D]`` of each column for a batch of inputs that begins at row `row` of the set."""


_EXTRAS: tuple[type[Extra], ...] = (
    Odin, InvariantOdin, MonteCarloDropout, Coverage, Reconstruction, GradientNorm, Complexity, Background, Regret,
    TrivialPixels, MahalanobisOdin, ZeroDeflation, AverageAbnormality, AttentionEntropy,
)  # fmt: skip
KINDS = {extra.kind: extra for extra in _EXTRAS}


def usual_extras(module: nn.Module) -> tuple[Extra, ...]:
    """Return the extras that an extraction with a network has unless they are left out: those of a density."""
    return (GradientNorm(),) if declared_density(module) else ()


def extras_to_json(extras: Sequence[Extra]) -> dict[str, dict[str, Any]]:
    """Return the options of each kind as JSON values, but for paths, on which no value depends."""
    return _options(extras, paths=False)


def extras_paths(extras: Sequence[Extra]) -> dict[str, dict[str, Any]]:
    """Return the paths among the options of each kind that has any."""
    return {kind: paths for kind, paths in _options(extras, paths=True).items() if paths}


def _options(extras: Sequence[Extra], paths: bool) -> dict[str, dict[str, Any]]:
    return {
        extra.kind: {
            field.name: list(value) if isinstance(value := getattr(extra, field.name), tuple) else value
            for field in dataclasses.fields(extra)  # type: ignore[arg-type]
            if field.metadata.get("is_path", False) == paths
        }
        for extra in extras
    }


def extras_from_json(
    body: Mapping[str, Mapping[str, Any]], paths: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> tuple[Extra, ...]:
    """Restore extras from the outputs of :func:`extras_to_json` and :func:`extras_paths`.

    Raises
    ------
    UsageError
        If a kind is unknown.
    """
    for kind in body:
        if kind not in KINDS:
            raise UsageError(
                f"this version of featood does not have the column '{kind}'; upgrade it with pip install -U featood"
            )
    return tuple(KINDS[kind](**options, **paths.get(kind, {})) for kind, options in body.items())
