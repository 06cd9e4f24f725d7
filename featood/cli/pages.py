"""Help pages with long lists, as plain text, which is much faster to draw than boxes."""

from __future__ import annotations

__all__ = ["write_lists", "written_list"]

import shutil
from collections.abc import Mapping, Sequence

import rich_click as click

UNBROKEN = "\N{NON-BREAKING HYPHEN}"
"""Replaces the hyphens of names while lines are wrapped, so that no line breaks at them."""


def written_list(sections: Mapping[str, Sequence[tuple[str, str]]], margin: int = 0) -> str:
    """Return names and texts in two columns under the titles of their sections, as wide as the terminal."""
    listing = click.HelpFormatter(width=shutil.get_terminal_size().columns - margin)
    for title, rows in sections.items():
        with listing.section(title):
            listing.write_dl([(name, text.replace("-", UNBROKEN)) for name, text in rows])
    return listing.getvalue().replace(UNBROKEN, "-")


def write_lists(
    formatter: click.HelpFormatter, sections: Mapping[str, Sequence[tuple[str, str]]], after: str = ""
) -> None:
    """Write lists to a help page, followed by a line of text."""
    from rich.padding import Padding
    from rich.text import Text

    text = Text(written_list(sections, margin=2) + (f"\n{after}\n" if after else ""))
    formatter.write(Padding(text, (0, 1)))  # type: ignore[arg-type]
