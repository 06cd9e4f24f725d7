"""Run the tests of a checkout of pytorch-ood against featood.detectors, and count the outcomes by file.

    python benchmarks/peer_suite.py FOLDER [pytest arguments]
    python benchmarks/peer_suite.py FOLDER --peer [pytest arguments]

Every import of pytorch_ood, or src.pytorch_ood, gets the names of featood.detectors; a class that it lacks fails when
it is used. With --peer, they get those of the installed pytorch-ood, which tells the tests that are of another version.
The checkout is not part of the project. `EXPLAINED` lists the tests that cannot pass, with the reason: what they test
is not part of featood.detectors or is different on purpose, or they need a network. A test listed there counts as
explained, whatever its outcome.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import importlib
import importlib.abc
import importlib.machinery
import re
import sys
import types
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ALIASED = re.compile(r"src|(src\.)?pytorch_ood(\.[a-z_0-9]+)*")
ONLINE = "needs a network: "
"""Beginning of the reasons of tests that do not count."""
EARLIER = "of version 0.2; pytorch-ood 0.4.0 fails it, too: "
PRIVATE = "uses private classes, or sets private attributes, of pytorch-ood"
MISSING = "a missing file is a DataError, as everywhere in featood, which is a ValueError"
METADATA = "finds classes by their module, and tests metadata, which are cards of heads in featood"
EXPLAINED = {
    "tests/dataset/test_datasets.py*": ONLINE + "addresses of data sets",
    "tests/model/test_pretrained.py*": ONLINE + "downloads weights",
    "tests/test_benchmark.py::*producer*": PRIVATE,
    "tests/test_benchmark.py::*disk_cache*": "featood.extract keeps outputs on disk, by model and inputs",
    "tests/test_benchmark_ssb.py::*DatasetTest::*": PRIVATE,
    "tests/test_benchmark_ssb.py::SSBBenchmarkStructureTest::*": PRIVATE,
    "tests/test_benchmark_test_sets.py::*set*": PRIVATE,
    "tests/test_benchmark_openmibood.py::*test_missing_*": MISSING,
    "tests/test_imagenet?00.py*": "replaces modules of pytorch-ood, and reads its lists",
    "tests/test_info.py*": METADATA,
    "tests/detectors/test_vim.py::*test_logits": "calls a private method",
    "tests/detectors/test_react.py::*test_input": EARLIER + "the threshold was 1, and is fitted now",
    "tests/loss/test_energy.py::*test_segmentation_with_unknown*":
        EARLIER + "an outlier whose energy is above the margin has no loss",
    "tests/loss/test_center.py::*test_all_ood": EARLIER + "targets [0, 128] for 128 rows",
    "tests/loss/test_conf.py::*test_all_ood": EARLIER + "targets [0, 128] for 128 rows",
    "tests/loss/test_entropic.py::*test_all_ood": "targets [0, 128] for 128 rows are an error in featood",
    "tests/loss/test_vos.py::*Virtual*only_negative": EARLIER + "outliers were an error, and are ignored now",
}  # fmt: skip
"""Patterns of tests (FILE::CLASS::TEST), and why they cannot pass; the first that matches counts.

Those without a reason can pass.
"""


LACKING: list[str] = []
"""Names that featood.detectors lacks, and that the present test has used."""


class Lacking(type):
    """Type of classes that stand for names that featood.detectors lacks."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        LACKING.append(cls.__mro__[-2].__name__)  # of a class of the tests, its base
        raise NotImplementedError(f"featood.detectors has no {LACKING[-1]}")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        LACKING.append(f"{cls.__name__}.{name}")
        return Lacking(name, (), {})


