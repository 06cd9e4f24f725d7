"""An extension of mkdocstrings: docstrings are written for Sphinx, with roles such as ``:func:`name```."""

from __future__ import annotations

__all__ = ["Roles"]

import re
from typing import Any

import griffe

ROLE = re.compile(r":[a-z:]+:`(~?)([^`<]+?)(?:\s*<[^`]*>)?`")


class Roles(griffe.Extension):
    """Turn roles into links where their target has a page, and into code where it has none."""

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
