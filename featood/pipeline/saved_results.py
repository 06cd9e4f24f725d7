"""Results from a file: reading and checking them, opening the sets that they are about, and restoring the scores."""

from __future__ import annotations

__all__ = ["open_scored_sets", "read_results", "saved_scoring", "uncertainty_of"]

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from featood.cache import FeatureCache, FeatureSet
from featood.errors import CacheCorrupt, DataError, FeatoodError, Mismatch
from featood.metrics import METRICS
from featood.pipeline.comparison import Uncertainty
from featood.pipeline.evidence import Scored
from featood.pipeline.full_spectrum import numbered_as
from featood.pipeline.scoring import Scoring
from featood.records import optional, record_problem
from featood.reporter import SILENT, Reporter

NUMBER = optional((int, float))
SET: dict[Any, Any] = {"dataset": str, "split": str, "n": int, "accuracy?": NUMBER, ...: object}
SHOWN: dict[Any, Any] = {
    "backbone": str,
    "fingerprint": str,
    "id": {
        **SET,
        **{f"{name}?": NUMBER for name in ("ece", "nll", "brier")},
        "classes?": [{"class": str, "n": int, "accuracy?": NUMBER}],
        "reliability?": {str: [(int, float)]},
        "shifted?": [SET],
        "joined?": {"n": int, "accuracy?": NUMBER, ...: object},
    },
    "groups?": {str: [str]},
    "rows": [{"head": str, "ood": str, **{f"{name}?": NUMBER for name in METRICS}, ...: object}],
    "warnings?": [str],
    "skipped?": [{"head": str, "reason": str}],
    "versions?": {str: str},
    ...: object,
}
"""Schema of the parts that a report shows; see `featood.records`."""


def read_results(path: str | Path) -> dict[str, Any]:
    """Read a file written by ``featood score --json``.

    Raises
    ------
    DataError
        If it cannot be read, is not such a file (results of ``featood dense score`` are not), or contains no evidence.
    """
    try:
        results = json.loads(Path(path).read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not JSON; give a file written by featood score --json") from None
    if isinstance(results, dict) and "images" in results and "evidence" not in results:
        raise DataError(
            f"{path} has results of featood dense score, which are not computed again here: score into another folder "
            "by --maps and compare the files of both; featood report --maps shows them"
        )
    try:
        valid = _is_valid(results)
    except (KeyError, TypeError, ValueError, AttributeError):
        valid = False
    if not valid:
        raise DataError(
            f"{path} has no complete evidence; score again with this version: featood score --json {path}"
        )
    field, problem = record_problem(results, SHOWN)
    if problem:
        raise DataError(
            f"{path}: {field[:80] or 'the file'} {problem}; give a file written by featood score --json"
        )
    return results


def saved_scoring(
    results: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]] = (),
    cache: FeatureCache | None = None,
    *,
    reporter: Reporter = SILENT,
) -> Scoring:
    """Restore a scoring from saved results, without scoring again.

    Parameters
    ----------
    results : dict
        As returned by `read_results`.
    records : iterable of dict
        The scores, in the form of `Scoring.records`; several records of a head and set follow each other.
    cache : FeatureCache, optional
        Cache in which to look for the sets. Sets that have changed, or are not there, have only the labels and ids of
        the records.
    reporter : Reporter
        Receives a line about each set that cannot be opened.

    Raises
    ------
    Mismatch
        If the scores are not those of the results.
    """
    evidence = results["evidence"]
    parts: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        parts.setdefault((record["head"], record["dataset"]), []).append(record)
    scores: dict[tuple[str, str], np.ndarray] = {}
    predictions: dict[tuple[str, str], np.ndarray | None] = {}
    for (head, name), found in parts.items():
        values = np.concatenate([part["score"] for part in found])
        expected = evidence["heads"].get(head, {}).get("scores", {}).get(name, {})
        if expected.get("sha256") != Scored.of(values).sha256:
            raise Mismatch(
                f"these are not the scores of {head} on {name} in the results; give the files of one run, written by "
                "featood score --json FILE --scores FILE"
            )
        scores[head, name], predictions[head, name] = values, _joined(found, "prediction")
    opened, faults = ({}, {}) if cache is None else open_scored_sets(evidence["sets"], cache)
    for fault in faults.values():
        reporter.line(f"{fault}: the report has no features and no images of this set")
    id_name = next(iter(evidence["sets"]))
    sets: dict[str, FeatureSet] = {}
    for name in evidence["sets"]:
        if name in opened:
            sets[name] = opened[name]
        elif found := next((part for (_, one), part in parts.items() if one == name), []):
            ids, labels = _joined(found, "id"), _joined(found, "label")
            sets[name] = FeatureSet(labels=labels, ids=ids, name=evidence["sets"][name]["key"])
        if name in evidence.get("shifted", ()) and name in opened and id_name in opened:
            sets[name] = numbered_as(opened[id_name], opened[name])
    return Scoring(dict(results), scores, sets, predictions)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _joined(records: Iterable[Mapping[str, Any]], column: str) -> np.ndarray | None:
    values = [record[column] for record in records]
    return None if any(one is None for one in values) else np.concatenate(values)


