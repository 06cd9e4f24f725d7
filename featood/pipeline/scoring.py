"""Scoring heads on an in-distribution set against out-of-distribution sets."""

from __future__ import annotations

__all__ = ["Scoring", "evaluate", "open_sets", "score_heads", "score_selection"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from featood.cache import FeatureSet, library_versions
from featood.data import suite
from featood.errors import DataError, FeatoodError, UsageError
from featood.heads.base.head import Head
from featood.metrics import reliability_curve
from featood.pipeline.comparison import Comparison, Uncertainty
from featood.pipeline.evidence import Evidence, within
from featood.pipeline.extraction import doubts_about, extract_like
from featood.pipeline.fitting import asked, chosen_heads
from featood.pipeline.leakage import dataset_name
from featood.pipeline.repeated_seeds import repeated_rows
from featood.pipeline.result_rows import id_facts, predicted_classes, score_head, split_name
from featood.pipeline.score_maps import Plane, open_plane
from featood.pipeline.selection import Selection


@dataclasses.dataclass
class Scoring:
    """Scores of every head on every set, and the metrics that follow."""

    results: dict[str, Any]
    """What ``--json`` writes: schema, backbone, fingerprint, id, rows, repeats, comparison, skipped, warnings,
    versions, evidence."""
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
                "split": split_name(features),
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
    intervals: Uncertainty | None = None,
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
    intervals : Uncertainty, optional
        Put intervals into the rows, and say under ``comparison`` which heads differ.

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
    backbone = {name: predicted_classes(features.logits) for name, features in sets.items()}
    scores, predictions, rows, skipped = {}, {}, [], []
    warnings, plane = _warnings(sets), open_plane(sets)
    comparison = None if intervals is None else Comparison(intervals)
    evidence = Evidence(sets, force)
    for position, label in enumerate(heads):
        if progress is not None:
            progress("scoring heads", position, len(heads))
        try:
            head = heads[label]
            own, classes, rows_of_head = score_head(label, head, sets, backbone, force)
        except FeatoodError as error:
            if not skip_errors:
                raise
            skipped.append({"head": label, "reason": str(error)})
            continue
        scores.update({(label, name): values for name, values in own.items()})
        predictions.update({(label, name): values for name, values in classes.items()})
        rows += rows_of_head
        evidence.add(label, head, own)
        if comparison is not None:
            comparison.add(label, own[id_name], [own[name] for name in outliers], rows_of_head)
        warnings += _warnings_of(label, head, test, own)
        if plane is not None:
            plane.add(label, head, force)
    if progress is not None:
        progress("scoring heads", len(heads), len(heads))
    results = {
        "schema": 1,
        "backbone": test.name.split("/")[0],
        "fingerprint": test.fingerprint,
        "id": id_facts(test, backbone[id_name], None if intervals is None else intervals.level),
        "rows": rows,
        "repeats": repeated_rows(rows),
        **({} if comparison is None else {"comparison": comparison.as_json()}),
        "skipped": skipped,
        "warnings": list(dict.fromkeys(warnings)),
        "versions": library_versions(),
        "evidence": evidence.as_json(),
    }
    return Scoring(results, scores, sets, predictions, plane)


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
    intervals: Uncertainty | None = None,
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
    intervals : Uncertainty, optional
        See :func:`score_heads`.

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
    scoring = score_heads(chosen, test, sets, force, progress, intervals=intervals)
    scoring.results["warnings"] += missing
    scoring.results["skipped"] += skipped
    within(scoring.results["evidence"], selection.cache.root)
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
    found = [f"{fit}: {note.removeprefix(f'{head.name}: ')}" for note in head.record.notes]
    if min(map(np.min, scores.values())) == max(map(np.max, scores.values())):
        found.append(f"{label} gives every row the same score, which tells nothing")
    if head.learns and head.record.fitted_on == test.name:
        found.append(f"{label} was fitted on {test.name}, the very rows it is scored on")
    return found
