import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from featood.cache import STORES, FeatureCache, SetWriter
from featood.cache.byte_ranges import Place, opened
from featood.cache.stores import Store, decoding
from featood.cli.root import root
from featood.errors import CacheCorrupt
from featood.testing.stateful import CacheMachine

SHORT = settings(
    max_examples=4,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FIND = settings(SHORT, max_examples=12, phases=[Phase.generate])


class Machine(CacheMachine):
    """A machine that also compares the listing of the command line with the model."""

    def listing(self):
        done = CliRunner().invoke(root, ["cache", "ls", "--json", "--cache", str(self.root)])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)


class ArrayStore(Store):
    """A third-party store: one npy file per column and block."""

    kind = "arrays"

    def write(self, block, values):
        for file, column in zip(self.files(block), self.columns, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "wb") as out:
                np.save(out, values[column])

    def locate(self, column, block):
        path = self._path(column, block)
        with opened(path) as file, decoding():
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if (shape, dtype) != (self.shape(column, block), self.columns[column].dtype):
                raise ValueError("not the rows of this block")
            return Place(path, file.tell())

    def files(self, block):
        return [self._path(column, block) for column in self.columns]

    def _path(self, column, block):
        return self.folder / column / f"{block}.npy"


def run(kind: type[CacheMachine], how: settings) -> None:
    run_state_machine_as_test(kind, settings=how)


def test_a_cache_behaves_like_a_dictionary():
    Machine.tally.clear()
    run(Machine, SHORT)
    assert len(Machine.tally) > 12, Machine.tally


@pytest.fixture
def own_stores(monkeypatch):
    for kind in ("arrays", "broken"):
        monkeypatch.setitem(STORES, kind, ArrayStore)


class Others(CacheMachine):
    stores = ("arrays",)


def test_a_third_party_store_passes_the_same_tests(own_stores):
    run(Others, settings(SHORT, max_examples=2))


def wrong_signs(self, block, values):
    ArrayStore.write(self, block, {name: column + 0 for name, column in values.items()})


def forgetful(self, block, values):
    ArrayStore.write(self, block, {name: column * (block == 0) for name, column in values.items()})


def neighbours(self, column, block, out):
    return ArrayStore.read(self, column, max(block - 1, 0), out)


@pytest.mark.parametrize(
    ("name", "method"), [("write", wrong_signs), ("write", forgetful), ("read", neighbours)]
)
def test_a_faulty_store_is_detected(own_stores, monkeypatch, name, method):
    monkeypatch.setitem(STORES, "broken", type("Broken", (ArrayStore,), {"kind": "broken", name: method}))
    with pytest.raises((AssertionError, CacheCorrupt, ExceptionGroup)):
        run(type("Machine", (CacheMachine,), {"stores": ("broken",)}), FIND)


def blind(start, content):
    return 0


def all_done(self):
    return []


def greedy(self, incomplete=False, older_than=3600.0):
    return [] if older_than else [entry.folder for entry in self.entries() if not entry.complete]


def one_short(self, entries=FeatureCache.entries):
    return entries(self)[1:]


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (SetWriter, "pending", all_done),
        (FeatureCache, "garbage", greedy),
        (FeatureCache, "entries", one_short),
    ],
)
def test_a_faulty_cache_is_detected(own_stores, monkeypatch, where, name, broken):
    monkeypatch.setattr(where, name, broken)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(Others, FIND)


def test_missing_checks_of_values_are_detected(own_stores, monkeypatch):
    monkeypatch.setattr("google_crc32c.extend", blind)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(Others, settings(FIND, max_examples=40))
