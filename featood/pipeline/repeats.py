"""Means and standard errors of the results of heads that were fitted with several seeds."""

from __future__ import annotations

__all__ = ["repeated_rows"]

from collections.abc import Iterable, Mapping
from typing import Any

from featood.metrics import METRICS, mean_and_error
from featood.pipeline.variant_labels import repeated_label

FURTHER = (
    *("f1_macro", "f1_macro_best", "cauroc", "oscr", "ccr_fpr10", "ccr_fpr1", "aurra", "auroc_macro"),
    *("accuracy", "brier", "fit_s", "score_s"),
)


def repeated_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each set and each head that was scored with several seeds.

    Parameters
    ----------
    rows : iterable of dict
        Result rows of :func:`featood.pipeline.scoring.score_heads`, of any heads.

    Returns
    -------
    list of dict
        ``head`` (without the seed), ``ood``, ``repeats`` (number of seeds), ``labels`` (of the heads), ``values``
        (of each head, by metric), the mean of each metric under its name, and the standard error under
        ``NAME_se``; ``diverged`` is the number of seeds whose training returned to an earlier state.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if (group := repeated_label(row["head"])) is not None:
            groups.setdefault((group, row["ood"]), []).append(row)
    return [_mean_row(group, ood, found) for (group, ood), found in groups.items() if len(found) > 1]


def _mean_row(group: str, ood: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    values = {
        key: [row[key] for row in rows] for key in (*METRICS, *FURTHER) if all(key in row for row in rows)
    }
    mean = {"head": group, "ood": ood, "repeats": len(rows), "values": values}
    mean["labels"] = [row["head"] for row in rows]
    kept = ("split", "n_id", "n_ood", "which", "ood_validated", "shifted")
    mean |= {key: first[key] for key in kept if key in first}
    for key, found in values.items():
        mean[key], mean[f"{key}_se"] = mean_and_error(found)
    if diverged := sum(bool(row.get("diverged")) for row in rows):
        mean["diverged"] = diverged
    return mean
