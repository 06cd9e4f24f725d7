"""Results of score maps, kept in the folder of the maps, from which a report is made."""

from __future__ import annotations

__all__ = ["dense_results", "save_results", "saved_maps"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featood.data.masked.layouts import open_masked
from featood.errors import DataError, Mismatch
from featood.files import size_of
from featood.names import folder_name, name_problem
from featood.pipeline.dense_scoring import MapScores
from featood.pipeline.map_files import MaskFiles, StoredMaps
from featood.pipeline.saved_results import SHOWN
from featood.pipeline.selection import Selection
from featood.records import optional, record_problem
from featood.sealed import read_json, write_json

RESULTS = "results.json"
AGAIN = "score again with featood dense score"
OUTLIERS = "out-of-distribution pixels"
"""Name of the out-of-distribution set of the rows."""
SCHEMA = {**SHOWN, "images": {"dataset": str, "split": str, "data_dir": optional(str), "inputs_sha256": str}}


def dense_results(
    selection: Selection, found: MapScores, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return results in the form of ``featood score --json``: the sets are the pixels of either kind.

    Parameters
    ----------
    selection : Selection
        Pixels on which the heads were fitted.
    found : MapScores
        The score maps.
    rows : sequence of dict
        Their metrics, see :meth:`featood.pipeline.dense_scoring.MapScores.rows`.
    settings : mapping
        Settings of the metrics.
    """
    images = found.masked.images
    about = {"dataset": images.name, "split": images.split}
    return {
        "backbone": selection.backbone,
        "fingerprint": selection.open(next(iter(selection.entries))).fingerprint,
        "features": f"{selection.backbone}/{selection.dataset}",
        "id": {**about, "n": rows[0]["n_id"]},
        "images": {
            "dataset": found.dataset,
            "split": images.split,
            "data_dir": found.data_dir,
            "inputs_sha256": found.masked.digest(),
        },
        **settings,
        "rows": [{"ood": OUTLIERS, "split": images.split, **row} for row in rows],
    }


def save_results(found: MapScores, results: Mapping[str, Any]) -> None:
    """Write results next to the maps."""
    write_json(found.folder / RESULTS, dict(results))


def saved_maps(folder: str | Path, data_dir: str | None = None) -> tuple[dict[str, Any], MapScores]:
    """Read results and open the maps and images that they are about.

    Parameters
    ----------
    folder : path
        Folder of the maps of ``featood dense score``.
    data_dir : str, optional
        Folder of the sets; by default that of the scoring.

    Raises
    ------
    DataError
        If the folder has no such results, or the images cannot be found.
    CacheCorrupt
        If the results are damaged.
    Mismatch
        If the images have changed.
    """
    path = Path(folder, RESULTS)
    if size_of(path) is None:
        raise DataError(f"there is no {path}; give the folder that featood dense score names")
    results = read_json(path, AGAIN)
    field, problem = record_problem(results, SCHEMA)
    if not problem and not results["rows"]:
        field, problem = "rows", "is empty"
    if problem:
        raise DataError(f"{path}: {field[:80]} {problem}; {AGAIN}")
    heads = [row["head"] for row in results["rows"]]
    for head in heads:
        if problem := name_problem(folder_name(head)):
            raise DataError(f"{path}: the name of a head {problem}; {AGAIN}")
    about = results["images"]
    where = data_dir or about["data_dir"]
    masked = open_masked(about["dataset"], about["split"], where)
    if masked.digest() != about["inputs_sha256"]:
        raise Mismatch(f"the images of {about['dataset']}/{about['split']} have changed; score them again")
    maps = {head: StoredMaps(Path(folder, folder_name(head)), len(masked)) for head in heads}
    masks = MaskFiles(masked, maps[heads[0]])
    return results, MapScores(masked, masks, maps, Path(folder), about["dataset"], where)
