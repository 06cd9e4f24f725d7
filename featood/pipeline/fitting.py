"""Fitting a head on a set, and a head by name on a set of the cache."""

from __future__ import annotations

__all__ = ["FitPlan", "fit", "fit_composition", "fit_head"]

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featood.cache.feature_set import FeatureSet
from featood.engines import LOCAL, Engine
from featood.errors import UsageError
from featood.heads.base.fit import FitContext
from featood.heads.base.head import Head
from featood.heads.base.summed_head import SummedHead
from featood.heads.registry import create_head, head_class
from featood.names import label_of
from featood.objects import Location, location
from featood.pipeline.fitted_heads import (
    SOME_ROWS,
    FitSettings,
    existing_head,
    find_heads,
    head_folder,
    heads_folder,
    place_given,
    place_in,
)
from featood.pipeline.presets import choose_preset, options_for_tables
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from featood.pipeline.leakage import SeenOutliers

EMBEDDINGS = ".safetensors"
"""End of the name of a file of outliers that has embeddings; other files contain images."""
AUTO = ("auto",)
"""Members of a composition that :func:`fit_head` chooses; see :mod:`featood.pipeline.recommendation`."""


def fit(
    head: Head,
    train: FeatureSet,
    *,
    outliers: FeatureSet | None = None,
    validate_on: FeatureSet | None = None,
    notes: Sequence[str] = (),
    checkpoint: Location | None = None,
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> Head:
    """Fit a head on a set.

    Parameters
    ----------
    head : Head
        An unfitted head.
    train : FeatureSet
        In-distribution rows.
    outliers : FeatureSet, optional
        Out-of-distribution rows to train on, for heads that learn from outliers; scoring refuses to test the head on
        them.
    validate_on : FeatureSet, optional
        Out-of-distribution rows for selecting the best state of a training, instead of the loss on held-out rows;
        scoring also refuses to test the head on them.
    notes : sequence of str
        Decisions made before the fit, stored in its record.
    checkpoint : Path or ObjectPath, optional
        Folder for resuming an interrupted training.
    engine : Engine
        Where the fit of a :class:`~featood.heads.base.summed_head.SummedHead` is computed; other heads are fitted by
        this process, and a line says so.
    reporter : Reporter
        Receives the progress of a training.

    Returns
    -------
    Head
        The same head, fitted; its ``record`` contains the duration of the fit and the outlier sets used.

    Raises
    ------
    UsageError
        If the head cannot use outliers in this way.
    DataError
        If a set lacks an input of the head.
    """
    _check_outliers(head, learn=outliers is not None, validate=validate_on is not None)
    if engine is not LOCAL and not isinstance(head, SummedHead):
        reporter.line(f"{head.name} is fitted by one process, as its fit is not a sum over rows")
        engine = LOCAL
    context = FitContext(reporter.task(f"training {head.name}"), checkpoint, validate_on, engine)
    rows = train
    if outliers is not None:
        from featood.pipeline.derived_sets import with_outliers

        rows = with_outliers(train, outliers)
    start = time.perf_counter()
    with contextlib.nullcontext() if head.trains else reporter.working(f"fitting {head.name}"):
        head.fit(rows, context=context)
    seconds = round(time.perf_counter() - start, 3)
    head.annotate(fit_seconds=seconds, notes=(*head.record.notes, *notes))
    for seen, metric in ((outliers, None), (validate_on, "auroc")):
        if seen is not None:
            from featood.pipeline.leakage import SeenOutliers

            _record(head, SeenOutliers.of(seen, metric=metric))
    return head


def fit_composition(
    head: Any,
    members: Sequence[Head],
    train: FeatureSet,
    *,
    checkpoint: Location | None = None,
    reporter: Reporter = SILENT,
) -> Head:
    """Compose heads, fitting those that are not fitted yet.

    Parameters
    ----------
    head : Composition
        The composition; all its options except `members` are used.
    members : sequence of Head
        The heads to compose; fitted ones are not refitted.
    train, checkpoint, reporter
        See :func:`fit`.
    """
    context = FitContext(reporter.task(f"training {head.name}"), checkpoint)
    start = time.perf_counter()
    for member in members:
        if member.learns and not member.fitted:
            member.fit(train, context=context)
    options = {name: value for name, value in head.options.items() if name != "members"}
    composed = type(head).of(members, train, **options)
    composed.annotate(fit_seconds=round(time.perf_counter() - start, 3))
    return composed


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """What to fit a head on, and where to store it, by names."""

    preset: str | None = None
    """Published settings to start from; by default those for the kind of network, see
    :func:`featood.pipeline.presets.choose_preset`."""
    split: str = ""
    """Split to fit on: ``train`` by default, or any split for heads without a fit."""
    limit: int = 0
    """Number of rows to fit on, evenly spaced, for a quick try; 0 for all. The label of the head says so."""
    rows_share: float = 1.0
    """Share of the rows to fit on, drawn at random; see :func:`featood.data.selection.drawn_rows`."""
    rows_per_class: int = 0
    """Number of rows of each class to fit on, drawn at random; 0 for a share of all."""
    rows_seed: int = 0
    """Seed of these draws."""
    outliers: str = ""
    """Out-of-distribution set to learn from, or comma-separated files of embeddings (.safetensors); see
    :func:`fit` and :func:`featood.pipeline.derived_sets.outliers_in_files`."""
    validate_on: str = ""
    """Out-of-distribution set to choose the state of a training by; see :func:`fit`."""
    out: str | Location | None = None
    """Folder of the artefact; by default in the cache, see :mod:`featood.pipeline.fitted_heads`."""
    overwrite: bool = False
    """Fit again if there is such a head, and replace one that was fitted with other settings or on other rows."""

    def __post_init__(self) -> None:
        chosen = {"limit", "rows_share", "rows_per_class"} & self.rows.keys()
        if len(chosen) > 1:
            given = " and ".join(f"--{name.replace('_', '-')}" for name in sorted(chosen))
            raise UsageError(f"{given} select different rows; give one of them")
        if self.rows_seed and chosen <= {"limit"}:
            raise UsageError("--rows-seed draws no rows by itself; add --rows-share or --rows-per-class")

    @property
    def rows(self) -> dict[str, str]:
        """What selects some of the rows, as recorded in the artefact; empty for all rows."""
        given = {name: getattr(self, name) for name in SOME_ROWS}
        return {name: str(value) for name, value in given.items() if value != getattr(FitPlan, name)}


def fit_head(
    selection: Selection,
    name: str,
    options: Mapping[str, Any] | None = None,
    plan: FitPlan = FitPlan(),
    *,
    chosen_on: SeenOutliers | None = None,
    reporter: Reporter = SILENT,
) -> tuple[Head, Location]:
    """Fit a head by name on a split of the cache, and save it.

    If the cache has a head of this name that was fitted with other settings, the new one is stored next to it, under a
    label that lists the differences. One with the same settings, on the same rows, is returned without another fit. See
    :mod:`featood.pipeline.fitted_heads`.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    name : str
        Name of the head.
    options : mapping, optional
        Its options.
    plan : FitPlan
        What to fit on, and where to store the head.
    chosen_on : SeenOutliers, optional
        What the options were chosen on, for the artefact; see :func:`featood.pipeline.tuning.tune_head`.
    reporter : Reporter
        Receives a line about each choice made, and the progress of a training.

    Raises
    ------
    DataError
        If the split does not exist, or lacks an input of the head.
    UsageError
        If ``plan.out`` contains a head that was fitted with other settings, and ``plan.overwrite`` is off.
    Mismatch
        If a head of this name was fitted on other features or rows, and ``plan.overwrite`` is off.
    """
    cls, options = head_class(name), dict(options or {})
    learns = cls.card.learns
    split = selection.train_split(plan.split) if learns or plan.split else next(iter(selection.entries))
    train = selection.open(split)
    if plan.rows:
        from featood.pipeline.derived_sets import limited, subset

        if plan.limit:
            train = limited(train, plan.limit)
        else:
            train = subset(train, share=plan.rows_share, per_class=plan.rows_per_class, seed=plan.rows_seed)
    preset, note = plan.preset, ""
    if preset is None and cls.presets:
        preset, note = choose_preset(name, train)
    tabular, of_table = options_for_tables(name, train, preset, options)
    options |= tabular
    notes = [line for line in (note, of_table) if line]
    for line in notes:
        reporter.line(line)
    composes = cls.composes
    # names and folders of fitted heads are known here, not to a composition
    named = options.pop("members", None) if composes else None
    head = create_head(name, preset, **options)
    members: list[Head] = []
    if named == AUTO:
        named, note = _recommended(selection, plan.split, reporter)
        notes.append(note)
    if composes:
        head, members = _with_members(selection, head, named, reporter)
    sets = {
        "split": split,
        **plan.rows,
        "outliers": plan.outliers,
        "validate_on": plan.validate_on,
    }
    sets = {key: value for key, value in sets.items() if value}
    tuned = {} if chosen_on is None else {"tuned_on": chosen_on.on}
    settings = FitSettings(head.options, {**sets, **tuned}, train.fingerprint, train.content)
    if plan.out:
        folder = place_given(location(plan.out), name, settings, overwrite=plan.overwrite, reporter=reporter)
    else:
        root, defaults = heads_folder(selection), create_head(name, preset, **tabular).options
        folder = place_in(root, name, settings, defaults, overwrite=plan.overwrite, reporter=reporter)
    if not plan.overwrite and chosen_on is None and (there := existing_head(folder)) is not None:
        reporter.line(
            f"{label_of(folder.name)} is fitted with these settings already; --overwrite fits it again"
        )
        return there, folder
    reporter.line(f"fitting {name} on {train.name} ({len(train)} rows)")
    if train.origin is not None and train.origin.random_weights:
        reporter.line(
            f"warning: the weights of {train.origin.network} are random, so heads fitted on it are meaningless"
        )
    checkpoint = folder / "training"
    if composes:
        _check_outliers(head, learn=False, validate=bool(plan.validate_on))
        head = fit_composition(head, members, train, checkpoint=checkpoint, reporter=reporter)
        head.annotate(notes=(*head.record.notes, *notes))
    else:
        outliers, validate_on = _find_outliers(selection, head, train, plan, reporter)
        head = fit(
            head, train, outliers=outliers, validate_on=validate_on, notes=notes,
            checkpoint=checkpoint, engine=selection.engine, reporter=reporter,
        )  # fmt: skip
    head.annotate(fit=sets)
    if chosen_on is not None:
        _record(head, chosen_on)
    head.save(folder)
    return head, folder


def _check_outliers(head: Head, *, learn: bool, validate: bool) -> None:
    """Raise if a head cannot use the given outliers.

    Raises
    ------
    UsageError
        If there are outliers to learn from or to validate on, and the head does not do so.
    """
    if learn and not head.takes_outliers:
        so = " with these options" if head.card.takes_outliers else ""
        raise UsageError(f"{head.name} does not learn from outliers{so}; omit --outliers")
    if learn and validate:
        raise UsageError("a head can use only one outlier set: give --outliers or --validate-on, not both")
    if validate:
        from featood.heads.base.trained_head import TrainedHead

        if not isinstance(head, TrainedHead):
            raise UsageError(f"{head.name} has no training state to select by outliers; omit --validate-on")


def _find_outliers(
    selection: Selection, head: Head, train: FeatureSet, plan: FitPlan, reporter: Reporter
) -> tuple[FeatureSet | None, FeatureSet | None]:
    """Find the sets to learn from and to validate on; nothing is extracted for a head that cannot use them."""
    _check_outliers(head, learn=bool(plan.outliers), validate=bool(plan.validate_on))
    if not (plan.outliers or plan.validate_on):
        return None, None
    from featood.pipeline.derived_sets import outliers_in_files
    from featood.pipeline.resolve import find_ood_set

    if plan.outliers.endswith(EMBEDDINGS):
        return outliers_in_files(train, plan.outliers.split(",")), None
    if plan.outliers:
        return find_ood_set(selection, train, plan.outliers, "--outliers", reporter), None
    return None, find_ood_set(selection, train, plan.validate_on, "--validate-on", reporter)


def _with_members(
    selection: Selection, head: Any, named: Sequence[str] | None, reporter: Reporter
) -> tuple[Any, list[Head]]:
    """Return a composition and its members, fitted ones (by name or folder) and unfitted ones."""
    from featood.heads.artefacts.artefact import load_head
    from featood.heads.compositions._members import create_member, format_member

    found = find_heads(selection)
    members = []
    for text in named or type(head).members:
        folder = head_folder(text, found)
        member = create_member(text, head.nonfinite) if folder is None else load_head(folder)
        reporter.line(f"member {member.name}: {f'as fitted in {folder}' if folder else 'fitted now'}")
        members.append(member)
    return dataclasses.replace(head, members=tuple(format_member(member) for member in members)), members


def _recommended(selection: Selection, split: str, reporter: Reporter) -> tuple[list[str], str]:
    """Choose the members of a composition without out-of-distribution data, and say which."""
    from featood.heads.compositions._members import format_member
    from featood.pipeline.recommendation import choose_members, recommend_heads

    chosen = choose_members(recommend_heads(selection, split=split, reporter=reporter).rows)
    note = f"members chosen by pseudo-outliers: {', '.join(row.label for row in chosen)}"
    reporter.line(note)
    return [format_member(row.head) for row in chosen], note


def _record(head: Head, seen: SeenOutliers) -> None:
    """Record the outliers that a head has used, so that scoring refuses to test it on them."""
    head.annotate(tuned=seen.as_json(), notes=(*head.record.notes, seen.note))
