"""Base of the acquisitions, which rank the images of a pool, and their registry."""

from __future__ import annotations

__all__ = [
    "Acquisition",
    "AcquisitionCard",
    "Ranking",
    "acquisition_class",
    "acquisition_label",
    "highest",
    "list_acquisitions",
    "register",
]

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from featood.cache import FeatureSet
from featood.errors import DataError
from featood.names import check_name, find_named
from featood.options import check_options, option
from featood.pipeline.variant_labels import variant_label

_REGISTRY: dict[str, type[Acquisition]] = {}


class AcquisitionCard(NamedTuple):
    """Information about an acquisition."""

    name: str
    title: str
    paper: str
    """Authors, title and venue."""
    year: int
    url: str


class Ranking(NamedTuple):
    """Scores of the images of a pool; those with the highest scores are labelled next."""

    scores: Tensor
    """``[N]``."""
    notes: Mapping[str, float] = {}
    """What was chosen on the way, such as a ridge."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Acquisition:
    """Base of all acquisitions; the fields of a subclass, which is registered by :func:`register`, are its options."""

    card: ClassVar[AcquisitionCard]
    least: ClassVar[int] = 1
    """Fewest initial labels of a class."""

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def name(self) -> str:
        """Command-line name."""
        return self.card.name

    @property
    def networks(self) -> int:
        """Number of networks that are trained in a round."""
        return 1

    def rank(
        self, labelled: Sequence[FeatureSet], pool: Sequence[FeatureSet], generator: torch.Generator
    ) -> Ranking:
        """Score the images of the pool; higher = labelled earlier.

        Parameters
        ----------
        labelled, pool : sequence of FeatureSet
            Features and logits of the labelled images and of the pool, one set for each network.
        generator : torch.Generator
            Of random draws.
        """
        raise NotImplementedError


@typing.dataclass_transform(kw_only_default=True, frozen_default=False, field_specifiers=(option,))
def register(name: str, *, title: str, paper: str, year: int, url: str) -> Callable[[type], Any]:
    """Register an acquisition under its command-line name and make it a dataclass with its options as fields."""
    check_name(name, "an acquisition")

    def decorate(cls: type) -> Any:
        made: Any = dataclasses.dataclass(kw_only=True, eq=False)(cls)
        made.card = AcquisitionCard(name, title, paper, year, url)
        if _REGISTRY.setdefault(name, made).__qualname__ != made.__qualname__:
            raise ValueError(f"the name {name} is taken by {_REGISTRY[name].__qualname__}")
        return made

    return decorate


def list_acquisitions() -> dict[str, type[Acquisition]]:
    """Return all acquisitions by name."""
    from featood.pipeline.active_learning import acquisitions

    for module in pkgutil.iter_modules(acquisitions.__path__, f"{acquisitions.__name__}."):
        importlib.import_module(module.name)
    return dict(sorted(_REGISTRY.items()))


def acquisition_class(name: str) -> type[Acquisition]:
    """Return the class of an acquisition.

    Raises
    ------
    UsageError
        If there is none of that name; the text suggests the nearest.
    """
    return find_named("acquisition", name, list_acquisitions())


def acquisition_label(acquisition: Acquisition) -> str:
    """Return name and options that differ from the defaults, such as ``ensemble@members=3``; also a folder name.

    An option that is switched on is listed by its name alone.
    """
    changed = {
        field.name: value
        for field in dataclasses.fields(acquisition)
        if (value := getattr(acquisition, field.name)) != field.default
    }
    return variant_label(acquisition.name, changed).replace("=True", "") if changed else acquisition.name


def highest(scores: Tensor, count: int) -> Tensor:
    """Return the positions of the highest scores ``[count]``, the highest first; of equal scores, the first.

    Parameters
    ----------
    scores : Tensor
        ``[N]``.
    count : int
        Positions to return; all if there are fewer.

    Raises
    ------
    DataError
        If a score is NaN.
    """
    if bool(torch.isnan(scores).any()):
        raise DataError(
            "the pool has scores that are not numbers; the training diverged, lower the learning rate"
        )
    return scores.argsort(descending=True, stable=True)[:count]
