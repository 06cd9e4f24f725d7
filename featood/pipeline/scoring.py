"""Scoring heads on an in-distribution set against out-of-distribution sets."""

from __future__ import annotations

__all__ = ["ScorePlan", "Scoring", "evaluate", "score", "score_selection"]

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.cache.manifest import library_versions
from featood.data import near_and_far
from featood.data.selection import split_limit
from featood.engines import LOCAL, Engine
from featood.errors import DataError, FeatoodError, MissingPackage
from featood.heads.base.calibration import predicted_classes
from featood.heads.base.head import Head
from featood.metrics import METRICS
from featood.metrics.sanity import doubts
from featood.pipeline.evidence import Evidence, make_relative
from featood.pipeline.fitted_heads import SkippedHead, chosen_heads, with_score
from featood.pipeline.full_spectrum import numbered_as, refuse_overlap
from featood.pipeline.leakage import dataset_name
from featood.pipeline.resolve import find_test_sets
from featood.pipeline.result_rows import (
    HeadScores,
    ResultRow,
    id_facts,
    score_head,
    split_name,
)
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from featood.pipeline.comparison import Uncertainty
    from featood.pipeline.score_maps import ScoreMaps


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    """How heads by name are scored."""

    split: str = ""
    """In-distribution split; see :meth:`featood.pipeline.selection.Selection.test_split`."""
    which: str = ""
    """Name of the score to use for heads that have several, or ``all``."""
    force: bool = False
    """See :func:`score`."""
    intervals: Uncertainty | None = None
    """See :func:`score`."""
    shifted: tuple[str, ...] = ()
    """Names of sets, and of lists of them, that count as in-distribution, too."""
    limit: int = 0
    """Number of images to use of each of these and of each out-of-distribution set; 0 for all."""


@dataclasses.dataclass
class Scoring:
    """Scores of every head on every set, and the resulting metrics."""

    results: dict[str, Any]
    """Content of ``--json``: schema, backbone, fingerprint, id, groups, rows, repeats, comparison, skipped, warnings,
    versions, evidence."""
    scores: dict[tuple[str, str], np.ndarray]
    """Scores ``[N]`` by head and set; the key of the in-distribution set is its dataset name."""
    sets: dict[str, FeatureSet]
    """The sets by name, the in-distribution set first, followed by shifted sets."""
    predictions: dict[tuple[str, str], np.ndarray | None]
    """Predicted classes ``[N]`` by head and set: of the head if it classifies, otherwise of the backbone."""
    maps: ScoreMaps | None = None
    """Scores on a grid over the plane, if the features have two dimensions."""

    def to_frame(self) -> Any:
        """Return the result rows as a pandas data frame, one row per head and out-of-distribution set.

        Raises
        ------
        MissingPackage
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingPackage("a data frame needs pandas: pip install 'featood[notebook]'") from None
        return pandas.DataFrame(self.results["rows"])

    def _repr_html_(self) -> str:
        """Return the detection metrics in percent as a table for notebooks."""
        from featood.notebook import html_table

        rows = self.results["rows"]
        title = f"{self.results['id']['dataset']} with {self.results['backbone']}, in percent"
        cells = ([row["head"], row["ood"], *(f"{100 * row[key]:.2f}" for key in METRICS)] for row in rows)
        return html_table(title, ("head", "OOD set", *METRICS), cells)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the scores of the samples, for one head and set at a time, in the form for ``write_scores``."""
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


