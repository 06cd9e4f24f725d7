"""Registry of models, filled by a decorator."""

from __future__ import annotations

__all__ = ["create_model", "list_models", "model_class", "register"]

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any

from featood.extractors.models.model import Model, ModelCard
from featood.names import check_name, find_named
from featood.options import create, inherit_options, option

_REGISTRY: dict[str, type[Model]] = {}


@typing.dataclass_transform(kw_only_default=True, frozen_default=False, field_specifiers=(option,))
def register(
    name: str,
    *,
    title: str,
    paper: str,
    year: int,
    url: str = "",
    needs: tuple[str, ...] = ("labels",),
    mixes: bool = False,
) -> Callable[[type], Any]:
    """Register a model class under its command-line name and make it a dataclass with its options as fields."""
    check_name(name, "a model")

    def decorate(cls: type) -> Any:
        model: Any = dataclasses.dataclass(kw_only=True, eq=False)(inherit_options(cls))
        summary = inspect.cleandoc(cls.__doc__ or "").split("\n")[0]
        model.card = ModelCard(name, title, paper, year, url, needs, mixes, summary)
        if _REGISTRY.setdefault(name, model).__qualname__ != model.__qualname__:
            raise ValueError(f"the name {name} is taken by {_REGISTRY[name].__qualname__}")
        return model

    return decorate


def list_models() -> dict[str, type[Model]]:
    """Return all model classes by name."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
    return dict(sorted(_REGISTRY.items()))


def model_class(name: str) -> type[Model]:
    """Return a model's class.

    Raises
    ------
    UsageError
        If there is none of that name; the text suggests the nearest.
    """
    return find_named("model", name, list_models())


def create_model(name: str, options: Mapping[str, Any] | None = None) -> Model:
    """Create a model.

    Raises
    ------
    UsageError
        If the name or an option is unknown, or a value has the wrong type or is out of bounds.
    """
    return create(model_class(name), name, options or {})
