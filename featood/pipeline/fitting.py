"""Fitting a head on a cached set, and finding fitted heads again."""

from __future__ import annotations

__all__ = ["asked", "chosen_heads", "find_heads", "fit_head", "get_head"]

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featood.cache import FeatureSet
from featood.errors import Mismatch, UsageError
from featood.files import folders_below, size_of
from featood.heads import ask, create_head, head_class, load_head
from featood.heads.artefacts.artefact import SUFFIXES
from featood.heads.base.fit import FitContext
from featood.heads.base.head import Head
from featood.heads.base.trained_head import TrainedHead
from featood.heads.compositions._composition import Composition
from featood.heads.compositions._members import create_member, spell
from featood.pipeline.extraction import extract_like
from featood.pipeline.head_folders import Settings, place_given, place_in
from featood.pipeline.leakage import dataset_name, inputs_digest, overlap
from featood.pipeline.outlier_rows import with_outliers
from featood.pipeline.preset_choice import choose_preset
from featood.pipeline.selection import Selection
from featood.pipeline.variant_labels import matching


def fit_head(
    selection: Selection,
    name: str,
    options: dict[str, Any] | None = None,
    preset: str | None = None,
    split: str = "",
    out: str | Path | None = None,
    progress: Callable[..., None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    tuned: dict[str, Any] | None = None,
    outliers: str = "",
    validate_on: str = "",
    data_dir: str | None = None,
    overwrite: bool = False,
) -> tuple[Head, Path]:
    """Fit a head on one split and save it.

    Where the cache has a head of this name that was fitted in another way, the new one is kept beside it, under a label
    that names what differs; see :mod:`featood.pipeline.head_folders`.

    Parameters
    ----------
    selection : Selection
        The in-distribution extraction.
    name : str
        Name of the head.
    options : dict, optional
        Its options.
    preset : str, optional
        Published settings to start from; by default those for the kind of network, see
        :func:`featood.pipeline.preset_choice.choose_preset`.
    split : str
        ``train`` by default; a head that learns nothing takes any.
    out : path, optional
        Folder of the artefact; by default in the cache, under the head's name or that label.
    progress : callable, optional
        See :class:`featood.heads.base.head.FitContext`.
    say : callable
        Takes one line about each choice made.
    tuned : dict, optional
        How the options were chosen, for the artefact; see :func:`featood.pipeline.tuning.tune_head`.
    outliers : str
        Out-of-distribution set to learn from, for heads that can; it can then not be scored against.
    validate_on : str
        Out-of-distribution set to choose the best state of a training by, in place of the held-out loss; it can
        then not be scored against either.
    data_dir : str, optional
        Where its images are, if they are still to be extracted.
    overwrite : bool
        Replace a head that was fitted in another way.

    Raises
    ------
    DataError
        When the split is not there, or lacks what the head needs.
    UsageError
        When `out` holds a head that was fitted in another way, and `overwrite` is off.
    """
    learns = head_class(name).card.learns
    chosen = selection.train_split(split) if learns or split else next(iter(selection.entries))
    train = selection.open(chosen)
    why_preset = ""
    if preset is None:
        preset, why_preset = choose_preset(name, train)
    if why_preset:
        say(why_preset)
    options = dict(options or {})
    # names and folders of fitted heads are known here, not to the head
    given = options.pop("members", None) if issubclass(head_class(name), Composition) else None
    head = create_head(name, preset, **options)
    members = []
    if isinstance(head, Composition):
        members = _members(selection, head, given, say)
        head = dataclasses.replace(head, members=tuple(spell(member) for member in members))
    fit = {"split": chosen, "outliers": outliers, "validate_on": validate_on}
    settings = Settings(head.options, {key: value for key, value in fit.items() if value}, train.fingerprint)
    if out:
        folder = place_given(Path(out), name, settings, overwrite, say)
    else:
        root = selection.cache.heads_folder(selection.backbone, selection.dataset)
        folder = place_in(root, name, settings, create_head(name, preset).options, overwrite, say)
    say(f"fitting {name} on {train.name} ({len(train)} rows)")
    if train.origin["run"].get("weights") == "random":
        say(
            f"warning: the weights of {train.origin['run']['name']} are random: what is fitted on them means nothing"
        )
    rows = train
    if outliers:
        if not head.takes_outliers:
            so = " with these options" if head.card.takes_outliers else ""
            raise UsageError(f"{name} does not learn from outliers{so}; leave --outliers out")
        odd = _other(selection, train, outliers, "--outliers", data_dir, say)
        rows = with_outliers(train, odd)
        tuned = {"on": dataset_name(odd), "inputs": inputs_digest(odd)}
    validation = None
    if validate_on:
        if outliers:
            raise UsageError(
                "a head keeps one record of what it has seen: --outliers or --validate-on, not both"
            )
        if not isinstance(head, TrainedHead):
            raise UsageError(f"{name} has no state to choose by outliers; leave --validate-on out")
        validation = _other(selection, train, validate_on, "--validate-on", data_dir, say)
        tuned = {"on": dataset_name(validation), "inputs": inputs_digest(validation), "metric": "auroc"}
    start = time.perf_counter()
    context = FitContext(progress, folder / "training", validation)
    if isinstance(head, Composition):
        head = _compose(head, members, train, context)
    else:
        head.fit(rows, context=context)
    seconds = round(time.perf_counter() - start, 3)
    notes = [*head.record.notes, *([why_preset] if why_preset else [])]
    if tuned is not None:
        what = (
            "outliers came from"
            if outliers
            else "state was chosen on"
            if validate_on
            else "options were chosen on"
        )
        notes.append(f"{what} {tuned['on']}: results are OOD-validated")
    head.annotate(fit=settings.fit, fit_seconds=seconds, tuned=tuned, notes=tuple(notes))
    head.save(folder)
    return head, folder


def _other(
    selection: Selection,
    train: FeatureSet,
    name: str,
    flag: str,
    data_dir: str | None,
    say: Callable[[str], None],
) -> FeatureSet:
    """Open a set that is not the in-distribution one."""
    other = extract_like(selection.cache, train, name, data_dir, say=say)
    if overlap(dataset_name(other), dataset_name(train)):
        raise UsageError(f"{name} is the in-distribution set; name another for {flag}")
    return other


def _members(
    selection: Selection, head: Composition, given: Sequence[str] | None, say: Callable[[str], None]
) -> list[Head]:
    """Return the members of a composition: as they are fitted already (by name or folder), or new."""
    found = find_heads(selection)
    members = []
    for text in given or type(head).members:
        folder = _folder(text, found)
        member = create_member(text, head.nonfinite) if folder is None else load_head(folder)
        say(f"member {member.name}: {f'as fitted in {folder}' if folder else 'fitted now'}")
        members.append(member)
    return members


def _compose(head: Composition, members: Sequence[Head], train: FeatureSet, context: FitContext) -> Head:
    """Fit the members that are not fitted yet, and compose them all."""
    for member in members:
        if member.learns and not member.fitted:
            member.fit(train, context=context)
    others = {name: value for name, value in head.options.items() if name != "members"}
    return type(head).of(members, train, **others)


def find_heads(selection: Selection) -> dict[str, Path]:
    """Fitted heads kept in the cache, damaged or not, by the name of their folder."""
    folder = selection.cache.heads_folder(selection.backbone, selection.dataset)
    return {
        path.name: path
        for path in folders_below(folder, 1)
        if any(size_of(path / f"head{suffix}") is not None for suffix in SUFFIXES)
    }


def get_head(selection: Selection, name: str, say: Callable[[str], None] = lambda text: None) -> Head:
    """Return a head to score with: from a folder, from the cache, or new where it need not be fitted.

    A new one has the published settings for the kind of network, which `say` is told.

    Raises
    ------
    UsageError
        When it must be fitted first.
    DataError
        When the folder holds no fitted head.
    """
    folder = _folder(name, find_heads(selection))
    if folder is not None:
        return load_head(folder)
    if head_class(name).card.learns:
        where = f"{selection.backbone}/{selection.dataset}"
        raise UsageError(f"{name} has not been fitted on {where}; fit it with featood fit {name}")
    preset, settings = choose_preset(name, selection.open(next(iter(selection.entries))))
    if settings:
        say(settings)
    return create_head(name, preset)


def _folder(name: str, found: Mapping[str, Path]) -> Path | None:
    """Return where a head is said to be: in the folder of that name, else in the cache."""
    # a folder may happen to bear a head's name; one written as a path is meant, with a head in it or not
    if Path(name, "head.json").is_file() or ("/" in name and Path(name).is_dir()):
        return Path(name)
    return found.get(name)


def chosen_heads(
    selection: Selection, names: Sequence[str], say: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, Head], list[dict[str, str]]]:
    """Return the heads to score with: those named, else all that are fitted.

    A name stands for the head fitted under it; where there is none, for all its variants (``postnet`` for
    ``postnet@seed=0`` and the others, ``postnet@lr=0.01`` for all with that learning rate). A folder goes by its
    last part, or by its whole path where another head goes by that.

    Returns
    -------
    heads : dict of str to Head
    skipped : list of dict
        ``head`` and ``reason`` of those that were not named and that another version of featood wrote.

    Raises
    ------
    UsageError
        When none is named and none is fitted.
    Mismatch
        When another version of featood wrote one that is named, or all that are fitted.
    """
    found = find_heads(selection)
    if not names:
        return _all_heads(selection, found)
    wanted = dict.fromkeys(label for name in names for label in matching(found, name) or [name])
    short = {name: (Path(name).name or name) if "/" in name else name for name in wanted}
    uses = Counter(short.values())
    names_shown = {name: short[name] if uses[short[name]] == 1 else name for name in wanted}
    return {shown: get_head(selection, name, say) for name, shown in names_shown.items()}, []


