"""The run of another library's tests: what counts as passed, failed, explained and skipped."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peer_suite.py"
TESTS = {
    "tests/detectors/test_names.py": """
import unittest
import torch
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.detector import MaxLogit
from src.pytorch_ood.metrics import functional as F

class Own(Benchmark):
    pass

class TestNames(unittest.TestCase):
    def test_names_are_those_of_featood(self):
        assert MaxLogit.__module__ == "featood.detectors.logits"
        assert F.auroc(torch.tensor([0.0, 1.0]), torch.tensor([0, -1])) == 1

    def test_wrong(self):
        assert MaxLogit(None).predict_logits(torch.zeros(2, 3)).shape == (3,)

    def test_any_error(self):
        with self.assertRaises(Exception):
            Own()

    @unittest.skip("for a reason")
    def test_skipped(self):
        pass
""",
    "tests/detectors/test_vim.py": "def test_logits():\n    assert False\n",
    "tests/test_broken.py": "from pytorch_ood.utils import no_such_function as f\nf()\n\ndef test_never():\n    pass\n",
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer")
    for name, text in TESTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_outcomes_are_counted_by_file(printed):
    rows = {
        line.split()[0]: line.split()[1:]
        for line in printed.splitlines()
        if line.startswith(("tests/", "total"))
    }
    assert rows == {
        "tests/detectors/test_names.py": ["1", "2", "0", "1"],
        "tests/detectors/test_vim.py": ["0", "0", "1", "0"],
        "tests/test_broken.py": ["0", "1", "0", "0"],
        "total": ["1", "3", "1", "1"],
    }
    assert "1 of the 5 tests that need neither a network nor weights pass" in printed


def test_a_test_that_uses_a_lacking_name_fails_although_it_expects_an_error(printed):
    assert "TestNames::test_any_error: featood.detectors has no Benchmark" in printed
    assert "explained: tests/detectors/test_vim.py::test_logits: calls a private method" in printed


def test_every_pattern_has_one_line():
    spec = importlib.util.spec_from_file_location("peer_suite", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for pattern, why in module.EXPLAINED.items():
        assert pattern.startswith("tests/") and "\n" not in why
