"""Keeping validation and test apart: options chosen on an out-of-distribution set are not tested on it."""

from __future__ import annotations

__all__ = ["dataset_name", "inputs_digest", "overlap", "refuse_tuned_on", "tuning_records"]

import re
from collections.abc import Mapping
from typing import Any

from featood.cache import FeatureSet, slug
from featood.errors import UsageError
from featood.heads.base.head import Head


def dataset_name(features: FeatureSet) -> str:
    """Name of the dataset that a set's rows come from."""
    return str(features.origin["data"]["dataset"]) if features.origin else features.name.split("/")[-1]


def inputs_digest(features: FeatureSet) -> str:
    """SHA-256 of the list of inputs; empty where it is not known."""
    return str(features.origin["data"].get("inputs_sha256", "")) if features.origin else ""


def overlap(first: str, second: str) -> bool:
    """Tell whether two datasets may share a distribution: the same name, unless they take other classes of it.

    Splits do not count as different sets.

    Examples
    --------
    >>> overlap("cifar100", "cifar100:0-49"), overlap("cifar100:0-49", "cifar100:50-99")
    (True, False)
    """
    (name, classes), (other, others) = _parts(first), _parts(second)
    return name == other and (classes is None or others is None or bool(classes & others))


def refuse_tuned_on(label: str, head: Head, sets: Mapping[str, FeatureSet]) -> None:
    """Refuse to test a head on the set that its options were chosen on.

    Parameters
    ----------
    label : str
        What to call the head.
    head : Head
        The head; its ``meta`` says whether and on what it was tuned.
    sets : mapping of str to FeatureSet
        The out-of-distribution sets to test on, by name.

    Raises
    ------
    UsageError
        When one of them overlaps with the validation set, by name or by content.
    """
    for tuned in tuning_records(head):
        for name, features in sets.items():
            same = bool(tuned["inputs"]) and tuned["inputs"] == inputs_digest(features)
            if same or overlap(tuned["on"], name) or overlap(tuned["on"], dataset_name(features)):
                how = "tuned" if "metric" in tuned else "trained"
                raise UsageError(
                    f"{label} was {how} on {tuned['on']}, so {name} says nothing about it; score it against "
                    "other sets, leave it out with --head, or add --force"
                )


def tuning_records(head: Head) -> list[dict[str, Any]]:
    """Return what a head, and the members of a composition, were tuned or trained on."""
    own = [] if head.record.tuned is None else [head.record.tuned]
    return [dict(record) for record in (*own, *(head.record.members_tuned or ()))]


def _parts(name: str) -> tuple[str, set[int] | None]:
    """Split a dataset's name from its classes; None where it takes all."""
    base, _, selector = name.partition(":")
    spans = [re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part) for part in selector.split(",")]
    if None in spans:
        return slug(base).lower(), None
    classes: set[int] = set()
    for span in spans:
        assert span is not None
        classes.update(range(int(span[1]), int(span[2] or span[1]) + 1))
    return slug(base).lower(), classes
