"""Leakage: heads are not tested on out-of-distribution sets that they were fitted or tuned on."""

from __future__ import annotations

__all__ = ["SeenOutliers", "dataset_name", "overlap", "refuse_seen", "seen_outliers"]

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featood.cache.feature_cache import slug
from featood.cache.feature_set import FeatureSet
from featood.data.selection import split_limit
from featood.errors import UsageError

if TYPE_CHECKING:
    from featood.heads.base.head import Head


@dataclasses.dataclass(frozen=True)
class SeenOutliers:
    """An out-of-distribution set that a head was fitted or tuned on, and on which it must not be tested."""

    on: str
    """Name of the dataset."""
    inputs: str = ""
    """SHA-256 of its list of inputs; empty if unknown."""
    validated_on: str | None = None
    """In-distribution rows on which options were chosen."""
    test_ood: tuple[str, ...] | None = None
    """Test sets named when options were chosen."""
    metric: str | None = None
    """Metric by which options, or the state of a training, were chosen; None if the head learned from the set."""
    value: float | None = None
    """Value of the metric for the chosen options."""
    grid: Mapping[str, list[Any]] | None = None
    """Values that were tried, by option."""

    @classmethod
    def of(cls, features: FeatureSet, **facts: Any) -> SeenOutliers:
        """Record a set by its name and the digest of its inputs."""
        return cls(dataset_name(features), features.inputs_sha256, **facts)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SeenOutliers:
        """Read the record of a fitted head."""
        known = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: record[name] for name in known if name in record})

    def as_json(self) -> dict[str, Any]:
        """Return the record for the artefact of a head."""
        body = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        body["test_ood"] = None if self.test_ood is None else list(self.test_ood)
        return {name: value for name, value in body.items() if value is not None}

    @property
    def note(self) -> str:
        """Note for readers of the head's results."""
        what = (
            "outliers came from"
            if self.metric is None
            else "state was chosen on"
            if self.grid is None
            else "options were chosen on"
        )
        return f"{what} {self.on}: results are OOD-validated"


def dataset_name(features: FeatureSet) -> str:
    """Return the name of the dataset of a set."""
    return features.origin.dataset if features.origin else features.name.split("/")[-1]


def overlap(first: str, second: str) -> bool:
    """Return whether two datasets overlap: they have the same name, and no disjoint lists of classes.

    Different splits of a dataset overlap.

    Examples
    --------
    >>> overlap("cifar100", "cifar100:0-49"), overlap("cifar100:0-49", "cifar100:50-99")
    (True, False)
    >>> overlap("cifar10:known=6,seed=1", "cifar10:unknown=4,seed=1")
    False
    """
    (name, classes), (other, others) = _parts(first), _parts(second)
    return name == other and (classes is None or others is None or bool(classes & others))


def refuse_seen(label: str, head: Head, sets: Mapping[str, FeatureSet]) -> None:
    """Raise if a head is to be tested on a set that it learned from, or on which its options were chosen.

    Parameters
    ----------
    label : str
        Name of the head in the message.
    head : Head
        The head.
    sets : mapping of str to FeatureSet
        The out-of-distribution sets to test on, by name.

    Raises
    ------
    UsageError
        If one of them overlaps with such a set, by name or by content.
    """
    for seen in seen_outliers(head):
        for name, features in sets.items():
            same = bool(seen.inputs) and seen.inputs == features.inputs_sha256
            if same or overlap(seen.on, name) or overlap(seen.on, dataset_name(features)):
                how = "trained" if seen.metric is None else "tuned"
                raise UsageError(
                    f"{label} was {how} on {seen.on}, so {name} is no valid test; score it against other sets, "
                    "leave it out with --head, or add --force"
                )


def seen_outliers(head: Head) -> list[SeenOutliers]:
    """Return the out-of-distribution sets that a head, or a member of a composition, was fitted or tuned on."""
    own = [] if head.record.tuned is None else [head.record.tuned]
    return [SeenOutliers.from_json(record) for record in (*own, *(head.record.members_tuned or ()))]


def _parts(name: str) -> tuple[str, set[int] | None]:
    """Split a dataset's name into base name and classes; None stands for all classes."""
    base, _, selector = str(split_limit(name)[0]).partition(":")
    spans = [re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part) for part in selector.split(",")]
    if None in spans:
        return slug(base).lower(), _classes(base, selector) if selector else None
    classes: set[int] = set()
    for span in spans:
        assert span is not None
        classes.update(range(int(span[1]), int(span[2] or span[1]) + 1))
    return slug(base).lower(), classes


def _classes(base: str, selector: str) -> set[int] | None:
    """Return the classes of a selector that is not a list of numbers, or None if they are unknown."""
    from featood.data import get_entry
    from featood.data.selection import selected_classes

    try:
        entry = get_entry(base)
        chosen = selected_classes(base, selector, entry.num_classes, entry.groups)
    except UsageError:
        return None
    return set(chosen.nonzero()[0].tolist())
