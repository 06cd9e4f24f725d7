"""Storage and lookup of fitted heads in a cache.

A fitted head is never replaced unless requested: one with other settings is stored next to it, under a label that lists
the differences, and one with the same settings on the same rows is used as it is.
"""

from __future__ import annotations

__all__ = [
    "FitSettings",
    "SkippedHead",
    "chosen_head",
    "chosen_heads",
    "existing_head",
    "find_heads",
    "get_head",
    "head_folder",
    "heads_folder",
    "place_given",
    "place_in",
    "with_score",
]

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from featood.errors import CacheCorrupt, DataError, FeatoodError, Mismatch, MissingPackage, UsageError
from featood.heads.artefacts.artefact import SUFFIXES, load_head
from featood.heads.base.head import Head
from featood.heads.registry import create_head, head_class
from featood.names import folder_name, label_of
from featood.objects import Location
from featood.pipeline.selection import Selection
from featood.pipeline.variant_labels import matching, variant_label
from featood.reporter import SILENT, Reporter
from featood.storage import each, folders_below, size_of

SOME_ROWS = ("limit", "rows_share", "rows_per_class", "rows_seed")
"""What selects some of the rows to fit on, see :class:`featood.pipeline.fitting.FitPlan`."""


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """The settings of a fit."""

    options: Mapping[str, Any]
    fit: Mapping[str, str]
    """Names of the split, and of the sets that the head learns from, or is validated or tuned on."""
    fingerprint: str
    """Backbone fingerprint of the features."""
    content: str = ""
    """Digest of the values of the rows, empty if unknown."""

    @classmethod
    def of(cls, head: Head) -> FitSettings:
        """Read the settings of a fitted head."""
        record = head.record
        fit = dict(record.fit or {"split": record.fitted_on.split("/")[-1]})
        if record.tuned and record.tuned.get("grid"):
            fit["tuned_on"] = record.tuned["on"]
        return cls({"head": head.name, **head.options}, fit, record.fingerprint, record.content)

    @property
    def all(self) -> dict[str, Any]:
        """Options and sets in one mapping."""
        return {**self.options, **self.fit}

    def differing(self, other: FitSettings) -> list[str]:
        """Return the names of the settings that differ from another fit on the same kind of features."""
        ours, theirs = self.all, other.all
        return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


class SkippedHead(NamedTuple):
    """A head that is left out of results."""

    head: str
    reason: str


# ---- storing heads ------------------------------------------------------------------------------------


