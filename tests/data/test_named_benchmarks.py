"""Benchmarks by name: their sets exist, and agree with the suites."""

import pytest

from featood.data import benchmark, get_entry, list_benchmarks, near_and_far
from featood.errors import UsageError


@pytest.mark.parametrize("name", list_benchmarks())
def test_every_set_is_known(name):
    one = benchmark(name)
    for each in (one.dataset, *one.sets, *one.shifted):
        entry, selector = get_entry(each), each.partition(":")[2]
        assert not selector or entry.generate is not None or selector in entry.groups
        assert not one.lists or one.lists in entry.lists
    assert len(set(one.sets)) == len(one.sets) and one.dataset not in one.sets
    if set(one.groups) == {"near", "far"}:
        grouped = near_and_far(one.dataset, one.sets)
        assert {group: tuple(names) for group, names in grouped.items()} == one.groups
    for figures in one.published.values():
        assert set(figures) == set(one.groups) and all(0 < value < 100 for value in figures.values())
    assert bool(one.network) == bool(one.published)


def test_the_versions_of_a_protocol_are_not_mixed():
    by_protocol = {name: one.protocol.title for name, one in list_benchmarks().items()}
    assert {name for name, title in by_protocol.items() if title == "OpenOOD v1"} == {"mnist-openood"}
    assert not benchmark("mnist-openood").published  # those of v1.5 are of other sets
    assert benchmark("cifar10-openood").published["knn"] == {"near": 90.64, "far": 92.96}
    folders = {name: one.lists for name, one in list_benchmarks().items() if one.lists}
    assert len(set(folders.values())) == len(folders)  # none reads the lists of another
    for one in list_benchmarks().values():
        names = {one.listed(name) for name in (one.dataset, *one.sets, *one.shifted)} if one.lists else ()
        lists = {f"{one.lists}/test_{get_entry(name).lists[one.lists]}" for name in names}
        assert not lists or {row for row in one.protocol.rows if row.startswith(f"{one.lists}/")} <= lists


def test_published_figures_are_of_heads():
    from featood.heads import list_heads

    for one in list_benchmarks().values():
        assert set(one.published) <= set(list_heads())


def test_an_unknown_benchmark():
    with pytest.raises(UsageError, match="no benchmark is named 'cifar10-opnood'; there are cifar10-openood"):
        benchmark("cifar10-opnood")