def _is_valid(results: Any) -> bool:
    """Return whether results have the fields used here; changed values are found by the verification."""
    evidence = results["evidence"]
    sets, heads = evidence["sets"], evidence["heads"]
    if results.get("comparison"):
        uncertainty_of(results["comparison"])
    shifted = evidence.get("shifted", [])
    return (
        len(sets) > 1 + len(shifted)
        and set(shifted) <= set(list(sets)[1:])
        and isinstance(evidence["force"], bool)
        and isinstance(results.get("versions", {}), dict)
        and all(isinstance(row["head"], str) and isinstance(row["ood"], str) for row in results["rows"])
        and all(
            isinstance(entry["key"], str)
            and isinstance(entry["content_sha256"], str)
            and entry["rows"] is not None
            for entry in sets.values()
        )
        and all(
            isinstance(entry["head"], str)
            and isinstance(entry["options"], dict)
            and isinstance(entry["artefact"], str | None)
            and isinstance(entry["fitted"], bool)
            and all(np.asarray(entry["scores"][name]["octiles"], float).shape == (9,) for name in sets)
            and all(isinstance(entry["scores"][name]["sha256"], str) for name in sets)
            for entry in heads.values()
        )
    )


def uncertainty_of(comparison: Mapping[str, Any]) -> Uncertainty:
    """Return how the intervals of a comparison were computed."""
    return Uncertainty(
        **{field.name: comparison[field.name] for field in fields(Uncertainty) if field.name in comparison}
    )


def open_scored_sets(
    wanted: Mapping[str, Any], cache: FeatureCache
) -> tuple[dict[str, FeatureSet], dict[str, FeatoodError]]:
    """Open the sets of the evidence that are unchanged; return the errors of the others."""
    sets: dict[str, FeatureSet] = {}
    faults: dict[str, FeatoodError] = {}
    for name, entry in wanted.items():
        try:
            features = cache[entry["key"]]
        except CacheCorrupt as error:
            faults[f"set {name}"] = error
        except FeatoodError:
            faults[f"set {name}"] = Mismatch(f"{entry['key']} is not in the cache {cache.root}")
        else:
            if not entry["content_sha256"]:
                faults[f"set {name}"] = Mismatch(f"only some rows of {entry['key']} were scored")
            elif entry["rows"] != len(features):
                faults[f"set {name}"] = Mismatch(
                    f"{entry['key']} has {len(features)} rows, but {entry['rows']} were scored"
                )
            elif entry["content_sha256"] != features.content:
                faults[f"set {name}"] = Mismatch(
                    f"the values of {entry['key']} have changed since it was scored"
                )
            else:
                sets[name] = features
    return sets, faults
