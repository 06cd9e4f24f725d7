"""Demonstration on tables: two moons and wines, without downloads or a backbone."""

from __future__ import annotations

__all__ = ["HEADS", "TABLES", "run_tabular_demo"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featood.cache import FeatureCache
from featood.data.tables.sets import find_table
from featood.pipeline.fitting import fit_head
from featood.pipeline.scoring import Scoring, score_selection
from featood.pipeline.selection import select
from featood.pipeline.table_import import import_table
from featood.reporter import SILENT, Reporter

TABLES: Mapping[str, int | None] = {"two-moons": 2000, "wine": None}
"""Number of rows by table; None if it is fixed."""
NOISE = "table-noise:uniform"
SMALL: Mapping[str, Any] = {
    "epochs": 25,
    "batch_size": 64,
    "lr": 0.01,
    "width": 32,
    "depth": 2,
    "validation": 0.0,
}
HEADS: Mapping[str, Mapping[str, Any]] = {
    "gmm": {},
    "knn": {"space": "none", "k": 10},
    "mlp": SMALL,
    "postnet": SMALL,
    "ssm": {**SMALL, "base": "none", "data_noise": 0.1},
    "realnvp": {**SMALL, "depth": 1},
}
"""Options by head."""


def run_tabular_demo(folder: Path, *, reporter: Reporter = SILENT) -> list[Scoring]:
    """Import two tables, fit six heads on each, and score them against the tables' OOD rows and noise.

    Parameters
    ----------
    folder : Path
        Folder of the cache.
    reporter : Reporter
        Receives a line about each step, and the progress.

    Returns
    -------
    list of Scoring
        One per table.
    """
    cache = FeatureCache(folder / "feature_cache")
    found = []
    for name, rows in TABLES.items():
        sets = import_table(cache, name, rows=rows)
        reporter.line(f"{name}: imported {', '.join(f'{len(rows)} rows as {rows.name}' for rows in sets)}")
        selection = select(cache, f"table-{name}", name)
        for head, options in HEADS.items():
            fit_head(selection, head, options, reporter=reporter)
        outliers = (find_table(name).ood, NOISE)
        found.append(score_selection(selection, list(HEADS), outliers, reporter=reporter))
    return found
