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
from featood.engine.extraction import doubts_about, extract_like
from featood.engine.fitting import asked, chosen_heads
from featood.engine.plane import Plane, open_plane
from featood.engine.protocol import dataset_name, refuse_tuned_on, tuning_records
from featood.engine.repeats import repeated_rows
from featood.engine.selection import Selection
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads.base import Head
from featood.metrics import (
    class_table,
    classification_metrics,
    detection_metrics,
    open_set_metrics,
    reliability_curve,
)


@dataclasses.dataclass
class Scoring:
    """Scores of every head on every set, and the metrics that follow."""

    results: dict[str, Any]
    """What ``--json`` writes: schema, backbone, fingerprint, id, rows, skipped, warnings, versions."""
    scores: dict[tuple[str, str], np.ndarray]
    """Scores ``[N]`` by head and set; the in-distribution set goes by its dataset name."""
    sets: dict[str, FeatureSet]
    """The sets by name, the in-distribution set first."""
    predictions: dict[tuple[str, str], np.ndarray | None]
    """Predicted classes ``[N]`` by head and set: of the head where it is a classifier, else of the backbone."""
    plane: Plane | None = None
    """What each head makes of the plane, where the features have two dimensions."""

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
            yield {
                "dataset": name,
                "split": _split(features),
                "id": np.arange(len(features)) if features.ids is None else features.ids[:],
                "label": None if features.labels is None else np.asarray(features.labels[:]),
                "prediction": self.predictions[head, name],
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
    backbone = {name: _classes(features.logits) for name, features in sets.items()}
    scores, predictions, rows, skipped = {}, {}, [], []
    warnings, plane = _warnings(sets), open_plane(sets)
    for position, label in enumerate(heads):
        if progress is not None:
            progress("scoring heads", position, len(heads))
        try:
            head = heads[label]
            own, classes, rows_of_head = _score_head(label, head, sets, backbone, force)
        except FeatoodError as error:
            if not skip_errors:
                raise
            skipped.append({"head": label, "reason": str(error)})
            continue
        scores.update({(label, name): values for name, values in own.items()})
        predictions.update({(label, name): values for name, values in classes.items()})
        rows += rows_of_head
        warnings += _warnings_of(label, head, test, own)
        if plane is not None:
            plane.add(label, head, force)
    if progress is not None:
        progress("scoring heads", len(heads), len(heads))
    results = {
        "schema": 1,
        "backbone": test.name.split("/")[0],
        "fingerprint": test.fingerprint,
        "id": {
            "dataset": id_name,
            "split": _split(test),
            "n": len(test),
            **_classification(test.logits, test),
            **_by_class(test, backbone[id_name]),
        },
        "rows": rows,
        "repeats": repeated_rows(rows),
        "skipped": skipped,
        "warnings": list(dict.fromkeys(warnings)),
        "versions": library_versions(),
    }
    return Scoring(results, scores, sets, predictions, plane)


def _score_head(
    label: str,
    head: Head,
    sets: Mapping[str, FeatureSet],
    backbone: Mapping[str, np.ndarray | None],
    force: bool,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | None], list[dict[str, Any]]]:
    """Return one head's scores and predicted classes by set (the in-distribution set first), and its result rows."""
    (id_name, test), *others = sets.items()
    outliers = dict(others)
    if not force:
        refuse_tuned_on(label, head, outliers)
    scores: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    judged: dict[str, float] = {}
    classes, rows = dict(backbone), []
    for name, features in sets.items():
        start = time.perf_counter()
        scores[name] = np.asarray(head.score(features, force=force))
        seconds[name] = time.perf_counter() - start
        if (logits := head.classify(features, force=force)) is not None:
            numbers = None if head.classes is None else head.classes.cpu().numpy()
            classes[name] = _classes(logits, numbers)
            if name == id_name:
                judged = _classification(logits, test, numbers)
    for name, features in outliers.items():
        row: dict[str, Any] = {
            "head": label,
            "ood": name,
            "split": _split(features),
            "n_id": len(test),
            "n_ood": len(features),
            **detection_metrics(scores[id_name], scores[name]),
            **_open_set(scores[id_name], scores[name], classes[id_name], classes[name], test),
            **{key: judged[key] for key in ("accuracy", "brier") if key in judged},
            "fit_s": head.meta.get("fit_seconds", 0.0),
            "score_s": round(seconds[id_name] + seconds[name], 4),
        }
        if "which" in head.options:
            row["which"] = head.options["which"]
        if head.meta.get("training", {}).get("diverged"):
            row["diverged"] = True
        if records := tuning_records(head):
            row["ood_validated"] = ", ".join(dict.fromkeys(record["on"] for record in records))
        rows.append(row)
    return scores, classes, rows


