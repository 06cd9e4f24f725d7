"""Shell completion of the names of heads, sets and fitted heads; a set is listed, never opened."""

from __future__ import annotations

__all__ = [
    "backbones_in_cache",
    "benchmarks",
    "datasets_in_cache",
    "fitted_heads",
    "head_names",
    "image_sets",
    "keys_in_cache",
    "outlier_sets",
    "shifted_sets",
    "suites",
]

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    from featood.cache import CacheEntry, FeatureCache

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(names: Callable[[click.Context], Iterable[str]], *, several: bool = False) -> Complete:
    """Make a completion of the names that begin with a text; where `several` are given, of the last of them."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        try:
            found = sorted(set(names(ctx)))
        except Exception:  # the command itself reports it; here it would garble the prompt
            return []
        return [before + comma + name for name in found if name.startswith(last)]

    return complete


def _cache(ctx: click.Context) -> FeatureCache:
    from featood.cache import FeatureCache

    return FeatureCache(ctx.params["cache_root"])


def _entries(ctx: click.Context) -> list[CacheEntry]:
    return _cache(ctx).entries()


def _head_names(_: click.Context) -> Iterable[str]:
    from featood.heads import list_heads

    return list_heads()


def _fitted_heads(ctx: click.Context) -> Iterable[str]:
    """Heads fitted on the sets of the cache, and those that need no fit."""
    from featood.heads import list_heads

    opened = _cache(ctx)
    for backbone, dataset in {(entry.backbone, entry.dataset) for entry in opened.entries()}:
        yield from opened.fitted_heads(backbone, dataset)
    yield from (name for name, card in list_heads().items() if not card.learns)


def _image_sets(_: click.Context) -> Iterable[str]:
    from featood.data import list_datasets

    return [entry.name for entry in list_datasets()]


def _outlier_sets(ctx: click.Context) -> Iterable[str]:
    return [*_image_sets(ctx), *(entry.dataset for entry in _entries(ctx))]


def _suites(_: click.Context) -> Iterable[str]:
    from featood.data import list_suites

    return list_suites()


def _benchmarks(_: click.Context) -> Iterable[str]:
    from featood.data import list_benchmarks

    return list_benchmarks()


def _shifted_sets(ctx: click.Context) -> Iterable[str]:
    return [*_outlier_sets(ctx), *(name for name in _suites(ctx) if name.endswith("-shifted"))]


head_names = _completing(_head_names)
fitted_heads = _completing(_fitted_heads)
image_sets = _completing(_image_sets)
outlier_sets = _completing(_outlier_sets, several=True)
shifted_sets = _completing(_shifted_sets, several=True)
suites = _completing(_suites)
benchmarks = _completing(_benchmarks)
keys_in_cache = _completing(lambda ctx: [entry.key for entry in _entries(ctx)])
backbones_in_cache = _completing(lambda ctx: [entry.backbone for entry in _entries(ctx)])
datasets_in_cache = _completing(lambda ctx: [entry.dataset for entry in _entries(ctx)])
