"""A search in parts of a bank finds the rows and values of a search in the whole bank."""

import pickle

import numpy as np
import pytest
import torch
from test_nearest_rows import BANK, CASES, ROWS, by_brute_force

from featood.cache import FeatureCache, import_arrays
from featood.numerics import neighbours
from featood.numerics.banks import Bank
from featood.numerics.divided_search import PartSearch, merged
from featood.numerics.neighbours import Neighbours, build_index, search


def divided(bank, queries, k, size, product=False, order=1):
    work = PartSearch(bank, queries, k, size, product)
    return merged(work(range(work.parts)[::order]), k, product)


@pytest.fixture(params=[True, False], ids=["screen", "product"])
def screen(request, monkeypatch):
    """Search every part, however small, with or without bounds."""
    real = neighbours.build_index
    monkeypatch.setattr(
        "featood.numerics.divided_search.build_index",
        lambda rows, product: real(rows, product, request.param),
    )
    return request.param


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_all_pairs_in_float64(case, product, screen):
    bank, queries = CASES[case]
    if product and case in ("huge", "outliers", "all scales", "tiny"):
        pytest.skip("products of such rows have no common scale to compare on")
    found = divided(bank, queries, 7, 64, product)
    expected = by_brute_force(bank, queries, product)[:, :7]
    scale = float(bank.double().norm(dim=1).max() * queries.double().norm(dim=1).max()) if product else 0.0
    torch.testing.assert_close(
        found.values, expected, rtol=1e-4 if case == "large offset" else 1e-6, atol=1e-7 * scale
    )


@pytest.mark.parametrize("size", [29, 64, 699, 700, 5000])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("k", [1, 10, 700])
def test_values_and_rows_are_those_of_one_search_to_the_last_bit(k, product, size, screen):
    whole = search(build_index(BANK, product, screen), ROWS, k)
    for order in (1, -1):
        found = divided(BANK, ROWS, k, size, product, order)
        assert torch.equal(found.values, whole.values) and torch.equal(found.rows, whole.rows)
        assert (found.values.dtype, found.rows.dtype) == (torch.float64, torch.int64)


@pytest.mark.parametrize("product", [True, False])
def test_of_equal_rows_the_first_is_nearest(product, screen):
    bank, queries = BANK[:50].repeat(14, 1), torch.cat([ROWS, BANK[:5]])
    whole = search(build_index(bank, product, screen), queries, 28)
    found = divided(bank, queries, 28, 50, product)  # each part has every row once
    assert torch.equal(found.values, whole.values)
    one = (
        queries.double() @ bank[:50].double().T
        if product
        else torch.cdist(queries.double(), bank[:50].double())
    )
    nearest, copies = one.argsort(1, descending=product), 50 * torch.arange(14)
    expected = torch.cat([nearest[:, :1] + copies, nearest[:, 1:2] + copies], 1)
    assert torch.equal(found.rows, expected)
    identical = divided(BANK[:1].repeat(100, 1), ROWS, 9, 30, product)
    assert (identical.values == identical.values[:, :1]).all()


def test_parts_smaller_than_k_and_banks_smaller_than_k():
    parts = [
        Neighbours(torch.tensor([[2.0, 5.0]]), torch.tensor([[4, 3]])),
        Neighbours(torch.tensor([[1.0]]), torch.tensor([[9]])),
        Neighbours(torch.tensor([[2.0, 2.0]]), torch.tensor([[7, 1]])),
    ]
    assert merged(parts, 3).rows.tolist() == [[9, 1, 4]] and merged(parts, 3).values.tolist() == [[1, 2, 2]]
    assert merged(parts, 3, product=True).rows.tolist() == [[3, 1, 4]]
    assert merged(parts[::-1], 99).rows.tolist() == [[9, 1, 4, 7, 3]]
    assert divided(BANK[:5], ROWS, 50, 2).rows.shape == (len(ROWS), 5)
    assert divided(BANK, ROWS[:0], 3, 300).values.shape == (0, 3)
    with pytest.raises(ValueError, match="at least one part"):
        merged([], 3)


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_a_bank_in_the_cache_is_read_part_by_part_by_copies_of_the_work(tmp_path, store):
    rows = np.random.default_rng(0).normal(size=(9000, 6)).astype("f2")
    bank = import_arrays(FeatureCache(tmp_path), "net/toy/train", {"avg": rows}, store=store).feature()
    queries = torch.from_numpy(rows[:40].astype("f4")) + 0.1
    work = PartSearch(bank, queries, 20, 4096)
    assert work.parts == 3
    sent = pickle.dumps(work)
    found = merged((pickle.loads(pickle.dumps(next(pickle.loads(sent)([part])))) for part in (2, 0, 1)), 20)
    whole = search(build_index(torch.from_numpy(rows)), queries, 20)
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_array_equal(found.rows, whole.rows)


def test_rows_that_are_converted_when_they_are_read():
    bank = Bank(BANK.half(), lambda rows, numbers: rows.float() + numbers[:, None] / 1000)
    found, whole = divided(bank, ROWS, 5, 128), search(build_index(bank[:]), ROWS, 5)
    assert torch.equal(found.values, whole.values) and torch.equal(found.rows, whole.rows)