def score(
    heads: Mapping[str, Head],
    test: FeatureSet,
    outliers: Mapping[str, FeatureSet],
    *,
    shifted: Mapping[str, FeatureSet] | None = None,
    suites: Sequence[str] = (),
    force: bool = False,
    skip_errors: bool = False,
    intervals: Uncertainty | None = None,
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> Scoring:
    """Score every set with every head once, and compare the heads.

    With `shifted`, this is full-spectrum detection (Yang et al., IJCV 2023), as OpenOOD v1.5 evaluates it with
    ``fsood=True``: rows of these sets, which have the same classes and a covariate shift, count as in-distribution.
    Every metric that depends on scores is computed on the joined rows; accuracy and calibration under ``id`` are those
    of `test`, and the accuracy of the joined rows is added under ``joined``.

    Parameters
    ----------
    heads : mapping of str to Head
        Fitted heads by label; each is accessed only when it is scored.
    test : FeatureSet
        In-distribution rows that no head was fitted on.
    outliers : mapping of str to FeatureSet
        Out-of-distribution sets by name.
    shifted : mapping of str to FeatureSet, optional
        Sets by name that count as in-distribution, too. Their classes are matched with those of `test` by name.
    suites : sequence of str
        Lists of sets that say which are near and far; see :func:`featood.data.near_and_far`.
    force : bool
        Accept features with another fingerprint than in the fit, and sets on which heads were fitted or tuned.
    skip_errors : bool
        Skip a head that cannot be used, and list its name and the reason under ``skipped``.
    intervals : Uncertainty, optional
        Add intervals to the rows, and list under ``comparison`` which heads differ.
    engine : Engine
        Where the blocks are scored; see :mod:`featood.engines`.
    reporter : Reporter
        Receives the number of finished heads and tests.

    Raises
    ------
    DataError
        If a set is empty, or has the name of the in-distribution set.
    Mismatch
        If a head was fitted on features of another kind.
    UsageError
        If a head was fitted or tuned on one of the sets, or a shifted set is the in-distribution set or an
        out-of-distribution set.
    """
    id_name = dataset_name(test)
    if split_limit(id_name)[0] in [split_limit(name)[0] for name in outliers]:
        raise DataError(f"{id_name} is the in-distribution set; it cannot be scored against itself")
    shifted = dict(shifted or {})
    refuse_overlap(id_name, shifted, outliers)
    inliers = {id_name: test, **{name: numbered_as(test, features) for name, features in shifted.items()}}
    sets = {**inliers, **outliers}
    for name, features in sets.items():
        if not len(features):
            raise DataError(f"{name} has no rows to score; extract or import it again, or leave it out")
    backbone = {name: predicted_classes(features.logits) for name, features in sets.items()}
    found = _Collected(inliers, outliers, intervals, force)
    found.warnings += [
        f"the classes of {name} are not those of {id_name}: its rows count as in-distribution, but its labels are "
        "left out"
        for name, features in shifted.items()
        if features.labels is not None and inliers[name].labels is None
    ]
    for position, label in enumerate(heads):
        reporter.progress("scoring heads", position, len(heads))
        try:
            head = heads[label]
            scored = score_head(label, head, inliers, outliers, backbone, force=force, engine=engine)
        except FeatoodError as error:
            if not skip_errors:
                raise
            found.skipped.append(SkippedHead(label, str(error)))
            continue
        found.add(label, head, scored)
    reporter.progress("scoring heads", len(heads), len(heads))
    facts = id_facts(inliers, backbone, None if intervals is None else intervals.level)
    return Scoring(found.results(facts, suites, reporter), found.scores, sets, found.predictions, found.maps)


class _Collected:
    """Results of the finished heads."""

    def __init__(
        self,
        inliers: Mapping[str, FeatureSet],
        outliers: Mapping[str, FeatureSet],
        intervals: Uncertainty | None,
        force: bool,
    ) -> None:
        self.inliers, self.outliers, self.force = inliers, outliers, force
        sets = {**inliers, **outliers}
        self.scores: dict[tuple[str, str], np.ndarray] = {}
        self.predictions: dict[tuple[str, str], np.ndarray | None] = {}
        self.rows: list[ResultRow] = []
        self.skipped: list[SkippedHead] = []
        self.warnings = _warnings(sets)
        self.evidence = Evidence(sets, list(inliers)[1:], force)
        self.comparison, self.maps = None, None
        self.test = next(iter(inliers.values()))
        if intervals is not None:
            from featood.pipeline.comparison import Comparison

            self.comparison = Comparison(intervals)
        if self.test.features and self.test.feature().shape[1] == 2:
            from featood.pipeline.score_maps import open_score_maps

            self.maps = open_score_maps(sets)

    def add(self, label: str, head: Head, scored: HeadScores) -> None:
        """Add the scores of a head."""
        self.scores |= {(label, name): values for name, values in scored.scores.items()}
        self.predictions |= {(label, name): values for name, values in scored.classes.items()}
        self.evidence.add(label, head, scored.scores)
        rows = scored.rows
        if self.comparison is not None:
            others = [scored.scores[name] for name in self.outliers]
            rows = self.comparison.add(label, scored.joined, others, rows)
        self.rows += rows
        self.warnings += _warnings_of(label, head, self.inliers, scored.scores)
        if self.maps is not None:
            self.maps.add(label, head, self.force)

    def results(self, facts: Mapping[str, Any], suites: Sequence[str], reporter: Reporter) -> dict[str, Any]:
        """Return the content of ``--json``, given the facts on the in-distribution set."""
        rows = [row.as_json() for row in self.rows]
        groups = near_and_far(dataset_name(self.test), self.outliers, suites)
        parts = [group for group in groups.values() if len(group) < len(self.outliers)]
        return {
            "schema": 1,
            "backbone": self.test.name.split("/")[0],
            "fingerprint": self.test.fingerprint,
            "id": facts,
            "groups": groups,
            "rows": rows,
            "repeats": _repeats(rows),
            **({} if self.comparison is None else {"comparison": self.comparison.as_json(parts, reporter)}),
            "skipped": [head._asdict() for head in self.skipped],
            "warnings": list(dict.fromkeys(self.warnings)),
            "versions": library_versions(),
            "evidence": self.evidence.as_json(),
        }


def score_selection(
    selection: Selection,
    heads: Sequence[str],
    outliers: Sequence[str],
    suites: Sequence[str] = (),
    how: ScorePlan = ScorePlan(),
    *,
    reporter: Reporter = SILENT,
) -> Scoring:
    """Score heads by name against sets by name, extracting or generating sets that are not in the cache.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    heads : sequence of str
        Names or folders of fitted heads; by default all fitted heads.
    outliers, suites : sequence of str
        Out-of-distribution sets and lists of them; see :func:`featood.pipeline.resolve.find_test_sets`.
    how : ScorePlan
        How to score.
    reporter : Reporter
        Receives a line about each choice made, and the progress.

    Raises
    ------
    UsageError
        If there is no set to score against or no fitted head, or no head has the score ``how.which``.
    """
    chosen, skipped = chosen_heads(selection, heads, reporter)
    if how.which:
        chosen = with_score(chosen, how.which)
    sets = find_test_sets(
        selection, outliers, suites, shifted=how.shifted, split=how.split, limit=how.limit, reporter=reporter
    )
    reporter.line(f"scoring {', '.join(chosen)} on {sets.in_distribution}")
    scoring = score(
        chosen, sets.test, sets.outliers, shifted=sets.shifted, suites=suites, force=how.force,
        intervals=how.intervals, engine=selection.engine, reporter=reporter,
    )  # fmt: skip
    scoring.results["warnings"] += sets.warnings
    scoring.results["skipped"] += [head._asdict() for head in skipped]
    make_relative(scoring.results["evidence"], selection.cache.root)
    return scoring


def evaluate(
    head: Head,
    test: FeatureSet,
    outliers: Mapping[str, FeatureSet],
    shifted: Mapping[str, FeatureSet] | None = None,
) -> dict[str, dict[str, float]]:
    """Return the detection metrics of one head by out-of-distribution set; see :func:`score`."""
    rows = score({head.name: head}, test, outliers, shifted=shifted).results["rows"]
    return {
        row["ood"]: {key: value for key, value in row.items() if isinstance(value, float)} for row in rows
    }


def _repeats(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each head that was scored with several seeds."""
    if not any("@" in row["head"] for row in rows):
        return []
    from featood.pipeline.repeats import repeated_rows

    return repeated_rows(rows)


def _warnings(sets: Mapping[str, FeatureSet]) -> list[str]:
    """Return the warnings about the sets, those on the in-distribution set first."""
    test = next(iter(sets.values()))
    if test.origin is not None and test.origin.random_weights:
        found = [f"the weights of {test.origin.network} are random, so these scores are meaningless"]
    elif test.logits is None or test.labels is None:
        found = []
    else:
        found = [f"{test.name}: {doubt}" for doubt in doubts(test.logits, test.labels, test.classes)]
    for name, features in sets.items():
        if features.left_out:
            whole = features.left_out + len(features)
            found.append(
                f"{features.left_out} of {whole} images of {name} could not be read and are left out"
            )
    return found


def _warnings_of(
    label: str, head: Head, inliers: Mapping[str, FeatureSet], scores: Mapping[str, np.ndarray]
) -> list[str]:
    fit = label.partition("[")[0]  # its notes are the same for all its scores
    found = [f"{fit}: {note.removeprefix(f'{head.name}: ')}" for note in head.record.notes]
    if min(map(np.min, scores.values())) == max(map(np.max, scores.values())):
        found.append(f"{label} gives every row the same score, so it detects nothing")
    for features in inliers.values():
        if head.learns and head.record.fitted_on == features.name:
            found.append(f"{label} was fitted on {features.name}, the same rows on which it is scored")
    return found