class Alias(types.ModuleType):
    """A module with the names of featood.detectors."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module("featood.detectors"), name, None)
        if value is not None and not isinstance(value, types.ModuleType):
            return value
        if name.lstrip("_")[:1].isupper():
            return Lacking(name, (), {})
        raise AttributeError(name)  # a submodule, which is an alias, too


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports aliases, or modules of the installed package, in place of pytorch_ood and its submodules."""

    def __init__(self, peer: bool) -> None:
        self.peer = peer

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for the names of pytorch-ood."""
        if not ALIASED.fullmatch(name) or (self.peer and not name.startswith("src")):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return an alias, or the module of the installed package."""
        if self.peer and spec.name != "src":
            module = importlib.import_module(spec.name.removeprefix("src."))
            # the import system sets these names of what it gets
            return _copy(spec.name, module)
        return Alias(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute nothing: an alias has no code."""


def _copy(name: str, module: types.ModuleType) -> types.ModuleType:
    copy = types.ModuleType(name)
    public = {
        key: value for key, value in vars(module).items() if not key.startswith("__") or key == "__all__"
    }
    vars(copy).update(
        {key: value for key, value in public.items() if not isinstance(value, types.ModuleType)}
    )
    return copy


class Outcomes:
    """A plug-in of pytest that collects the outcome of each test, and the errors of files that cannot be imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    def pytest_runtest_setup(self) -> None:
        """Forget the names that the test before lacked."""
        LACKING.clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome of a test: that of its subtests and call, or of the set-up if there was no call."""
        # a test is reported as passed after a subtest that failed
        if self.found.get(report.nodeid) == "failed":
            return
        if report.when == "call" or report.outcome != "passed":
            # a test that expects any error would pass with a name that is lacking
            self.found[report.nodeid] = "failed" if LACKING else report.outcome
            if self.found[report.nodeid] == "failed":
                lacking = f"featood.detectors has no {', '.join(dict.fromkeys(LACKING))}"
                self.errors[report.nodeid] = lacking if LACKING else _last_line(report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the error of a file."""
        if report.failed:
            for test in _tests(self.folder / report.nodeid):
                self.found[f"{report.nodeid}::{test}"] = "failed"
                self.errors[f"{report.nodeid}::{test}"] = _last_line(report.longrepr)


def _last_line(error: object) -> str:
    crash = getattr(error, "reprcrash", None)
    return (crash.message if crash else str(error)).strip().splitlines()[-1 if not crash else 0][:150]


def _tests(path: Path) -> list[str]:
    """Return the names of the tests of a file that cannot be imported."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return [node.name for node in functions if node.name.startswith("test")]


def reason(test: str) -> str:
    """Return why a test cannot pass, or an empty string."""
    return next((why for pattern, why in EXPLAINED.items() if fnmatch.fnmatch(test, pattern)), "")


def main() -> int:
    """Run the tests, print a table, and return 1 if a test failed without an explanation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkout of pytorch-ood, which has a folder tests")
    parser.add_argument(
        "--peer", action="store_true", help="run them against the installed pytorch-ood instead"
    )
    args, rest = parser.parse_known_args()
    folder = args.folder.resolve()
    sys.dont_write_bytecode = True
    from featood.extractors.vision import torchvision  # noqa: F401  (beside any build of PyTorch)

    sys.meta_path.insert(0, Finder(args.peer))
    sys.path.insert(0, str(folder))
    outcomes = Outcomes(folder)
    plugins = ("no:terminal", "no:cacheprovider", "no:xdist")
    options = ["-c", "/dev/null", f"--rootdir={folder}", "--continue-on-collection-errors", "-W", "ignore"]
    options += [part for plugin in plugins for part in ("-p", plugin)]
    pytest.main([*options, str(folder / "tests"), *rest], plugins=[outcomes])

    table: dict[str, Counter[str]] = defaultdict(Counter)
    for test, outcome in sorted(outcomes.found.items()):
        why = reason(test) if outcome != "skipped" and not args.peer else ""
        table[test.partition("::")[0]]["explained" if why else outcome] += 1
        if why:
            print(f"explained: {test}: {why}")
        elif outcome == "failed":
            print(f"failed: {test}: {outcomes.errors[test]}")
    columns = ("passed", "failed", "explained", "skipped")
    print(f"\n{'file':44}" + "".join(f"{name:>11}" for name in columns))
    total: Counter[str] = sum(table.values(), Counter())
    for file, counts in [*table.items(), ("total", total)]:
        print(f"{file:44}" + "".join(f"{counts[name]:>11}" for name in columns))
    online = sum(
        reason(test).startswith(ONLINE) for test, outcome in outcomes.found.items() if outcome != "skipped"
    )
    count = total["passed"] + total["failed"] + total["explained"] - online
    print(f"{total['passed']} of the {count} tests that need neither a network nor weights pass")
    return int(total["failed"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
