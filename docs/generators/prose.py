"""Conversion of docstrings and help texts to Markdown."""

from __future__ import annotations

__all__ = ["escaped", "example", "markdown", "table", "without_sections"]

import html
import inspect
import re
from collections.abc import Iterable, Sequence

ROLE = re.compile(r":[a-z:]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`")
LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
EXAMPLE = re.compile(r"^Examples\n-{3,}\n(.*?)(?=^[A-Z][A-Za-z ]+\n-{3,}|\Z)", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^[A-Z][A-Za-z ]+\n-{3,}\s*$", re.MULTILINE)


def without_sections(docstring: str | None) -> tuple[str, str]:
    """Return the first line of a docstring, and its text up to the first section such as ``Parameters``."""
    summary, _, rest = inspect.cleandoc(docstring or "").partition("\n")
    return summary, SECTION.split(rest, maxsplit=1)[0].strip()


def example(docstring: str | None) -> str:
    """Return the section ``Examples`` of a docstring, or an empty string."""
    found = EXAMPLE.search(inspect.cleandoc(docstring or ""))
    return found[1].strip() if found else ""


def markdown(text: str) -> str:
    """Convert roles and literals of reStructuredText to inline code of Markdown."""
    return LITERAL.sub(lambda found: f"`{found[1]}`", ROLE.sub(lambda found: f"`{found[1]}`", text))


def escaped(text: str) -> str:
    """Escape special characters of Markdown, except in inline code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars in cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    if "|" not in text:
        return text
    # Markdown cannot escape a bar in inline code
    text = re.sub(r"`([^`]+)`", lambda found: f"<code>{html.escape(found[1])}</code>", text)
    return text.replace("|", "&#124;")
