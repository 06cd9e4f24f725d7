"""Extension of mkdocstrings for Sphinx roles in docstrings, such as ``:func:`name```."""

from __future__ import annotations

__all__ = ["Roles"]

import re
from typing import Any

import griffe

ROLE = re.compile(r":[a-z:]+:`(~?)([^`<]+?)(?:\s*<[^`]*>)?`")


class Roles(griffe.Extension):
    """Convert roles to links if their target has a page, otherwise to inline code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a class, a function or a module."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(_link, obj.docstring.value)


def _link(found: re.Match[str]) -> str:
    short, name = found.groups()
    shown = name.rpartition(".")[2] if short else name
    if "." not in name:
        return f"`{shown}`"
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'
