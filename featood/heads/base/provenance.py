"""What a head was fitted on: its description, and whether other rows are of the same kind."""

from __future__ import annotations

__all__ = ["Saved", "check_match", "described", "require_tensors"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import differing
from featood.errors import Mismatch
from featood.heads.base.rows import SelectedRows


class Saved(NamedTuple):
    """Where a fitted head is on disk, and what its files hold."""

    folder: Path
    tensors_sha256: str
    record_sha256: str
    """Of the head's name, options and provenance, but for the time that the fit took."""


def described(source: FeatureSet, rows: SelectedRows, notes: list[str]) -> dict[str, Any]:
    """Describe the rows of a fit, for a head's ``meta``."""
    sizes = {name: int(values.shape[1]) for name, values in rows.source.features.items()}
    if rows.source.logits is not None:
        sizes["logits"] = int(rows.source.logits.shape[1])
    return {
        "fitted_on": source.name,
        "fingerprint": source.fingerprint,
        "recipe": dict(source.recipe),
        "rows": len(source),
        "sizes": sizes,
        "notes": notes,
    }


def check_match(name: str, meta: Mapping[str, Any], source: FeatureSet, force: bool = False) -> None:
    """Refuse features that are not of the kind that the head of a name was fitted on, by its ``meta``."""
    ours = meta.get("fingerprint", "")
    if ours and source.fingerprint and ours != source.fingerprint and not force:
        raise Mismatch(
            f"{name} was fitted on {meta['fitted_on']} (fingerprint {ours[:12]}), but "
            f"{source.name} was made in another way ({source.fingerprint[:12]}; differing: "
            f"{differing(meta.get('recipe'), source.recipe) or 'not known'}); "
            "fit the head on features of that kind, or add --force"
        )
    for column, size in meta.get("sizes", {}).items():
        values = source.logits if column == "logits" else source.feature(column)
        if values is None or values.shape[1] != size:
            found = "none" if values is None else values.shape[1]
            raise Mismatch(f"{name} was fitted on {size} {column} columns, {source.name} has {found}")


def require_tensors(name: str, state: Mapping[str, Tensor], *keys: str) -> None:
    """Refuse the state of a head that an earlier version fitted, whose tensors meant something else.

    Raises
    ------
    Mismatch
        When a tensor is missing.
    """
    if not set(keys) <= set(state):
        raise Mismatch(
            f"{name} was fitted by another version of featood, which scores otherwise; fit it again"
        )
