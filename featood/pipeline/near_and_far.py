"""Which out-of-distribution sets are near the in-distribution set and which are far, as published suites say."""

from __future__ import annotations

__all__ = ["near_and_far"]

from collections.abc import Iterable, Sequence


def near_and_far(id_name: str, outliers: Iterable[str], suites: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the names of the near and of the far sets.

    Parameters
    ----------
    id_name : str
        Name of the in-distribution set, which selects the suites, such as ``cifar10-near``.
    outliers : iterable of str
        Names of out-of-distribution sets.
    suites : sequence of str
        Further suites, whose names end in ``-near`` or ``-far``; they have priority.

    Examples
    --------
    >>> near_and_far("cifar10", ["textures", "cifar100", "photos"])
    {'near': ['cifar100'], 'far': ['textures']}
    """
    from featood.data.images.suites import list_suites, suite

    known = list_suites()
    groups: dict[str, list[str]] = {"near": [], "far": []}
    for name in outliers:
        for listed in (*suites, f"{id_name}-near", f"{id_name}-far"):
            kind = listed.rpartition("-")[2]
            if kind in groups and listed in known and name in suite(listed):
                groups[kind].append(name)
                break
    return groups
