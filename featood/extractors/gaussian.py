"""The Gaussians of a fitted ``mahalanobis`` head, read from its folder to differentiate the distance."""

from __future__ import annotations

__all__ = ["Gaussian", "check_gaussian", "check_network", "open_gaussian"]

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from featood.cache.manifest import differing
from featood.errors import CacheCorrupt, Mismatch, UsageError
from featood.extractors.weights import weights_sha256
from featood.numerics.gaussian import Whitening, squared_distances
from featood.records import check_record
from featood.sealed import read_json

if TYPE_CHECKING:
    from featood.extractors.extras import Setting

HEAD = "mahalanobis"
AGAIN = "fit the head again"
RECORD = {
    "head": str,
    "options": {"feature": str, "space": str, ...: object},
    "meta": {"recipe": {"weights_sha256?": str, "columns?": {str: list}, ...: object}, ...: object},
    "tensors_sha256": str,
    ...: object,
}
"""Fields of ``head.json`` that are read here."""


class Gaussian(NamedTuple):
    """Gaussians with one covariance, and the column that they were fitted to."""

    feature: str
    """Name of the column."""
    recipe: Mapping[str, Any]
    """Recipe of the features."""
    sha256: str
    """Digest of the tensors."""
    whitening: Whitening
    means: Tensor
    """Whitened means of the classes ``[C, D]``."""

    def nearest(self, rows: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of rows ``[B, D]`` to the nearest mean ``[B]``, in float64."""
        whitening = Whitening(*(part.to(rows.device) for part in self.whitening))
        return squared_distances(whitening(rows.double()), self.means.to(rows.device)).amin(1)


def open_gaussian(folder: str) -> Gaussian:
    """Read the Gaussians of a fitted ``mahalanobis`` head.

    Raises
    ------
    UsageError
        If the folder holds no such head, or one that transforms the features first.
    CacheCorrupt
        If its files are damaged.
    """
    from safetensors.torch import load

    record, tensors = Path(folder) / "head.json", Path(folder) / "head.safetensors"
    if not record.exists() or not tensors.exists():
        raise UsageError(f"{folder} holds no fitted head; make one by featood fit {HEAD} --out {folder}")
    body = read_json(record, AGAIN)
    check_record(body, RECORD, record, AGAIN)
    if body["head"] != HEAD or body["options"]["space"] != "none":
        raise UsageError(
            f"the gradient is that of the head {HEAD} with space none; {folder} holds {body['head']} with "
            f"{body['options']['space']}"
        )
    content = tensors.read_bytes()
    if hashlib.sha256(content).hexdigest() != body["tensors_sha256"]:
        raise CacheCorrupt(f"{tensors} does not match head.json; {AGAIN}")
    state, recipe = load(content), body["meta"]["recipe"]
    if missing := {*Whitening._fields, "means"} - set(state):
        raise CacheCorrupt(f"{tensors} lacks {', '.join(sorted(missing))}; {AGAIN}")
    whitening = Whitening(*(state[name] for name in Whitening._fields))
    feature = body["options"]["feature"] or recipe.get("main", "")
    return Gaussian(feature, recipe, body["tensors_sha256"], whitening, state["means"])


@functools.lru_cache(maxsize=4)
def check_gaussian(folder: str, sha256: str) -> Gaussian:
    """Read Gaussians whose digest is known.

    Raises
    ------
    Mismatch
        If they have changed.
    """
    found = open_gaussian(folder)
    if found.sha256 != sha256:
        raise Mismatch(f"the head in {folder} is not the one with which the cache was made; extract again")
    return found


def check_network(gaussian: Gaussian, folder: str, module: nn.Module, setting: Setting) -> None:
    """Raise if the Gaussians were fitted to features of another network, or to another column.

    Raises
    ------
    Mismatch
        If weights, transform or column differ.
    """
    assert setting.plan is not None and setting.transform is not None
    name = gaussian.feature
    ours = {
        "weights_sha256": _digest(module, setting),
        "transform": setting.transform.as_json(),
        name: setting.plan.columns_json().get(name, "no column of a plain forward pass"),
    }
    theirs = {
        **{key: gaussian.recipe.get(key) for key in ("weights_sha256", "transform")},
        name: gaussian.recipe.get("columns", {}).get(name),
    }
    if found := differing(theirs, json.loads(json.dumps(ours))):
        raise Mismatch(
            f"the Gaussians in {folder} were fitted to other features (differing: {found}); name a {HEAD} head fitted "
            "on features of this backbone"
        )


@functools.lru_cache(maxsize=1)
def _digest(module: nn.Module, setting: Setting) -> str:
    # once for the setting, which is that of one extraction: the weights may change between two
    return weights_sha256(module)
