"""Where a fitted head goes when the place is taken: nothing that was fitted in another way is replaced unasked."""

from __future__ import annotations

__all__ = ["Settings", "place_given", "place_in"]

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.heads import load_head
from featood.pipeline.variant_labels import variant_label

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a user decides about a fit."""

    options: Mapping[str, Any]
    fit: Mapping[str, str]
    """The split, and the sets it learns from or is validated on."""
    fingerprint: str
    """Of the features."""

    @property
    def all(self) -> dict[str, Any]:
        """Options and sets in one mapping."""
        return {**self.options, **self.fit}

    def differing(self, other: Settings) -> list[str]:
        """Name what differs from another fit on the same kind of features."""
        ours, theirs = self.all, other.all
        return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


def place_in(
    root: Path, name: str, settings: Settings, usual: Mapping[str, Any], overwrite: bool, say: Say
) -> Path:
    """Choose the folder for a head in the cache, and say what happens to one that is there.

    Parameters
    ----------
    root : Path
        Folder of the fitted heads.
    name : str
        Name of the head.
    settings : Settings
        How it is going to be fitted.
    usual : mapping
        The head's options where none is given; a label names what differs from them.
    overwrite : bool
        Replace what was fitted in another way.
    say : callable
        Takes one line about what is there.
    """
    named: dict[str, Any] = {}
    label = name
    while changed := _changed(root / label, label, settings, overwrite, say):
        wanted = settings.all
        named |= {
            key: value
            for key, value in wanted.items()
            if key in changed or (key in settings.options and value != usual.get(key))
        }
        named |= {key: "none" for key in changed if key not in wanted}
        taken, label = label, variant_label(name, named)
        say(
            f"{taken} is there, fitted in another way (differing: {', '.join(changed)}); this fit is kept as {label} "
            f"(--overwrite replaces {taken})"
        )
    return root / label


def place_given(folder: Path, name: str, settings: Settings, overwrite: bool, say: Say) -> Path:
    """Return the folder that a user names for a head.

    Raises
    ------
    UsageError
        When it holds one that was fitted in another way, and `overwrite` is off.
    """
    if changed := _changed(folder, name, settings, overwrite, say):
        raise UsageError(
            f"{folder} holds a head that was fitted in another way (differing: {', '.join(changed)}); name another "
            "folder, or add --overwrite to replace it"
        )
    return folder


def _changed(folder: Path, label: str, settings: Settings, overwrite: bool, say: Say) -> list[str]:
    """Name what differs from the head in a folder; nothing where it is free, or what is there may be replaced."""
    try:
        head = load_head(folder)
    except DataError:
        return []
    except (CacheCorrupt, Mismatch) as error:
        say(f"{label} is fitted anew in place of one that cannot be used: {error}")
        return []
    record = head.record
    there = Settings(
        {"head": head.name, **head.options},
        record.fit or {"split": record.fitted_on.split("/")[-1]},
        record.fingerprint,
    )
    ours = dataclasses.replace(settings, options={"head": label.partition("@")[0], **settings.options})
    if there.fingerprint != settings.fingerprint:
        say(f"{label} is fitted anew in place of one that was fitted on other features")
        return []
    changed = ours.differing(there)
    if not changed:
        say(f"{label} is there, fitted with the same options: it is fitted again")
    elif overwrite:
        say(f"{label} replaces one that was fitted in another way (differing: {', '.join(changed)})")
        return []
    return changed
