"""A page for each public module, which mkdocstrings fills from the docstrings."""

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
    "featood.testing",
    "featood.errors",
    "featood.energies",
    "featood.flows",
    "featood.losses",
    "featood.nets",
)


def public_names(module: str) -> list[str]:
    """Return what a module offers, but for the classes of heads, which have pages of their own, and modules."""
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
    text = "What other modules hold may change in any version; these are meant to be used."
    return {"python/index.md": f"# Python\n\n{text}\n\n{table(('Module', ''), links)}\n"} | pages