def score_selection(
    selection: Selection,
    heads: Sequence[str],
    outliers: Sequence[str],
    suites: Sequence[str] = (),
    split: str = "",
    data_dir: str | None = None,
    force: bool = False,
    which: str = "",
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
    which : str
        Score to ask for, of heads that have several; ``all`` for each of them in turn.
    say : callable
        Takes one line about each choice made.

    Raises
    ------
    UsageError
        When there is nothing to score against, or no fitted head; when no head has the score asked for.
    """
    chosen, skipped = chosen_heads(selection, heads, say)
    if which:
        chosen = asked(chosen, which)
    test, sets, missing = open_sets(selection, outliers, suites, split, data_dir, progress, say)
    say(f"scoring {', '.join(chosen)} on {test.name} ({len(test)} rows)")
    scoring = score_heads(chosen, test, sets, force, progress)
    scoring.results["warnings"] += missing
    scoring.results["skipped"] += skipped
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


def _classes(logits: Any, numbers: np.ndarray | None = None) -> np.ndarray | None:
    """Return the predicted classes ``[N]``; `numbers` are those of the columns, where not 0 to C - 1."""
    if logits is None:
        return None
    columns = np.asarray(logits[:]).argmax(1)
    return columns if numbers is None else numbers[columns]


def _classification(logits: Any, features: FeatureSet, numbers: np.ndarray | None = None) -> dict[str, float]:
    if logits is None or (labels := _labels(features)) is None:
        return {}
    return classification_metrics(np.asarray(logits[:]), labels, classes=numbers)


def _open_set(
    id_scores: np.ndarray,
    ood_scores: np.ndarray,
    id_classes: np.ndarray | None,
    ood_classes: np.ndarray | None,
    test: FeatureSet,
) -> dict[str, float]:
    labels = _labels(test)
    if id_classes is None or ood_classes is None or labels is None:
        return {}
    return open_set_metrics(id_scores, ood_scores, id_classes, ood_classes, labels)


def _labels(features: FeatureSet) -> np.ndarray | None:
    """Return the labels of a set, unless none of its rows has any."""
    if features.labels is None or not ((labels := np.asarray(features.labels[:])) >= 0).any():
        return None
    return labels


def _by_class(test: FeatureSet, predictions: np.ndarray | None) -> dict[str, list[dict[str, Any]]]:
    labels = _labels(test)
    return {} if labels is None else {"classes": class_table(labels, predictions, test.classes)}


def _warnings(sets: Mapping[str, FeatureSet]) -> list[str]:
    """Return what a reader of the results must know of the sets, the in-distribution one first."""
    test = next(iter(sets.values()))
    if test.origin and test.origin["run"].get("weights") == "random":
        found = [f"the weights of {test.origin['run']['name']} are random: these scores mean nothing"]
    else:
        found = [f"{test.name}: {doubt}" for doubt in doubts_about(test)]
    for name, features in sets.items():
        if features.left_out:
            whole = features.left_out + len(features)
            found.append(
                f"{features.left_out} of {whole} images of {name} could not be read and are left out"
            )
    return found


def _warnings_of(label: str, head: Head, test: FeatureSet, scores: Mapping[str, np.ndarray]) -> list[str]:
    fit = label.partition("[")[0]  # its notes are the same for all its scores
    found = [f"{fit}: {note.removeprefix(f'{head.name}: ')}" for note in head.meta.get("notes", [])]
    if min(map(np.min, scores.values())) == max(map(np.max, scores.values())):
        found.append(f"{label} gives every row the same score, which tells nothing")
    if head.card.learns and head.meta.get("fitted_on") == test.name:
        found.append(f"{label} was fitted on {test.name}, the very rows it is scored on")
    return found


def _split(features: FeatureSet) -> str:
    return str(features.origin["data"]["split"]) if features.origin else "all"
