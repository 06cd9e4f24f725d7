"""The engine ray on a cluster of this machine."""

import dataclasses

import numpy as np
import pytest
from engine_jobs import KEY, ROWS, extracted, fitted, store_rows

from featood.cache import FeatureCache
from featood.engines import open_engine
from featood.errors import DataError, UsageError
from featood.heads import create_head

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def engine():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    with open_engine("ray") as engine:
        yield engine
    assert ray.is_initialized()  # a cluster that others have started stays
    ray.shutdown()


def test_extraction_fits_and_scores_are_those_of_one_process_to_the_last_bit(tmp_path, engine):
    one, other = tmp_path / "one", tmp_path / "other"
    extracted(one)
    reports, resumed = extracted(other, engine)
    assert reports[0] == resumed == 0 and reports[-1] == ROWS and reports == sorted(reports)
    sets = [FeatureCache(folder)[KEY] for folder in (one, other)]
    assert sets[0].content == sets[1].content and FeatureCache(other).verify(KEY) == []
    store_rows(one)
    local, remote = fitted(one), fitted(one, engine)
    assert local.keys() == remote.keys()
    for name, values in local.items():
        assert values.numpy().tobytes() == remote[name].numpy().tobytes(), name
    assert b"1 rows hold NaN" in bytes(remote["cosine.notes"].tolist())


def test_an_error_of_a_block_is_that_of_one_process(tmp_path, engine):
    store_rows(tmp_path)
    data = FeatureCache(tmp_path)["rows/rows/train"]
    rows = data.features["avg"][:].copy()
    rows[9000, 2] = np.inf
    head = create_head("mahalanobis").fit(data)
    with pytest.raises(DataError, match="first: row 9000") as found:
        head.score(dataclasses.replace(data, features={"avg": rows}), engine=engine)
    assert "\n" not in str(found.value)


def test_tasks_that_fit_no_machine_are_refused(engine):
    with pytest.raises(UsageError, match="no machine of the Ray cluster has"):
        open_engine("ray", gpus=0.5).__enter__()
