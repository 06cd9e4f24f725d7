"""Run examples and the Python code of pages in a separate process, as some register heads; print failures as JSON."""

from __future__ import annotations

__all__ = ["python_blocks"]

import contextlib
import io
import json
import os
import re
import runpy
import sys
import tempfile
import traceback
import types
from pathlib import Path

BLOCK = re.compile(r"^(<!-- not run -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks(path: Path) -> list[tuple[str, bool]]:
    """Return the Python blocks of a page, and whether each should be run."""
    return [(code, not marked) for marked, code in BLOCK.findall(path.read_text("utf-8"))]


def run_page(path: Path) -> None:
    """Run the blocks of a page in order."""
    page = sys.modules["page"] = types.ModuleType("page")  # the module named by classes defined on the page
    for code, run in python_blocks(path):
        if run:
            exec(compile(code, str(path), "exec"), vars(page))


def run_example(path: Path) -> None:
    """Run an example, which must print something, and save its figures."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(path), run_name="__main__")
    assert printed.getvalue().strip(), "it prints nothing"
    if "savefig" in path.read_text("utf-8"):
        assert list(Path().glob("*.png")), "it saves no picture"


def main(paths: list[str]) -> None:
    """Run all given files."""
    import torch

    torch.set_num_threads(1)
    failures = {}
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            try:
                (run_page if path.suffix == ".md" else run_example)(path)
            except Exception:
                failures[path.name] = traceback.format_exc()
    json.dump(failures, sys.stdout)


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "Agg"
    main(sys.argv[1:])
