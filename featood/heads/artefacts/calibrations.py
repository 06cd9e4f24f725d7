"""The calibration of a head on disk: ``calibration.safetensors``, described by an entry of ``head.json``."""

from __future__ import annotations

__all__ = ["CALIBRATION_FILE", "KINDS", "pack_calibration", "read_calibration"]

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from featood.errors import CacheCorrupt
from featood.heads.base.calibration import Calibration
from featood.heads.base.probes import Probes
from featood.objects import Location
from featood.records import optional, whole

CALIBRATION_FILE = "calibration.safetensors"
COLUMN = "probe."
KINDS = {
    "set": str, "inputs_sha256": str, "rows": whole(1), "alarm_rate": (int, float),
    "confidence": optional((int, float)), "by_class": bool,
    "alarm_rate_low": optional((int, float)), "alarm_rate_high": optional((int, float)),
    "probes": [str], "scale": (int, float), "sha256": str,
}  # fmt: skip
"""Fields of the entry."""


def pack_calibration(calibration: Calibration) -> tuple[bytes, dict[str, Any]]:
    """Return the content of the file, and the entry that describes it."""
    from safetensors.numpy import save

    probes = calibration.probes
    arrays = {
        "scores": calibration.scores, "thresholds": calibration.thresholds, "classes": calibration.classes,
        "probe_scores": probes.scores, **{COLUMN + name: values for name, values in probes.columns.items()},
    }  # fmt: skip
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None})
    facts = {"probes": list(probes.ids), "scale": probes.scale, "sha256": hashlib.sha256(content).hexdigest()}
    return content, {**calibration.record, **facts}


def read_calibration(folder: Location, entry: Mapping[str, Any]) -> Calibration:
    """Read a calibration.

    Parameters
    ----------
    folder : Path or ObjectPath
        Folder of the head.
    entry : mapping
        As `pack_calibration` returned it.

    Raises
    ------
    CacheCorrupt
        If the file does not match the entry.
    FileNotFoundError
        If there is none.
    """
    from safetensors.numpy import load

    content = (folder / CALIBRATION_FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CacheCorrupt(f"{folder / CALIBRATION_FILE} does not match head.json; calibrate the head again")
    arrays = load(content)
    columns = {name.removeprefix(COLUMN): array for name, array in arrays.items() if name.startswith(COLUMN)}
    probes = Probes(columns, entry["probes"], arrays["probe_scores"], entry["scale"])
    record = {name: value for name, value in entry.items() if name not in ("probes", "scale", "sha256")}
    return Calibration(arrays["scores"], arrays["thresholds"], arrays.get("classes"), record, probes)
