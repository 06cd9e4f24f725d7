"""Selecting another score of a fitted head."""

from __future__ import annotations

__all__ = ["ask"]

import dataclasses
from typing import Any

from featood.errors import UsageError
from featood.heads.base.fit import Fit
from featood.heads.base.head import Head


def ask(head: Head, which: str) -> Head:
    """Return a fitted head that computes another of its scores, without refitting.

    Raises
    ------
    UsageError
        If the head has no score of that name.
    NotFitted
        If the head is not fitted.
    """
    names = head.scores
    if which not in names:
        have = f"it has {', '.join(names)}" if names else "it has one score only"
        raise UsageError(f"{head.name} has no score '{which}' ({have})")
    options: Any = {"which": which}
    other = dataclasses.replace(head, **options)
    return other.adopt(Fit(head.state, head.record, head.device, head.saved))
