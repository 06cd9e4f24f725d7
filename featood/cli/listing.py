"""``featood heads``, ``featood backbones`` and ``featood datasets``."""

from __future__ import annotations

__all__ = ["backbones", "datasets", "heads"]

from typing import Any

import rich_click as click

from featood.cli.common import data_dir_option, emit_json, table
from featood.reporter import print_line


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def heads(as_json: bool) -> None:
    """List the heads: what they are, what they need, where they come from."""
    import dataclasses

    from featood.heads import broken_plugins, list_heads

    cards = list_heads()
    if as_json:
        emit_json([dataclasses.asdict(card) for card in cards.values()])
    else:
        rows = [
            (card.name, card.title, card.year, ", ".join(card.needs), card.paper) for card in cards.values()
        ]
        table(("head", "title", "year", "needs", "paper"), rows)
        for card in cards.values():
            if card.caution:
                print_line(f"{card.name}: {card.caution}")
        print_line(f"{len(cards)} heads")
    for name, reason in broken_plugins().items():
        print_line(f"warning: plug-in {name} cannot be used: {reason}")


@click.command()
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backbones(pattern: str, as_json: bool) -> None:
    """List backbones whose name contains PATTERN: our nets, torchvision's and timm's."""
    from featood.extractors.backbones import list_backbones

    found = {
        family: [name for name in names if pattern in name] for family, names in list_backbones().items()
    }
    if as_json:
        emit_json(found)
        return
    table(
        ("name",),
        [(f"{family}:{name}" if family != "net" else name,) for family in found for name in found[family]],
    )
    print_line("anything else: python:package.module:callable")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def datasets(data_dir: str | None, as_json: bool) -> None:
    """List the sets of images, the tables and the suites known by name, and which are there."""
    from featood.data import available_splits, default_data_dir, list_datasets, list_suites, suite
    from featood.data.tables.sets import NOISE, NOISES, list_tables

    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "kind": "images",
            "title": entry.title,
            "classes": entry.num_classes,
            "there": available_splits(entry.name, data_dir),
            "source": entry.source,
        }
        for entry in list_datasets()
    ]
    tables: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "kind": "table",
            "title": entry.title,
            "classes": entry.num_classes,
            "columns": entry.width,
            "ood": entry.ood,
            "there": entry.folder(data_dir or default_data_dir()) is not None,
            "source": entry.source,
        }
        for entry in list_tables()
    ]
    if as_json:
        emit_json({"datasets": rows + tables, "suites": {name: suite(name) for name in list_suites()}})
        return
    table(
        ("images", "there", "classes", "source"),
        [(row["name"], ", ".join(row["there"]) or "-", row["classes"] or "", row["source"]) for row in rows],
    )
    found = [
        (row["name"], "yes" if row["there"] else "-", row["classes"] or "", row["columns"], row["ood"], row["source"])
        for row in tables
    ]  # fmt: skip
    table(("table", "there", "classes", "columns", "its OOD set", "source"), found)
    table(("suite", "sets"), [(name, ", ".join(suite(name))) for name in list_suites()])
    print_line(
        f"any table goes against {', '.join(f'{NOISE}:{kind}' for kind in NOISES)}; featood import --file brings yours"
    )
