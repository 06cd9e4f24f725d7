"""Where fitted heads are kept in a cache, and how they are found again.

A head that was fitted in another way is never replaced unless the user says so: the new one is kept beside it, under a
label that names what differs.
"""

from __future__ import annotations

__all__ = [
    "FitSettings",
    "SkippedHead",
    "chosen_heads",
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

from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.files import folders_below, size_of
from featood.heads.artefacts.artefact import SUFFIXES, load_head
from featood.heads.base.head import Head
from featood.heads.registry import create_head, head_class
from featood.pipeline.selection import Selection
from featood.reporter import SILENT, Reporter


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """All that a user decides about a fit."""

    options: Mapping[str, Any]
    fit: Mapping[str, str]
    """Names of the split, and of the sets that the head learns from or is validated on."""
    fingerprint: str
    """Backbone fingerprint of the features."""

    @classmethod
    def of(cls, head: Head) -> FitSettings:
        """Read the settings of a fitted head."""
        record = head.record
        fit = record.fit or {"split": record.fitted_on.split("/")[-1]}
        return cls({"head": head.name, **head.options}, fit, record.fingerprint)

    @property
    def all(self) -> dict[str, Any]:
        """Options and sets in one mapping."""
        return {**self.options, **self.fit}

    def differing(self, other: FitSettings) -> list[str]:
        """Name what differs from another fit on the same kind of features."""
        ours, theirs = self.all, other.all
        return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


class SkippedHead(NamedTuple):
    """A head that is left out of results."""

    head: str
    reason: str


# ---- where a head goes --------------------------------------------------------------------------------


def place_in(
    root: Path,
    name: str,
    settings: FitSettings,
    defaults: Mapping[str, Any],
    *,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Choose the folder of a head in the cache.

    Parameters
    ----------
    root : Path
        Folder of the fitted heads.
    name : str
        Name of the head.
    settings : FitSettings
        How it is going to be fitted.
    defaults : mapping
        The head's options where none is given; a label names what differs from them.
    overwrite : bool
        Replace a head that was fitted in another way.
    reporter : Reporter
        Takes a line about a head that is there.
    """
    named: dict[str, Any] = {}
    label = name
    while changed := _changed(root / label, label, settings, overwrite, reporter):
        from featood.pipeline.variant_labels import variant_label

        wanted = settings.all
        named |= {
            key: value
            for key, value in wanted.items()
            if key in changed or (key in settings.options and value != defaults.get(key))
        }
        named |= {key: "none" for key in changed if key not in wanted}
        taken, label = label, variant_label(name, named)
        reporter.line(
            f"{taken} is there, fitted in another way (differing: {', '.join(changed)}); this fit is kept as {label} "
            f"(--overwrite replaces {taken})"
        )
    return root / label


def place_given(
    folder: Path,
    name: str,
    settings: FitSettings,
    *,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Return the folder that a user names for a head.

    Raises
    ------
    UsageError
        When it holds one that was fitted in another way, and `overwrite` is off.
    """
    if changed := _changed(folder, name, settings, overwrite, reporter):
        raise UsageError(
            f"{folder} holds a head that was fitted in another way (differing: {', '.join(changed)}); name another "
            "folder, or add --overwrite to replace it"
        )
    return folder


def _changed(
    folder: Path, label: str, settings: FitSettings, overwrite: bool, reporter: Reporter
) -> list[str]:
    """Name what differs from the head in a folder; empty where it is free, or what is there may be replaced."""
    try:
        there = FitSettings.of(load_head(folder))
    except DataError:
        return []
    except (CacheCorrupt, Mismatch) as error:
        reporter.line(f"{label} is fitted anew in place of one that cannot be used: {error}")
        return []
    if there.fingerprint != settings.fingerprint:
        reporter.line(f"{label} is fitted anew in place of one that was fitted on other features")
        return []
    ours = dataclasses.replace(settings, options={"head": label.partition("@")[0], **settings.options})
    changed = ours.differing(there)
    if not changed:
        reporter.line(f"{label} is there, fitted with the same options: it is fitted again")
    elif overwrite:
        reporter.line(
            f"{label} replaces one that was fitted in another way (differing: {', '.join(changed)})"
        )
        return []
    return changed


# ---- finding heads ------------------------------------------------------------------------------------


def heads_folder(selection: Selection) -> Path:
    """Return the folder of the heads that were fitted on a selection."""
    return selection.cache.heads_folder(selection.backbone, selection.dataset)


def find_heads(selection: Selection) -> dict[str, Path]:
    """Fitted heads kept in the cache, damaged or not, by the name of their folder."""
    return {
        path.name: path
        for path in folders_below(heads_folder(selection), 1)
        if any(size_of(path / f"head{suffix}") is not None for suffix in SUFFIXES)
    }


def head_folder(name: str, found: Mapping[str, Path]) -> Path | None:
    """Return the folder of a head: the folder of that name, else that in the cache; None where there is none."""
    # a folder may happen to bear a head's name; one written as a path is meant, with a head in it or not
    if Path(name, "head.json").is_file() or ("/" in name and Path(name).is_dir()):
        return Path(name)
    return found.get(name)


def get_head(selection: Selection, name: str, reporter: Reporter = SILENT) -> Head:
    """Return a head to score with: from a folder, from the cache, or new where it need not be fitted.

    A new one has the published settings for the kind of network, which the reporter takes a line about.

    Raises
    ------
    UsageError
        When it must be fitted first.
    DataError
        When the folder holds no fitted head.
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


def chosen_heads(
    selection: Selection, names: Sequence[str], reporter: Reporter = SILENT
) -> tuple[dict[str, Head], list[SkippedHead]]:
    """Return the heads to score with: those named, else all that are fitted.

    A name means the head fitted under it; where there is none, all its variants (``postnet`` means
    ``postnet@seed=0`` and the others, ``postnet@lr=0.01`` all with that learning rate). The label of a folder is its
    last part, or its whole path where another head has that label.

    Returns
    -------
    heads : dict of str to Head
    skipped : list of SkippedHead
        Those that were not named and that another version of featood wrote.

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
    wanted = dict.fromkeys(label for name in names for label in _matching(found, name))
    short = {name: (Path(name).name or name) if "/" in name else name for name in wanted}
    uses = Counter(short.values())
    labels = {name: short[name] if uses[short[name]] == 1 else name for name in wanted}
    return {label: get_head(selection, name, reporter) for name, label in labels.items()}, []


def _matching(found: Mapping[str, Path], name: str) -> list[str]:
    if name in found:
        return [name]
    from featood.pipeline.variant_labels import matching

    return matching(found, name) or [name]


def _all_heads(selection: Selection, found: Mapping[str, Path]) -> tuple[dict[str, Head], list[SkippedHead]]:
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
    return heads, [SkippedHead(label, str(error)) for label, error in foreign.items()]


def with_score(heads: Mapping[str, Head], which: str) -> dict[str, Head]:
    """Choose one of the scores of each head by name, or ``all``; heads with a single score stay as they are.

    Returns
    -------
    dict of str to Head
        A head with several scores goes by ``label[score]``.

    Raises
    ------
    UsageError
        When no head has a score of that name.
    """
    from featood.heads.base.asking import ask

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
