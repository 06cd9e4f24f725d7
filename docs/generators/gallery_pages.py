"""Pages of the gallery: each example is run, and its page shows its output and figures."""

from __future__ import annotations

__all__ = ["EXAMPLES", "Run", "example_page", "examples", "gallery_index", "run_example"]

import ast
import concurrent.futures
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from prose import markdown, table, without_sections

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Run(NamedTuple):
    """Output of an example."""

    output: str
    pictures: dict[str, bytes]
    """PNG files by name."""


def examples() -> list[Path]:
    """List the examples of the gallery in order: scripts whose names begin with a number."""
    return sorted(EXAMPLES.glob("[0-9]*.py"))


def title_and_text(path: Path) -> tuple[str, str]:
    """Return title and text of an example, from its docstring."""
    summary, prose = without_sections(ast.get_docstring(ast.parse(path.read_text("utf-8"))))
    return markdown(summary.rstrip(".")), markdown(prose)


@functools.cache
def run_example(path: Path, source: str) -> Run:
    """Run an example in an empty folder; `source` is its code, so that a changed example is run again.

    Raises
    ------
    RuntimeError
        If it fails, with its standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, str(path)],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "MPLBACKEND": "Agg",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{path.name} failed:\n{done.stderr}")
        pictures = {file.name: file.read_bytes() for file in sorted(Path(folder).glob("*.png"))}
        return Run(done.stdout, pictures)


def run_all() -> dict[Path, Run]:
    """Run all examples, one per core at a time."""
    paths = examples()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(
            zip(paths, pool.map(lambda path: run_example(path, path.read_text("utf-8")), paths), strict=True)
        )


def example_page(path: Path, run: Run) -> str:
    """Return the Markdown page of an example: text, code, output and figures."""
    title, text = title_and_text(path)
    source = path.read_text("utf-8")
    docstring = ast.parse(source).body[0]
    code = "\n".join(source.splitlines()[docstring.end_lineno or 0 :]).strip()
    parts = ["---\nhide: [toc]\n---", f"# {title}", text, f"```python\n{code}\n```"]
    if run.output:
        parts += ["Output:", f"```text\n{run.output.rstrip()}\n```"]
    parts += [f"![{title}]({name})" for name in run.pictures]
    parts.append(f"The script is `examples/{path.name}`.")
    return "\n\n".join(filter(None, parts)) + "\n"


def gallery_index() -> str:
    """List the examples with the first sentence of their text."""
    rows = []
    for path in examples():
        title, text = title_and_text(path)
        rows.append((f"[{title}]({path.stem}.md)", " ".join(text.split("\n\n")[0].split())))
    text = "Short scripts on one topic each, with data from scikit-learn. They were run when this page was built."
    return f"# Gallery\n\n{text}\n\n{table(('Example', ''), rows)}\n"
