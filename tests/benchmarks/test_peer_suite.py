import sys
from textwrap import dedent

import pytest


@pytest.fixture
def checkout(tmp_path):
    """A folder with tests of which some pass, fail, are explained, or cannot be imported."""
    tests = tmp_path / "tests"
    (tests / "detectors").mkdir(parents=True)
    (tests / "helpers").mkdir()
    (tests / "helpers" / "__init__.py").write_text("NUMBER = 3\n")
    for folder in (tests, tests / "detectors"):
        (folder / "__init__.py").touch()
    (tests / "detectors" / "test_some.py").write_text(
        dedent("""
        import unittest
        import torch
        from pytorch_ood.api import BenchmarkInfo
        from pytorch_ood.utils import OODMetrics, no_such_function
        from src import pytorch_ood
        from src.pytorch_ood.detector.energy import EnergyBased
        from tests.helpers import NUMBER

        class Own(BenchmarkInfo):
            pass

        class TestSome(unittest.TestCase):
            def test_right(self):
                self.assertEqual(EnergyBased.score(torch.zeros(NUMBER, 2)).shape, (NUMBER,))

            def test_wrong(self):
                self.assertIs(OODMetrics, pytorch_ood.EnergyBased)

            def test_any_error(self):
                with self.assertRaises(Exception):
                    Own()

            def test_parts(self):
                for part in (1, 2, 3):
                    with self.subTest(part):
                        self.assertNotEqual(part, 2)

            def test_function(self):
                no_such_function()

            @unittest.skip("not today")
            def test_skipped(self):
                pass
        """)
    )
    (tests / "detectors" / "test_vim.py").write_text(
        "class TestA:\n    def test_logits(self):\n        assert 0\n"
    )
    (tests / "test_info.py").write_text(
        "from pytorch_ood.benchmark import Missing\n\ndef test_a(): pass\n\ndef test_b(): pass\n"
    )
    return tmp_path


def test_outcomes_are_counted_by_file(script, checkout, monkeypatch, capsys):
    module = script("peer_suite")
    kept = {name: sys.modules[name] for name in list(sys.modules) if name.split(".")[0] == "tests"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["peer_suite.py", str(checkout)])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    aliased = {name: value for name, value in sys.modules.items() if module.ALIASED.fullmatch(name)}
    for name in aliased:
        monkeypatch.delitem(sys.modules, name)
    try:
        assert module.main() == 1
    finally:
        for name in [
            name for name in sys.modules if module.ALIASED.fullmatch(name) or name.startswith("tests")
        ]:
            del sys.modules[name]
        sys.modules.update(kept | aliased)
    shown = capsys.readouterr().out
    rows = {
        line.split()[0]: line.split()[1:]
        for line in shown.splitlines()
        if line.startswith(("tests/", "total"))
    }
    assert rows["tests/detectors/test_some.py"] == ["1", "4", "0", "1"]
    assert rows["tests/detectors/test_vim.py"] == ["0", "0", "1", "0"]
    assert rows["tests/test_info.py"] == ["0", "0", "2", "0"]
    assert rows["total"] == ["1", "4", "3", "1"]
    for name in ("wrong", "parts"):
        assert f"failed: tests/detectors/test_some.py::TestSome::test_{name}: AssertionError" in shown
    assert (
        "test_any_error: featood.detectors has no BenchmarkInfo" in shown
    )  # although the test expects any error
    assert "1 of the 8 tests" in shown
