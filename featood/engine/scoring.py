"""Scoring heads on an in-distribution set against out-of-distribution sets."""

from __future__ import annotations

__all__ = ["Scoring", "evaluate", "open_sets", "score_heads", "score_selection"]

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache import FeatureSet, library_versions
from featood.data import suite
from featood.engine.extraction import extract_like
from featood.engine.fitting import chosen_heads
from featood.engine.protocol import dataset_name, refuse_tuned_on, tuning_records
from featood.engine.selection import Selection
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads.base import Head
from featood.metrics import classification_metrics, detection_metrics, reliability_curve


@dataclasses.dataclass
class Scoring:
    """Scores of every head on every set, and the metrics that follow."""

    results: dict[str, Any]
    """What ``--json`` writes: schema, backbone, fingerprint, id, rows, skipped, warnings, versions."""
    scores: dict[tuple[str, str], np.ndarray]
    """Scores ``[N]`` by head and set; the in-distribution set goes by its dataset name."""
    sets: dict[str, FeatureSet]
    """The sets by name, the in-distribution set first."""

    def reliability(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return confidence, accuracy and rows by bin on the in-distribution set, where it has labels."""
        features = next(iter(self.sets.values()))
        if features.logits is None or features.labels is None:
            return None
        return reliability_curve(np.asarray(features.logits[:]), np.asarray(features.labels[:]))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the per-sample scores, one set and head at a time, as ``write_scores`` takes them."""
        for (head, name), scores in self.scores.items():
            features = self.sets[name]
            logits = features.logits
            yield {
                "dataset": name,
                "split": _split(features),
                "id": np.arange(len(features)) if features.ids is None else features.ids[:],
                "label": None if features.labels is None else np.asarray(features.labels[:]),
                "prediction": None if logits is None else np.asarray(logits[:]).argmax(1),
                "head": head,
                "score": scores,
            }


def score_heads(
    heads: Mapping[str, Head],
    test: FeatureSet,
    outliers: Mapping[str, FeatureSet],
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    skip_errors: bool = False,
) -> Scoring:
    """Score every head on every set once, and compare.

    Parameters
    ----------
    heads : mapping of str to Head
        Fitted heads by the name to show; each is looked up when its turn comes.
    test : FeatureSet
        In-distribution rows that no head was fitted on.
    outliers : mapping of str to FeatureSet
        Out-of-distribution sets by name.
    force : bool
        Accept features of another fingerprint than the heads were fitted on, and sets that they were tuned on.
    progress : callable, optional
        Called as ``progress(what, done, total)``.
    skip_errors : bool
        Leave out a head that cannot be used, and put its name and the reason under ``skipped``.

    Raises
    ------
    DataError
        When a set is empty, or bears the in-distribution set's name.
    Mismatch
        When a head was fitted on features of another kind.
    UsageError
        When a head's options were chosen on one of the sets.
    """
    id_name = dataset_name(test)
    if id_name in outliers:
        raise DataError(f"{id_name} is the in-distribution set; it cannot be scored against itself")
    sets = {id_name: test, **outliers}
    for name, features in sets.items():
        if not len(features):
            raise DataError(f"{name} has no rows to score")
    scores, rows, skipped = {}, [], []
    warnings = _warnings(test)
    for position, label in enumerate(heads):
        if progress is not None:
            progress("scoring heads", position, len(heads))
        try:
            head = heads[label]
            own, rows_of_head = _score_head(label, head, test, outliers, force)
        except FeatoodError as error:
            if not skip_errors:
                raise
            skipped.append({"head": label, "reason": str(error)})
            continue
        scores.update({(label, name): values for name, values in own.items()})
        rows += rows_of_head
        warnings += _warnings_of(label, head, test)
    if progress is not None:
        progress("scoring heads", len(heads), len(heads))
    results = {
        "schema": 1,
        "backbone": test.name.split("/")[0],
        "fingerprint": test.fingerprint,
        "id": {"dataset": id_name, "split": _split(test), "n": len(test), **_classification(test)},
        "rows": rows,
        "skipped": skipped,
        "warnings": warnings,
        "versions": library_versions(),
    }
    return Scoring(results, scores, sets)


def _score_head(
    label: str, head: Head, test: FeatureSet, outliers: Mapping[str, FeatureSet], force: bool
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return one head's scores by set, and its result rows."""
    if not force:
        refuse_tuned_on(label, head, outliers)
    id_name, scores, seconds, rows = dataset_name(test), {}, {}, []
    for name, features in {id_name: test, **outliers}.items():
        start = time.perf_counter()
        scores[name] = np.asarray(head.score(features, force=force))
        seconds[name] = time.perf_counter() - start
    for name, features in outliers.items():
        row = {
            "head": label,
            "ood": name,
            "split": _split(features),
            "n_id": len(test),
            "n_ood": len(features),
            **detection_metrics(scores[id_name], scores[name]),
            "fit_s": head.meta.get("fit_seconds", 0.0),
            "score_s": round(seconds[id_name] + seconds[name], 4),
        }
        if records := tuning_records(head):
            row["ood_validated"] = ", ".join(dict.fromkeys(record["on"] for record in records))
        rows.append(row)
    return scores, rows


def score_selection(
    selection: Selection,
    heads: Sequence[str],
    outliers: Sequence[str],
    suites: Sequence[str] = (),
    split: str = "",
    data_dir: str | None = None,
    force: bool = False,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Scoring:
    """Score heads by name against sets by name, extracting the sets that are not in the cache.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    heads : sequence of str
        Names, or folders of fitted heads; all that are fitted, where none is named.
    outliers, suites : sequence of str
        Out-of-distribution sets and lists of them; a set of a list that is nowhere to be found is left
        out and named, one asked for by its own name is an error.
    split : str
        In-distribution split.
    data_dir : str, optional
        Where the images are.
    force, progress
        See :func:`score_heads`.
    say : callable
        Takes one line about each choice made.

    Raises
    ------
    UsageError
        When there is nothing to score against, or no fitted head.
    """
    chosen = chosen_heads(selection, heads)
    test, sets, missing = open_sets(selection, outliers, suites, split, data_dir, progress, say)
    say(f"scoring {', '.join(chosen)} on {test.name} ({len(test)} rows)")
    scoring = score_heads(chosen, test, sets, force, progress)
    scoring.results["warnings"] += missing
    return scoring


def open_sets(
    selection: Selection,
    outliers: Sequence[str],
    suites: Sequence[str] = (),
    split: str = "",
    data_dir: str | None = None,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[FeatureSet, dict[str, FeatureSet], list[str]]:
    """Open the in-distribution split and the sets to score against; see :func:`score_selection`.

    Returns
    -------
    test : FeatureSet
    sets : dict of str to FeatureSet
    warnings : list of str
        Which sets of a suite were nowhere to be found.
    """
    test = selection.open(selection.test_split(split))
    listed = [name for group in suites for name in suite(group)]
    wanted = list(dict.fromkeys([*outliers, *listed]))
    if not wanted:
        raise UsageError("name what to score against: --ood textures, or a list such as --suite cifar10-near")
    sets, missing = {}, []
    for name in wanted:
        try:
            sets[name] = extract_like(selection.cache, test, name, data_dir, progress, say)
        except DataError as error:
            if name in outliers:
                raise
            missing.append(name)
            say(f"left out: {error}")
    if not sets:
        raise DataError(f"none of the sets {', '.join(wanted)} is there")
    left_out = f"sets that were not there are left out: {', '.join(missing)}"
    return test, sets, [left_out] if missing else []


def evaluate(head: Head, test: FeatureSet, outliers: Mapping[str, FeatureSet]) -> dict[str, dict[str, float]]:
    """Return the detection metrics of one head by out-of-distribution set; see :func:`score_heads`."""
    rows = score_heads({head.name: head}, test, outliers).results["rows"]
    return {
        row["ood"]: {key: value for key, value in row.items() if isinstance(value, float)} for row in rows
    }


def _classification(features: FeatureSet) -> dict[str, float]:
    if features.logits is None or features.labels is None:
        return {}
    labels = np.asarray(features.labels[:])
    if not (labels >= 0).any():
        return {}
    return classification_metrics(np.asarray(features.logits[:]), labels)


def _warnings(test: FeatureSet) -> list[str]:
    if test.origin and test.origin["run"].get("weights") == "random":
        return [f"the weights of {test.origin['run']['name']} are random: these scores mean nothing"]
    return []


def _warnings_of(label: str, head: Head, test: FeatureSet) -> list[str]:
    found = [f"{label}: {note}" for note in head.meta.get("notes", [])]
    if head.card.learns and head.meta.get("fitted_on") == test.name:
        found.append(f"{label} was fitted on {test.name}, the very rows it is scored on")
    return found


def _split(features: FeatureSet) -> str:
    return str(features.origin["data"]["split"]) if features.origin else "all"
