import functools

import faiss
import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from featood.numerics import neighbours, screens
from featood.numerics.approximate_neighbours import build_approximate_index, recall, search_approximately
from featood.numerics.banks import Bank
from featood.numerics.neighbours import build_index, compared, dense_search, search

N, D, B = 700, 40, 30


@functools.cache
def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scales(count, seed):
    return 10.0 ** torch.randint(-15, 15, (count, 1), generator=torch.Generator().manual_seed(seed))


BANK, ROWS = drawn(N, D), drawn(B, D, seed=1)
CASES = {
    "plain": (BANK, ROWS),
    "one feature": (BANK[:, :1], ROWS[:, :1]),
    "duplicates": (BANK[:50].repeat(14, 1), torch.cat([ROWS, BANK[:5]])),
    "identical": (BANK[:1].repeat(100, 1), torch.cat([ROWS, BANK[:1]])),
    "zeros": (torch.cat([BANK, torch.zeros(300, D)]), torch.cat([ROWS, torch.zeros(3, D)])),
    "only zeros": (torch.zeros(100, D), torch.cat([ROWS, torch.zeros(1, D)])),
    "huge": (BANK * 1e30, ROWS * 1e30),
    "tiny": (BANK * 1e-38, ROWS * 1e-38),
    "offset": (BANK + 4096, ROWS + 4096),
    "large offset": (BANK + 1e6, ROWS + 1e6),
    "two distant clusters": tuple(
        torch.cat([rows * 1e-3 + 1e3, rows * 1e-3 - 1e3]) for rows in (BANK, ROWS)
    ),
    "outliers": (torch.cat([BANK, BANK[:3] * 1e10]), torch.cat([ROWS, ROWS[:2] * 1e10])),
    "all scales": (BANK * scales(N, 0), ROWS * scales(B, 1)),
    "sorted": (BANK[BANK.norm(dim=1).argsort(descending=True)], 1e-3 * ROWS),
    "float64": (BANK.double(), ROWS.double()),
    "float16": (BANK.half(), ROWS),
    "bfloat16": (BANK.bfloat16(), ROWS),
}  # fmt: skip


def by_brute_force(bank, rows, product):
    bank, rows = bank.double(), rows.double()
    values = rows @ bank.T if product else torch.stack([(bank - row).norm(dim=1) for row in rows])
    return values.sort(1, descending=product).values


@pytest.mark.parametrize("screen", [True, False])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_equals_brute_force_in_float64(case, product, screen, monkeypatch):
    bank, rows = CASES[case]
    expected = by_brute_force(bank, rows, product)
    # distances have a relative error, products one relative to the norms
    size = rows.double().norm(dim=1, keepdim=True) * bank.double().norm(dim=1).amax() if product else expected
    for bank_rows, k in ((61_440, 1), (61_440, 50), (61_440, len(bank)), (97, 5)):
        monkeypatch.setattr(screens, "BANK_ROWS", bank_rows)
        found = search(build_index(bank, product, screen), rows, k)
        bound = 1e-12 * size if product and screen else 1e-6 * size if not screen else 2e-7 * size
        bound = bound.expand_as(expected)[:, :k]
        assert ((found.values - expected[:, :k]).abs() <= bound).all()
        again = compared(build_index(bank, product, False), rows.to(torch.float32), found.rows)
        assert torch.equal(found.values, again.values) or bank.dtype == torch.float64
        assert all(len(set(row)) == k for row in found.rows.tolist())


@pytest.mark.parametrize("k", [1, 20])
def test_agrees_with_scikit_learn_and_faiss(k):
    bank, rows = drawn(3000, 96).relu(), drawn(300, 96, seed=1).relu()
    found = search(build_index(bank, screen=True), rows, k)
    distances, numbers = (
        NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank.double()).kneighbors(rows.double())
    )
    np.testing.assert_allclose(found.values, distances, rtol=1e-6)
    np.testing.assert_array_equal(found.rows, numbers)
    squared, numbers = faiss.knn(rows.numpy(), bank.numpy(), k)
    np.testing.assert_allclose(found.values.square(), squared, rtol=1e-5)
    products = faiss.knn(rows.numpy(), bank.numpy(), k, faiss.METRIC_INNER_PRODUCT)[0]
    np.testing.assert_allclose(search(build_index(bank, True, True), rows, k).values, products, rtol=1e-5)


def violations(bank, rows, product):
    """Count pairs whose bound is above the limit of their own value, so that they could be excluded."""
    screen = screens.build_screen(bank, product)
    extended, limit_of = screens._extended(screen, rows)
    bounds = screens._bounds(extended, screen.rows, 1).flatten(1)[:, : len(bank)]
    bank, rows = bank.double(), rows.double()
    exact = -(rows @ bank.T) if product else torch.stack([(bank - row).norm(dim=1) for row in rows])
    limits = torch.stack([limit_of(column) for column in exact.T], 1)
    return int(((bounds > limits) & (exact != 0)).sum())


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_bounds_hold_for_every_pair(case, product, monkeypatch):
    assert violations(*CASES[case], product) == 0
    if case == "plain":  # but not without the terms for the rounding of the rows
        monkeypatch.setattr(screens, "UP", 0)
        assert violations(*CASES[case], product) > 1000


