"""Pages of public modules, filled by mkdocstrings from the docstrings."""

from __future__ import annotations

__all__ = ["MODULES", "public_names", "reference_pages"]

import importlib

from prose import markdown, table, without_sections

MODULES = (
    "featood",
    "featood.heads",
    "featood.cache",
    "featood.data",
    "featood.data.tables",
    "featood.metrics",
    "featood.detectors",
    "featood.testing",
    "featood.errors",
    "featood.energies",
    "featood.flows",
    "featood.losses",
    "featood.nets",
)


def public_names(module: str) -> list[str]:
    """Return the public names of a module, without classes of heads, which have separate pages."""
    package = importlib.import_module(module)
    names = [name for name in package.__all__ if not name.startswith("__")]
    return [name for name in names if not _is_head(getattr(package, name))]


def _is_head(value: object) -> bool:
    return isinstance(value, type) and hasattr(value, "card") and hasattr(value, "score_block")


def reference_pages() -> dict[str, str]:
    """Return the Markdown of all pages by their path."""
    pages, links = {}, []
    for module in MODULES:
        summary, prose = without_sections(importlib.import_module(module).__doc__)
        links.append((f"[`{module}`]({module}.md)", markdown(summary)))
        parts = [f"# {module}", markdown(summary), markdown(prose)]
        parts += [f"::: {module}.{name}" for name in public_names(module)]
        pages[f"python/{module}.md"] = "\n\n".join(filter(None, parts)) + "\n"
    text = "These modules are public. All other modules may change in any version."
    return {"python/index.md": f"# Python\n\n{text}\n\n{table(('Module', ''), links)}\n"} | pages
