"""``featood heads``, ``featood backbones`` and ``featood datasets``."""

from __future__ import annotations

__all__ = ["backbones", "datasets", "heads"]

import dataclasses
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import data_dir_option, emit_json, head_file_option, table
from featood.cli.pages import written_list
from featood.reporter import print_line

if TYPE_CHECKING:
    from featood.heads import Card
    from featood.options import OptionEntry


START = {
    "msp, max-logit, energy": "for logits of a classifier; nothing is fitted",
    "knn": "for any features, with or without labels",
    "mahalanobis": "for features with class labels",
    "vim": "for features and logits of a classifier",
}
"""Where to start, as in the guide on choosing a head."""


@click.command()
@click.argument("words", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@head_file_option
def heads(words: tuple[str, ...], as_json: bool) -> None:
    """List the heads by family, or those that match all WORDS: in name, family, title, paper, year or inputs.

    The detectors of PyOD, which are heads named pyod:NAME, are searched but not listed.

    Example: featood heads mahalanobis

    Example: featood heads pyod

    Example: featood heads outliers 2018
    """
    from featood.heads import broken_plugins, heads_by_family
    from featood.heads.outliers._pyod_table import pyod_cards

    searched = heads_by_family() | ({"detectors of PyOD": pyod_cards()} if words else {})
    families = {
        family: [card for card in cards if _matches(card, family, words)]
        for family, cards in searched.items()
    }
    cards = [card for family in families.values() for card in family]
    if as_json:
        emit_json([dataclasses.asdict(card) for card in sorted(cards, key=lambda card: card.name)])
    else:
        sections = {
            family: [(card.name, _in_short(card)) for card in members]
            for family, members in families.items()
            if members
        }
        if not words:
            sections = {"Start here": list(START.items()), **sections}
        click.echo(written_list(sections), nl=bool(sections))
        which = f" that match {' '.join(words)}" if words else ""
        print_line(
            f"{len(cards)} heads{which}; featood fit NAME --help shows the paper and options of a head"
        )
        if not words:
            print_line(f"{len(pyod_cards())} outlier detectors of PyOD are heads too: featood heads pyod")
    for name, reason in broken_plugins().items():
        print_line(f"warning: plug-in {name} cannot be used: {reason}")


def _matches(card: Card, family: str, words: tuple[str, ...]) -> bool:
    text = " ".join(
        (card.name, family, card.title, card.paper, str(card.year), card.summary, *card.needs)
    ).lower()
    return all(word.lower() in text for word in words)


def _in_short(card: Card) -> str:
    caution = f" Caution: {card.caution}." if card.caution else ""
    return f"{card.title} ({card.year}). Needs {', '.join(card.needs)}.{caution}"


@click.command()
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backbones(pattern: str, as_json: bool) -> None:
    """List backbones whose name contains PATTERN: published weights, and the networks of featood, torchvision and timm.

    For the name of a network of featood, such as wrn-28-10, its options (--arch-option) are listed too.
    """
    from featood.extractors.backbones import list_backbones, list_published
    from featood.nets import is_net, net_options

    found = {
        family: [name for name in names if pattern in name] for family, names in list_backbones().items()
    }
    published = [entry for name, entry in list_published().items() if pattern in name]
    if as_json:
        emit_json({"published": [dataclasses.asdict(entry) for entry in published], **found})
        return
    if published:
        rows = [
            (entry.name, entry.dataset, _percent(entry.accuracy), _percent(entry.measured), entry.training)
            for entry in published
        ]
        table(("published weights", "trained on", "accuracy", "tried", "training"), rows)
        print_line("accuracy: as published, in percent; tried: with featood, on 1,000 test images")
    names = [name if family == "net" else f"{family}:{name}" for family in found for name in found[family]]
    if names:
        table(("network",), [(name,) for name in names])
    if is_net(pattern):
        options = [(f"{one.name}={_written(one.default)}", _help(one)) for one in net_options(pattern)]
        click.echo(written_list({f"Options of {pattern} for --arch-option": options}))
    print_line(
        "texts: st:NAME, hf:NAME; recordings: log-mel; any other network: python:package.module:callable"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _help(option: OptionEntry) -> str:
    return option.help + (f": {', '.join(option.choices)}" if option.choices else "")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def datasets(data_dir: str | None, as_json: bool) -> None:
    """List the built-in sets of images, texts and recordings, tables and suites, and which are available locally."""
    from featood.data import available_splits, default_data_dir, list_datasets, list_suites, suite
    from featood.data.tables.sets import NOISE, NOISES, TOKEN_NOISES, list_tables

    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "title": entry.title,
            "classes": entry.num_classes,
            "groups": list(entry.groups),
            "there": available_splits(entry.name, data_dir),
            "untried": entry.untried,
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
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        table(
            (kind, "available", "classes", "source"),
            [
                (row["name"], ", ".join(row["there"]) or "-", row["classes"] or "", row["source"])
                for row in some
            ],
        )
    found = [
        (row["name"], "yes" if row["there"] else "-", row["classes"] or "", row["columns"], row["ood"], row["source"])
        for row in tables
    ]  # fmt: skip
    table(("table", "available", "classes", "columns", "its OOD set", "source"), found)
    table(("suite", "sets"), [(name, ", ".join(suite(name))) for name in list_suites()])
    noises, of_tokens = (", ".join(f"{NOISE}:{kind}" for kind in kinds) for kinds in (NOISES, TOKEN_NOISES))
    print_line(
        f"any table can be scored against {noises}, and tokens against {of_tokens}; import --file adds tables"
    )
