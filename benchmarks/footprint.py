"""Number of modules of the project that each command runs, and loads.

A module counts as run if one of its functions is called (by ``sys.setprofile``), except during imports; bodies of
modules and classes do not count. The number shows how much code has to be read to follow a command.

    python benchmarks/footprint.py [--names]

A small cache of random features is made in a temporary folder, and each command runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

OPTIMIZED = 0x1
"""Flag of the code of functions, as opposed to bodies of modules and classes."""
COMMANDS = {
    "fit mahalanobis": ("fit", "mahalanobis"),
    "score --head mahalanobis --ood odd": ("score", "--head", "mahalanobis", "--ood", "odd"),
    "score --head msp --ood odd": ("score", "--head", "msp", "--ood", "odd"),
    "heads": ("heads",),
    "--help": ("--help",),
}


class Footprint:
    """A profile function that collects the files whose functions run."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self._importing: list[FrameType] = []
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Process one event of the profiler."""
        code: CodeType = frame.f_code
        if event == "call":
            if self._importing:
                return
            if code.co_name == "_find_and_load" and code.co_filename.startswith("<frozen importlib"):
                self._importing.append(frame)
            elif code.co_flags & OPTIMIZED and code.co_filename.startswith(self._root):
                self.files.add(code.co_filename)
        elif event == "return" and self._importing and frame is self._importing[-1]:
            self._importing.pop()


def measure(words: list[str]) -> dict[str, list[str]]:
    """Run a command in this process, and return the modules run and loaded."""
    import featood

    root = Path(featood.__file__).parent
    footprint = Footprint(root)
    sys.argv = ["featood", *words]
    sys.setprofile(footprint)
    try:
        from featood.cli import main

        main()
    except SystemExit as end:
        if end.code not in (0, None):
            raise
    finally:
        sys.setprofile(None)
    run = {Path(name).relative_to(root.parent).with_suffix("").as_posix() for name in footprint.files}
    loaded = [name for name in sys.modules if name.split(".")[0] == "featood"]
    return {"run": sorted(name.replace("/", ".") for name in run), "loaded": sorted(loaded)}


def fill(folder: Path) -> Path:
    """Make a cache of a train split, a test split and another set."""
    from featood.cache import FeatureCache, import_arrays
    from featood.speed.synthetic import clustered

    cache = FeatureCache(folder / "cache")
    roles = (("net/known/train", 1, 1.0), ("net/known/test", 2, 1.0), ("net/odd/test", 3, 3.0))
    for key, seed, spread in roles:
        data = clustered(400, 16, 4, seed, spread)
        run = {"role": "ood"} if "odd" in key else None
        import_arrays(cache, key, data.features, data.logits, data.labels, data.classifier, run=run)
    return cache.root


def main() -> None:
    """Measure every command, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", action="store_true", help="Print the names of the modules too.")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        Path(given.run).write_text(json.dumps(measure(given.words)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = fill(Path(folder))
        out = Path(folder) / "footprint.json"
        for name, command in COMMANDS.items():
            options = () if command[0] not in ("fit", "score") else ("--cache", str(root))
            words = [sys.executable, __file__, "--run", str(out), "--", *command, *options]
            subprocess.run(words, check=True, capture_output=True)
            found = json.loads(out.read_text())
            print(f"{name}: {len(found['run'])} modules run, {len(found['loaded'])} loaded")
            if given.names:
                for kind, modules in found.items():
                    print(f"  {kind}:", *modules, sep="\n    ")


if __name__ == "__main__":
    main()
