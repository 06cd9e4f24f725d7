"""Write the index of heads and the stubs that load them: ``python -m featood.heads.indexing``."""

from __future__ import annotations

__all__ = ["main", "written"]

import importlib
from pathlib import Path

from featood.files import atomic_write
from featood.heads.index import INDEX, as_text, describe
from featood.heads.registry import head_modules, registered

PACKAGE = Path(__file__).parent
FURTHER = """\
from .artefacts.artefact import load_head as load_head, save_head as save_head
from .base.asking import ask as ask
from .base.feature_head import FeatureHead as FeatureHead, RawFeatures as RawFeatures, StreamingHead as StreamingHead
from .base.fit import Fit as Fit, FitContext as FitContext, FitRecord as FitRecord, State as State
from .base.gaussian_head import GaussianHead as GaussianHead
from .base.head import Head as Head
from .base.logit_head import LogitHead as LogitHead
from .base.perceptron_head import PerceptronHead as PerceptronHead
from .base.rows import SelectedRows as SelectedRows
from .base.summed_head import SummedHead as SummedHead
from .base.trained_head import TrainedHead as TrainedHead
from .compositions.compose import compose as compose
from .index import Card as Card, Entry as Entry
from .registry import broken_plugins as broken_plugins, create_head as create_head, head_class as head_class
from .registry import head_entry as head_entry, heads_by_family as heads_by_family, list_heads as list_heads
from .registry import option as option, register as register
"""
"""Names that `featood.heads` exports besides the heads."""


def written() -> dict[Path, str]:
    """Return the generated files and their content."""
    modules = set(head_modules().values())
    for module in modules:
        importlib.import_module(module)
    entries = [describe(cls) for _, cls in sorted(registered().items()) if cls.__module__ in modules]
    families: dict[str, list[str]] = {}
    lines = []
    for entry in sorted(entries, key=lambda entry: entry.qualname):
        *_, family, module = entry.module.split(".")
        families.setdefault(family, []).append(
            f"from .{module} import {entry.qualname} as {entry.qualname}\n"
        )
        lines.append(f"from .{family}.{module} import {entry.qualname} as {entry.qualname}\n")
    files = {
        INDEX: as_text(entries),
        PACKAGE / "__init__.pyi": FURTHER + "".join(lines),
    }
    return files | {
        PACKAGE / family / "__init__.pyi": "".join(imports) for family, imports in families.items()
    }


def main() -> None:
    """Write the files that are out of date."""
    for path, text in written().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            atomic_write(path, text.encode())
            print(f"wrote {path.relative_to(PACKAGE.parent)}")


if __name__ == "__main__":
    main()
