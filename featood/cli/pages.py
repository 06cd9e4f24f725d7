"""Help pages whose lists are long: plain text, which takes a fraction of the time that boxes take to draw."""

from __future__ import annotations

__all__ = ["write_lists", "written_list"]

import shutil
from collections.abc import Mapping, Sequence

import rich_click as click

UNBROKEN = "\N{NON-BREAKING HYPHEN}"
"""Stands for the hyphens of names, at which a line must not end."""


def written_list(sections: Mapping[str, Sequence[tuple[str, str]]], margin: int = 0) -> str:
    """Return names and texts in two columns below the titles of their sections, as wide as the terminal."""
    listing = click.HelpFormatter(width=shutil.get_terminal_size().columns - margin)
    for title, rows in sections.items():
        with listing.section(title):
            listing.write_dl([(name, text.replace("-", UNBROKEN)) for name, text in rows])
    return listing.getvalue().replace(UNBROKEN, "-")


def write_lists(
    formatter: click.HelpFormatter, sections: Mapping[str, Sequence[tuple[str, str]]], after: str = ""
) -> None:
    """Write such lists into a help page, and a line after them."""
    from rich.padding import Padding
    from rich.text import Text

    text = Text(written_list(sections, margin=2) + (f"\n{after}\n" if after else ""))
    formatter.write(Padding(text, (0, 1)))  # type: ignore[arg-type]