def test_few_pairs_are_compared(monkeypatch):
    pairs = []
    values = neighbours._values
    monkeypatch.setattr(
        neighbours,
        "_values",
        lambda index, rows, query, row: pairs.append(len(row)) or values(index, rows, query, row),
    )
    search(build_index(drawn(4000, 128), screen=True), drawn(100, 128, seed=1), 10)
    assert 1000 <= sum(pairs) < 100 * 40


def test_no_queries():
    for screen in (True, False):
        found = search(build_index(BANK, screen=screen), ROWS[:0], 3)
        assert found.values.shape == found.rows.shape == (0, 3)


@pytest.mark.parametrize("has", [True, False])
def test_the_screen_depends_on_processor_and_size(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has}, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    screened = [
        build_index(torch.zeros(shape)).screen is not None for shape in ((9000, 128), (9000, 4), (100, 128))
    ]
    assert screened == [has, False, False]
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not screens.has_bfloat16()


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_dense_search_in_parts(k, product, monkeypatch):
    monkeypatch.setattr(neighbours, "BANK_ROWS", 11)
    rows, bank = drawn(9, 4).double(), drawn(30, 4, seed=1).double()
    values = -(rows @ bank.T) if product else torch.cdist(rows, bank)
    found = dense_search(rows, bank, k, product)
    assert found.rows.tolist() == values.argsort(1)[:, :k].tolist()
    np.testing.assert_allclose(found.values, by_brute_force(bank, rows, product)[:, :k], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("screen", [True, False])
def test_a_search_in_a_graph_equals_brute_force(case, product, screen, monkeypatch):
    bank, rows = CASES[case]
    index = build_index(bank, product, screen)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    found = search(index, rows, 5)
    expected = by_brute_force(bank, rows, product)[:, :5]
    if product:
        size = rows.double().norm(dim=1, keepdim=True) * bank.double().norm(dim=1).amax()
        assert ((found.values - expected).abs() <= 1e-12 * size).all()
    else:
        size = (rows.double() - bank.double().mean(0)).norm(dim=1, keepdim=True)
        error = 1e-6 * expected.square() + 1e-14 * size.square()
        assert ((found.values.square() - expected.square()).abs() <= error).all()
        if not case.startswith("two"):  # equal rows are at the distance 0, not that of a rounding error
            assert (found.values[expected == 0] == 0).all()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_finds_most(kind):
    bank, rows = drawn(2000, 16), drawn(200, 16, seed=1)
    exact = by_brute_force(bank, rows, False)[:, :5]
    narrow, wide = (
        search_approximately(build_approximate_index(kind, bank, breadth), build_index(bank), rows, 5).values
        for breadth in (1, 1000)
    )
    assert (narrow >= exact * (1 - 1e-6)).all() and (narrow > exact * 1.01).any()
    np.testing.assert_allclose(wide.mean(), exact.mean(), rtol=1e-3)
    assert recall(build_approximate_index(kind, bank, 1), bank, 5) < 0.95
    assert recall(build_approximate_index(kind, bank, 1000), bank, 5) > 0.99


def test_lists_with_too_few_rows_are_searched_exactly():
    bank = torch.cat([drawn(200, 3), drawn(200, 3, seed=1) + 100])
    index = build_approximate_index("ivf", bank, 1)
    found = search_approximately(index, build_index(bank), bank[:5], 300)
    np.testing.assert_allclose(found.values, by_brute_force(bank, bank[:5], False)[:, :300], rtol=1e-6)


@pytest.mark.parametrize("screen", [True, False])
@pytest.mark.parametrize("product", [True, False])
def test_rows_that_are_converted_when_they_are_read(product, screen, monkeypatch):
    monkeypatch.setattr(neighbours, "BANK_ROWS", 300)
    weights, center = drawn(N, seed=2).abs(), drawn(D, seed=3)
    bank = Bank(BANK.half(), lambda rows, numbers: rows.float() * weights[numbers, None] - center)
    whole = BANK.half().float() * weights[:, None] - center
    assert torch.equal(bank[5:90:7], whole[5:90:7]) and torch.equal(torch.cat(list(bank.split(64))), whole)
    found = search(build_index(bank, product, screen), ROWS, 9)
    expected = by_brute_force(whole, ROWS, product)[:, :9]
    np.testing.assert_allclose(found.values, expected, rtol=1e-6, atol=1e-6)
    again = search(build_index(whole, product, screen), ROWS, 9)
    assert torch.equal(found.rows, again.rows) and torch.equal(found.values, again.values)
