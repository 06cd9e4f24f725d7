"""Requirements of features that do not exist yet: remote stores, several ranks, tests on Windows."""

import pytest

REMOTE = pytest.mark.skip(
    reason="remote stores are not implemented; their addresses are refused (test_names.py)"
)
RANKS = pytest.mark.skip(
    reason="extraction by several ranks is not implemented; one process with workers is (test_data_changes.py)"
)
WINDOWS = pytest.mark.skip(
    reason="needs Windows; tests without the modules that it lacks are in test_file_operations.py"
)


@REMOTE
@pytest.mark.parametrize("fault", ["503", "slow", "half of a PUT", "a listing that lags", "a retry of a PUT"])
def test_errors_of_a_remote_store_are_handled_like_disk_errors(fault):
    raise NotImplementedError


@REMOTE
def test_two_writers_of_a_remote_set_create_each_object_once():
    raise NotImplementedError


@RANKS
def test_the_blocks_of_a_dead_rank_are_computed_by_the_next_run():
    raise NotImplementedError


@RANKS
@pytest.mark.parametrize("sizes", [(3, 2), (2, 3), (4, 1)])
def test_another_number_of_ranks_resumes_and_every_row_occurs_once(sizes):
    raise NotImplementedError


@WINDOWS
@pytest.mark.parametrize("path", ["C:\\cache", "\\\\host\\share", "C:\\" + 300 * "x"])
def test_windows_paths(path):
    raise NotImplementedError
