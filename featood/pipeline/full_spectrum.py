"""Full-spectrum detection: sets with the classes of the in-distribution set, but shifted, count as in-distribution.

Yang et al., Full-Spectrum Out-of-Distribution Detection, IJCV 2023; OpenOOD v1.5 (Zhang et al., 2023).
"""

from __future__ import annotations

__all__ = ["numbered_as", "refuse_overlap", "shifted_names"]

import dataclasses
from collections.abc import Iterable

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.pipeline.leakage import overlap


def shifted_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Replace suites such as ``imagenet-shifted`` by their sets.

    Returns
    -------
    named, listed : list of str
        Sets given by name, and those of suites.

    Raises
    ------
    UsageError
        If a suite lists out-of-distribution sets.
    """
    from featood.data.catalogue.suites import list_suites, suite

    named, listed = [], []
    for name in names:
        if name not in list_suites():
            named.append(name)
        elif name.endswith("-shifted"):
            listed += suite(name)
        else:
            raise UsageError(
                f"{name} lists out-of-distribution sets; --shifted takes sets with the classes of the in-distribution "
                "set, or a list of them such as imagenet-shifted"
            )
    return named, listed


def refuse_overlap(id_name: str, shifted: Iterable[str], outliers: Iterable[str]) -> None:
    """Raise if a shifted set is the in-distribution set, or is also scored as out-of-distribution.

    Raises
    ------
    UsageError
    """
    others = list(outliers)
    for name in shifted:
        if overlap(name, id_name):
            raise UsageError(
                f"{name} is the in-distribution set itself; --shifted takes other sets of its classes, such as "
                "cifar10-c"
            )
        if same := [other for other in others if overlap(name, other)]:
            raise UsageError(
                f"{name} cannot be both in-distribution (--shifted) and out-of-distribution ({same[0]}); omit one"
            )


def numbered_as(test: FeatureSet, features: FeatureSet) -> FeatureSet:
    """Return a shifted set with the class numbers of the in-distribution set.

    Classes are matched by name; the first words suffice, as in ``n01440764 tench``. Labels without names, or with
    numbers as names, are class numbers already. Labels of other classes are left out.

    Parameters
    ----------
    test : FeatureSet
        The in-distribution set.
    features : FeatureSet
        The shifted set.
    """
    if features.labels is None or (labels := np.asarray(features.labels[:])).max(initial=-1) < 0:
        return features
    numbers = _class_numbers(test, features.classes, labels)
    if numbers is None or labels.max() >= len(numbers):
        return dataclasses.replace(features, labels=None, classes=())
    renumbered = np.where(labels >= 0, numbers[labels.clip(0)], -1)
    return dataclasses.replace(features, labels=renumbered, classes=test.classes)


def _class_numbers(test: FeatureSet, names: tuple[str, ...], labels: np.ndarray) -> np.ndarray | None:
    """Return the number in the in-distribution set of each class of a shifted set; None if they cannot be matched."""
    count = len(test.classes) or test.num_classes or int(labels.max()) + 1
    numbered = list(names) == list(map(str, range(len(names))))
    if numbered or names == test.classes or (not test.classes and len(names) == count):
        return np.arange(count)
    if not test.classes:
        return None
    from featood.extractors.backbones.class_names import align_classes

    return align_classes(names, [(name.split() or [""])[0] for name in test.classes], test.classes)
