"""Tests for features that do not exist yet: remote stores, several ranks, a machine with Windows."""

import pytest

REMOTE = pytest.mark.skip(reason="needs remote stores; currently their URLs are refused (test_names.py)")
RANKS = pytest.mark.skip(
    reason="needs extraction by several ranks; currently there is one process with workers (test_data_changes.py)"
)
WINDOWS = pytest.mark.skip(
    reason="needs a machine with Windows; currently its limits are simulated (test_file_operations.py)"
)


@REMOTE
@pytest.mark.parametrize("fault", ["503", "slow", "partial PUT", "delayed listing", "retried PUT"])
def test_faults_of_a_remote_store_are_handled_like_those_of_a_disk(fault):
    raise NotImplementedError


@REMOTE
def test_two_writers_of_a_remote_set_create_each_object_once():
    raise NotImplementedError


@RANKS
def test_the_blocks_of_a_failed_rank_are_written_by_the_next_run():
    raise NotImplementedError


@RANKS
@pytest.mark.parametrize("sizes", [(3, 2), (2, 3), (4, 1)])
def test_resumption_with_another_number_of_ranks_writes_every_row_once(sizes):
    raise NotImplementedError


@WINDOWS
@pytest.mark.parametrize("path", ["C:\\cache", "\\\\host\\share", "C:\\" + 300 * "x"])
def test_paths_of_windows(path):
    raise NotImplementedError
