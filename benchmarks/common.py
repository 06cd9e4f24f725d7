"""Shared code of the benchmarks: tables, JSON."""

from __future__ import annotations

__all__ = ["cache_parser", "save", "show"]

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows with the same keys as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for key, value in rows[0].items():
        number = isinstance(value, int | float)
        table.add_column(key, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(table)


def cache_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of a benchmark on the sets of a cache."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", default="feature_cache", help="root of a feature cache")
    parser.add_argument("--backbone", default="", help="default: the newest")
    parser.add_argument("--dataset", default="", help="default: the newest")
    parser.add_argument("--ood", required=True, help="out-of-distribution sets, comma-separated")
    parser.add_argument("--json", help="write the figures as JSON")
    return parser


def save(path: str | None, about: dict[str, Any], **tables: Sequence[dict[str, Any]]) -> None:
    """Print the environment, and write it with the rows of all tables as JSON if a path is given."""
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"environment": about, **tables}, file, indent=1)
            file.write("\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
