"""Pages of public modules, filled by mkdocstrings from the docstrings; it does not see classes made from tables."""

from __future__ import annotations

__all__ = ["MODULES", "public_names", "reference_pages"]

import importlib
import inspect

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


def _entry(module: str, name: str) -> str:
    """Return the directive of mkdocstrings, or the Markdown of a class that is made from a table."""
    value = getattr(importlib.import_module(module), name)
    if getattr(value, "made_from_table", False) is not True:
        return f"::: {module}.{name}"
    arguments = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in inspect.signature(value).parameters.values()
    ]
    rows = [(f"`{one.name}`", markdown(value.parameters[one.name])) for one in arguments]
    parts = [
        f"## {name} {{ #{module}.{name} }}",
        f"```python\n{name}{inspect.Signature(arguments)}\n```",
        markdown(without_sections(value.__doc__)[0]),
        table(("Parameter", "Description"), rows),
    ]
    return "\n\n".join(parts)


def reference_pages() -> dict[str, str]:
    """Return the Markdown of all pages by their path."""
    pages, links = {}, []
    for module in MODULES:
        summary, prose = without_sections(importlib.import_module(module).__doc__)
        links.append((f"[`{module}`]({module}.md)", markdown(summary)))
        parts = [f"# {module}", markdown(summary), markdown(prose)]
        parts += [_entry(module, name) for name in public_names(module)]
        pages[f"python/{module}.md"] = "\n\n".join(filter(None, parts)) + "\n"
    text = "These modules are public. All other modules may change in any version."
    return {"python/index.md": f"# Python\n\n{text}\n\n{table(('Module', ''), links)}\n"} | pages