def _all_heads(
    selection: Selection, found: Mapping[str, Path]
) -> tuple[dict[str, Head], list[dict[str, str]]]:
    if not found:
        where = f"{selection.backbone}/{selection.dataset}"
        raise UsageError(
            f"no head is fitted on {where} yet; fit one (featood fit knn) or name one (--head energy)"
        )
    heads: dict[str, Head] = {}
    foreign: dict[str, Mismatch] = {}
    for label, folder in found.items():
        try:
            heads[label] = load_head(folder)
        except Mismatch as error:
            foreign[label] = error
    if not heads:
        raise next(iter(foreign.values()))
    return heads, [{"head": label, "reason": str(error)} for label, error in foreign.items()]


def asked(heads: Mapping[str, Head], which: str) -> dict[str, Head]:
    """Ask heads for one of their scores by name, or for ``all``; heads with a single score stay as they are.

    Raises
    ------
    UsageError
        When no head has a score of that name.
    """
    chosen: dict[str, Head] = {}
    for label, head in heads.items():
        names = head.scores
        wanted = names if which == "all" else [which] if which in names else []
        chosen |= {f"{label}[{name}]": ask(head, name) for name in wanted} or {label: head}
    if which != "all" and not any(label.endswith(f"[{which}]") for label in chosen):
        known = sorted({name for head in heads.values() for name in head.scores})
        have = ", ".join(known) or "one each, without a name"
        raise UsageError(f"no head here has a score '{which}'; the scores are {have}")
    return chosen
