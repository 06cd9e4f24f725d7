"""Manifests with default values for irrelevant fields."""

from featood.cache import Manifest


def manifest(recipe, data=None, run=None):
    return Manifest(recipe, data or {}, {}, rows=1, store="zarr", main="", run=run or {})
