"""Columns that read on demand hold what NumPy's indexing of the whole column gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cache import KEY, make_rows, write_all

from featood.cache.columns import ChosenRows, JoinedColumn

ROWS = 300
INDICES = st.one_of(
    st.slices(ROWS),
    st.integers(-ROWS, ROWS - 1),
    st.lists(st.integers(-ROWS, ROWS - 1), min_size=1, max_size=9),
)
PLAIN = np.arange(2 * ROWS).reshape(ROWS, 2)


def agree(column, whole, rows):
    assert column.shape == whole.shape and column.dtype == whole.dtype
    np.testing.assert_array_equal(column[rows], whole[rows])


@settings(deadline=None)
@given(INDICES)
def test_chosen_rows(rows):
    chosen = np.flatnonzero(np.arange(2 * ROWS) % 2)
    whole = np.arange(4 * ROWS).reshape(2 * ROWS, 2)
    agree(ChosenRows(whole, chosen), whole[chosen], rows)


@settings(deadline=None)
@given(INDICES, st.integers(0, ROWS))
def test_joined_columns(rows, first):
    agree(JoinedColumn(PLAIN[:first], PLAIN[first:]), PLAIN, rows)


def test_joined_columns_have_rows_of_one_shape():
    for other in (None, PLAIN[:, :1]):
        with pytest.raises(ValueError, match="differ in the shape"):
            JoinedColumn(PLAIN, other)


@pytest.mark.parametrize("failed", [(), (0, 17, 255, 256)])
def test_stored_columns(tmp_path, failed):
    rows = make_rows(ROWS)
    stored = write_all(tmp_path, "hdf5", rows, failed)[KEY].features["avg"]
    whole = np.delete(rows["avg"], failed, 0)

    @settings(deadline=None)
    @given(st.one_of(st.slices(len(whole)), st.integers(-len(whole), len(whole) - 1)))
    def check(wanted):
        agree(stored, whole, wanted)

    check()