def place_in(
    root: Location,
    name: str,
    settings: FitSettings,
    defaults: Mapping[str, Any],
    *,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Location:
    """Choose the folder of a head in the cache.

    Parameters
    ----------
    root : Path or ObjectPath
        Folder of the fitted heads.
    name : str
        Name of the head.
    settings : FitSettings
        The settings of the fit.
    defaults : mapping
        Default options of the head; a label lists the differences from them.
    overwrite : bool
        Replace a head that was fitted with other settings, or on other rows.
    reporter : Reporter
        Receives a line about an existing head.

    Raises
    ------
    Mismatch
        If a head of that name was fitted on other features or rows, or cannot be read by this version, and `overwrite`
        is off.
    """
    # a head fitted on some of the rows never gets the plain name
    named: dict[str, Any] = {key: value for key, value in settings.fit.items() if key in SOME_ROWS}
    label = variant_label(name, named) if named else name
    while changed := _changed(root / folder_name(label), label, settings, overwrite, reporter):
        wanted = settings.all
        named |= {
            key: value
            for key, value in wanted.items()
            if key in changed or (key in settings.options and value != defaults.get(key))
        }
        named |= {key: "none" for key in changed if key not in wanted}
        taken, label = label, variant_label(name, named)
        reporter.line(
            f"{taken} was fitted with other settings (differing: {', '.join(changed)}); this fit is stored as {label} "
            f"(--overwrite replaces {taken})"
        )
    return root / folder_name(label)


def place_given(
    folder: Location,
    name: str,
    settings: FitSettings,
    *,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Location:
    """Return the folder given by the user for a head.

    Raises
    ------
    UsageError
        If it contains a head that was fitted with other settings, and `overwrite` is off.
    Mismatch
        As :func:`place_in`.
    """
    if changed := _changed(folder, name, settings, overwrite, reporter):
        raise UsageError(
            f"{folder} holds a head that was fitted with other settings (differing: {', '.join(changed)}); choose "
            "another folder, or add --overwrite to replace it"
        )
    return folder


def _changed(
    folder: Location, label: str, settings: FitSettings, overwrite: bool, reporter: Reporter
) -> list[str]:
    """Return the settings that differ from the head in a folder; empty if there is none or it may be replaced."""
    try:
        existing = FitSettings.of(load_head(folder))
    except DataError:
        return []
    except CacheCorrupt as error:
        reporter.line(f"{label} replaces one that cannot be used: {error}")
        return []
    except Mismatch as error:
        _replace(label, f"cannot be used: {error}", overwrite, reporter)
        return []
    if existing.fingerprint != settings.fingerprint:
        _replace(label, "was fitted on other features", overwrite, reporter)
        return []
    ours = dataclasses.replace(settings, options={"head": label.partition("@")[0], **settings.options})
    changed = ours.differing(existing)
    if changed and overwrite:
        _replace(
            label, f"was fitted with other settings (differing: {', '.join(changed)})", overwrite, reporter
        )
        return []
    if not changed and settings.content != existing.content and settings.content and existing.content:
        _replace(label, "was fitted on other rows", overwrite, reporter)
    return changed


def _replace(label: str, why: str, overwrite: bool, reporter: Reporter) -> None:
    """Report that a head is replaced, if that was requested.

    Raises
    ------
    Mismatch
        Otherwise.
    """
    if not overwrite:
        raise Mismatch(
            f"there is a head {label} that {why}; add --overwrite to replace it, or choose a folder with --out"
        )
    reporter.line(f"{label} replaces one that {why}")


def existing_head(folder: Location) -> Head | None:
    """Return the head in a folder, or None if there is none that can be used."""
    try:
        return load_head(folder)
    except (DataError, CacheCorrupt, Mismatch):
        return None


# ---- finding heads ------------------------------------------------------------------------------------


def heads_folder(selection: Selection) -> Location:
    """Return the folder of the heads that were fitted on a selection."""
    return selection.cache.heads_folder(selection.backbone, selection.dataset)


def find_heads(selection: Selection) -> dict[str, Location]:
    """Return the fitted heads in the cache, damaged or not, by label."""
    folders = folders_below(heads_folder(selection), 1)
    there = each(heads_folder(selection), _has_head, folders)
    return {label_of(path.name): path for path, found in zip(folders, there, strict=True) if found}


def _has_head(folder: Location) -> bool:
    return any(size_of(folder / f"head{suffix}") is not None for suffix in SUFFIXES)


def head_folder(name: str, found: Mapping[str, Location]) -> Location | None:
    """Return the folder of a head: the folder of that name, else the one in the cache, or None."""
    # a folder may have the same name as a head; a name written as a path always means the folder
    if Path(name, "head.json").is_file() or ("/" in name and Path(name).is_dir()):
        return Path(name)
    return found.get(name)


def get_head(selection: Selection, name: str, reporter: Reporter = SILENT) -> Head:
    """Return a head for scoring: from a folder, from the cache, or a new one if it needs no fit.

    A new head has the published settings for the kind of network, which are reported.

    Raises
    ------
    UsageError
        If it must be fitted first.
    DataError
        If the folder contains no fitted head.
    """
    folder = head_folder(name, find_heads(selection))
    if folder is not None:
        return load_head(folder)
    cls = head_class(name)
    if cls.card.learns:
        where = f"{selection.backbone}/{selection.dataset}"
        raise UsageError(f"{name} has not been fitted on {where}; fit it with featood fit {name}")
    if not cls.presets:
        return create_head(name)
    from featood.pipeline.presets import choose_preset

    preset, settings = choose_preset(name, selection.open(next(iter(selection.entries))))
    if settings:
        reporter.line(settings)
    return create_head(name, preset)


def chosen_head(selection: Selection, name: str, reporter: Reporter = SILENT) -> tuple[str, Head]:
    """Return the label of a fitted head by name, and the head.

    Raises
    ------
    UsageError
        If there is none, or several variants of it.
    """
    heads, _ = chosen_heads(selection, [name], reporter)
    if len(heads) > 1:
        raise UsageError(f"{name} could be {' or '.join(heads)}; name one of them")
    (found,) = heads.items()
    return found


def chosen_heads(
    selection: Selection, names: Sequence[str], reporter: Reporter = SILENT
) -> tuple[dict[str, Head], list[SkippedHead]]:
    """Return the heads for scoring: those named, by default all fitted heads.

    A name means the head stored under it, or, if there is none, all its variants (``postnet`` means
    ``postnet@seed=0`` and the others, ``postnet@lr=0.01`` all with that learning rate). The label of a folder is its
    last component, or its full path if another head has that label.

    Returns
    -------
    heads : dict of str to Head
    skipped : list of SkippedHead
        Heads that were not named and were written by another version of featood, or need a library that is missing.

    Raises
    ------
    UsageError
        If none is named and none is fitted.
    Mismatch
        If a named head, or all fitted heads, were written by another version of featood.
    """
    found = find_heads(selection)
    if not names:
        return _all_heads(selection, found)
    wanted = dict.fromkeys(label for name in names for label in _matching(found, name))
    short = {name: (Path(name).name or name) if "/" in name else name for name in wanted}
    uses = Counter(short.values())
    labels = {name: short[name] if uses[short[name]] == 1 else name for name in wanted}
    return {label: get_head(selection, name, reporter) for name, label in labels.items()}, []


def _matching(found: Mapping[str, Location], name: str) -> list[str]:
    if name in found:
        return [name]
    return matching(found, name) or [name]


def _all_heads(
    selection: Selection, found: Mapping[str, Location]
) -> tuple[dict[str, Head], list[SkippedHead]]:
    if not found:
        where = f"{selection.backbone}/{selection.dataset}"
        raise UsageError(
            f"no head is fitted on {where} yet; fit one (featood fit knn) or name one (--head energy)"
        )
    heads: dict[str, Head] = {}
    foreign: dict[str, FeatoodError] = {}
    for label, folder in found.items():
        try:
            heads[label] = load_head(folder)
        except (Mismatch, MissingPackage) as error:
            foreign[label] = error
    if not heads:
        raise next(iter(foreign.values()))
    return heads, [SkippedHead(label, str(error)) for label, error in foreign.items()]


def with_score(heads: Mapping[str, Head], which: str) -> dict[str, Head]:
    """Select one of the scores of each head by name, or ``all``; heads with a single score are unchanged.

    Returns
    -------
    dict of str to Head
        Heads with several scores are labelled ``label[score]``.

    Raises
    ------
    UsageError
        If no head has a score of that name.
    """
    from featood.heads.base.asking import ask

    chosen: dict[str, Head] = {}
    for label, head in heads.items():
        names = head.scores
        wanted = names if which == "all" else [which] if which in names else []
        chosen |= {f"{label}[{name}]": ask(head, name) for name in wanted} or {label: head}
    if which != "all" and not any(label.endswith(f"[{which}]") for label in chosen):
        known = sorted({name for head in heads.values() for name in head.scores})
        have = ", ".join(known) or "unnamed, one per head"
        raise UsageError(f"none of the heads has a score '{which}'; the scores are {have}")
    return chosen
