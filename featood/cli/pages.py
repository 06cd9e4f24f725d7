"""Plain help pages for long lists, which render in a fraction of the time that rich tables take."""

from __future__ import annotations

__all__ = ["PageContext", "PageFormatter", "card_command", "written_list"]

import functools
import inspect
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import rich_click as click

UNBROKEN = "\N{NON-BREAKING HYPHEN}"
"""Replaces the hyphens of names until the lines are wrapped."""


class PageFormatter(click.HelpFormatter):
    """Formats help as wide as the terminal, with bold headings; lines do not break at hyphens."""

    def __init__(self, **_: object) -> None:
        super().__init__(width=shutil.get_terminal_size().columns - 1)

    def write_heading(self, heading: str) -> None:
        """Write a heading."""
        self.write(click.style(f"{'':>{self.current_indent}}{heading}:", bold=True) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and texts in two columns."""
        super().write_dl([(name, text.replace("-", UNBROKEN)) for name, text in rows], col_max, col_spacing)

    def write_lists(self, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Write a list of names and texts below the heading of each section."""
        for heading, rows in sections.items():
            with self.section(heading):
                self.write_dl(rows)

    def getvalue(self) -> str:
        """Return the text."""
        return super().getvalue().replace(UNBROKEN, "-")


class PageContext(click.Context):
    """Context of a command whose help is such a page."""

    formatter_class = PageFormatter


class _GroupedCommand(click.Command):
    """A command whose options are made when they are first needed, and listed in groups."""

    context_class = PageContext

    def __init__(
        self, name: str, groups: Callable[[], Mapping[str, Sequence[click.Parameter]]], **details: Any
    ) -> None:
        super().__init__(name=name, **details)
        del self.params
        self._groups = groups

    @functools.cached_property
    def params(self) -> list[click.Parameter]:  # type: ignore[override]
        """All options."""
        return [option for options in self._groups().values() for option in options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups of options."""
        assert isinstance(formatter, PageFormatter)
        formatter.write_lists(
            {
                title: list(filter(None, (option.get_help_record(ctx) for option in options)))
                for title, options in self._groups().items()
            }
        )


def card_command(
    cls: Any, groups: Callable[[], Mapping[str, Sequence[click.Parameter]]], run: Callable[..., None]
) -> click.Command:
    """Make the command of a class that has a card: its help is the docstring with the paper.

    Parameters
    ----------
    cls : type
        With a `card` of name, title, paper, year and url.
    groups : callable
        Returns the options below the title of their group, when they are first needed.
    run : callable
        Called with the values of the options.
    """
    card = cls.card
    text = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{card.paper}, {card.year}. {card.url}"
    return _GroupedCommand(card.name, groups, callback=run, help=text, short_help=card.title)


def written_list(sections: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Return lists of names and texts, with a heading for each section."""
    formatter = PageFormatter()
    formatter.write_lists(sections)
    return formatter.getvalue()
