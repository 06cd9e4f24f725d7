"""``config.json``, which timm saves beside weights: their architecture, pooling and preprocessing."""

from __future__ import annotations

__all__ = ["SavedConfig", "read_config"]

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from featood.errors import DataError, Mismatch
from featood.extractors.presets import timm_transform
from featood.extractors.transform import Transform

NAME = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the files of weights that timm saves."""


class SavedConfig(NamedTuple):
    """Content of the file, as far as it is used."""

    path: Path
    architecture: str
    prepared: Mapping[str, Any]
    """timm's configuration of the preprocessing."""
    arguments: Mapping[str, str]
    """Arguments of the network that the names and shapes of its tensors do not determine."""

    def check(self, architecture: str) -> None:
        """Raise Mismatch if the weights are of another architecture, which may have tensors of the same shapes.

        Some architectures, such as those with ``quickgelu`` in their names, are published with the weights of another.
        """
        from featood.extractors.vision import timm

        tag = self.prepared.get("tag")
        published = [timm.get_pretrained_cfg(name) for name in timm.list_pretrained(f"{architecture}.{tag}")]
        shared = [f"timm/{self.architecture}.{tag}" == config.hf_hub_id for config in published]
        if self.architecture != architecture and not any(shared):
            raise Mismatch(
                f"{self.path}: the weights are of {self.architecture}, not of {architecture}; use --backbone "
                f"timm:{self.architecture}"
            )

    def transform(self, default: Mapping[str, Any]) -> Transform:
        """Return the preprocessing, with the entries of `default` that the file lacks.

        Raises
        ------
        DataError
            If the entries are invalid.
        """
        from featood.extractors.vision import timm

        try:
            return timm_transform(
                timm.data.resolve_data_config({}, pretrained_cfg={**default, **self.prepared})
            )
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise DataError(f"{self.path} has no valid preprocessing: {error}") from None


def read_config(weights: str) -> SavedConfig | None:
    """Read the file in a folder of weights, or beside a file of weights that timm saved; None if there is none.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    place = Path(weights)
    path = (place.parent if place.name in WEIGHTS else place) / NAME
    if not path.is_file():
        return None
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("pretrained_cfg"), dict):
        return None  # of other code
    pooling = body.get("global_pool")
    return SavedConfig(
        path, str(body.get("architecture")), body["pretrained_cfg"],
        {"global_pool": pooling} if isinstance(pooling, str) else {},
    )  # fmt: skip
