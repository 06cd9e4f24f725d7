"""Results as OpenOOD writes them for its leaderboard (Zhang et al., OpenOOD v1.5, 2023): one CSV file per method."""

from __future__ import annotations

__all__ = ["openood_tables", "write_openood"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featood.data import near_and_far
from featood.errors import DataError
from featood.metrics import trapezoidal_aupr
from featood.names import safe_text
from featood.report.files import write_text
from featood.report.rows import collapsed

_COLUMNS = ("FPR@95", "AUROC", "AUPR_IN", "AUPR_OUT", "ACC")
_NAMES = {"tiny-imagenet": "tin", "textures": "texture", "textures-hires": "textures"}


def openood_tables(results: Mapping[str, Any], scores: Mapping[tuple[str, str], ArrayLike]) -> dict[str, str]:
    """Return the content of the file of each head.

    Each row is a set, ``nearood`` (the mean over the near sets) or ``farood``; each value is a percentage, the mean
    ``±`` the standard deviation over the runs, dividing by their number, as in OpenOOD's ``scripts/eval_ood.py``. Runs
    are the seeds of a head. FPR@95 is `fpr95_ood`, the share of ID rows flagged when 95 % of the OOD rows are flagged,
    and AUPR is the trapezoidal area, unlike `aupr_in` and `aupr_out` of result rows. ACC is the accuracy of the
    network, with shifted sets that of the joined rows.

    Parameters
    ----------
    results : dict
        Content of ``featood score --json``.
    scores : dict of arrays
        Scores ``[N]`` by (head, set), also of the ID set and of shifted sets.

    Returns
    -------
    dict of str to str
        CSV by head; seeds of a head are joined.

    Raises
    ------
    DataError
        If the ID set has no near and far sets, or some of them were not scored.
    """
    dataset = results["id"]["dataset"]
    rows = {(row["head"], row["ood"]): row for row in results["rows"]}
    groups = near_and_far(dataset, list(dict.fromkeys(ood for _, ood in rows)))
    if set(groups) != {"near", "far"}:
        raise DataError(
            f"OpenOOD's files have near and far sets, but those scored on {dataset} include no sets of "
            f"{' or '.join(f'{dataset}-{group}' for group in ('near', 'far') if group not in groups)}; "
            "see featood datasets for the suites"
        )
    inliers = [dataset, *(entry["dataset"] for entry in results["id"].get("shifted", ()))]
    accuracy = results["id"].get("joined", results["id"]).get("accuracy", float("nan"))
    tables = {}
    for head in dict.fromkeys(row["head"] for row in collapsed(results)):
        runs = next((row["labels"] for row in results.get("repeats", ()) if row["head"] == head), [head])
        figures: dict[str, np.ndarray] = {}
        for group, names in groups.items():
            of_group = {
                _NAMES.get(name, name.replace("-", "_")): np.array(
                    [
                        _figures(rows[run, name], [scores[run, part] for part in inliers], scores[run, name])
                        for run in runs
                    ]
                )
                for name in names
            }
            figures |= {**of_group, f"{group}ood": np.mean(list(of_group.values()), axis=0)}
        lines = [",".join(["", *_COLUMNS])]
        for name, values in figures.items():
            values = 100 * np.column_stack([values, np.full(len(runs), accuracy)])
            spread = zip(values.mean(0), values.std(0), strict=True)
            lines.append(",".join([name, *(f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in spread)]))
        tables[head] = "\n".join(lines) + "\n"
    return tables


def write_openood(
    folder: str | Path, results: Mapping[str, Any], scores: Mapping[tuple[str, str], ArrayLike]
) -> list[Path]:
    """Write ``HEAD.csv`` for each head into a folder; see :func:`openood_tables`."""
    files = []
    for head, text in openood_tables(results, scores).items():
        files.append(Path(folder) / f"{safe_text(head)}.csv")
        write_text(files[-1], text)
    return files


def _figures(row: Mapping[str, Any], inliers: list[ArrayLike], outliers: ArrayLike) -> list[float]:
    aupr = trapezoidal_aupr(np.concatenate([np.asarray(part) for part in inliers]), outliers)
    return [row["fpr95_ood"], row["auroc"], *aupr]
