"""Manifests of which only some parts matter."""

from featood.cache import Manifest


def manifest(recipe, data=None, run=None):
    return Manifest(recipe, data or {}, {}, rows=1, store="zarr", main="", run=run or {})
