"""Pages of heads, generated from their cards, docstrings and options, and an index by family."""

from __future__ import annotations

__all__ = ["families", "head_page", "head_pages", "heads_index"]

import dataclasses
import functools
import importlib
import re
import typing
from typing import Any

from prose import escaped, example, markdown, table, without_sections

from featood.heads import Card, head_class, list_heads

NEEDS = {
    "features": "a column of features",
    "logits": "the logits of the classifier",
    "labels": "class labels of the training rows",
    "classifier": "weight and bias of the classifier's last layer",
    "outliers": "a set of outliers for training",
}
FORMULA = re.compile(r"``([^`]*[-+/()=|'*][^`]*)``")


@functools.cache
def families() -> dict[str, list[str]]:
    """Return the names of featood's own heads by family."""
    found: dict[str, list[str]] = {}
    for name in list_heads():
        package, _, family = head_class(name).__module__.rpartition(".")[0].rpartition(".")
        if package == "featood.heads":
            found.setdefault(family, []).append(name)
    return dict(sorted(found.items()))


def family_title(family: str) -> str:
    """Return the name of a family as a title."""
    return {"dirichlet": "Dirichlet"}.get(family, family.replace("_", " ").capitalize())


def head_pages() -> dict[str, str]:
    """Return the Markdown of all pages by their path."""
    pages = {"heads/index.md": heads_index()}
    return pages | {f"heads/{name}.md": head_page(name) for names in families().values() for name in names}


def heads_index() -> str:
    """List the heads by family, with their required inputs."""
    cards = list_heads()
    parts = [
        "# Heads",
        f"{sum(map(len, families().values()))} heads, by family. A higher score means more out-of-distribution "
        "for every head. `featood heads` prints the same list.",
    ]
    for family, names in families().items():
        about = importlib.import_module(f"featood.heads.{family}").__doc__ or ""
        rows = [
            (
                f"[`{name}`]({name}.md)",
                escaped(card.title),
                ", ".join(card.needs),
                str(card.year),
                escaped(card.caution),
            )
            for name in names
            for card in [cards[name]]
        ]
        parts += [f"## {family_title(family)}", markdown(about.strip()), table(_columns(rows), _cut(rows))]
    return "\n\n".join(parts) + "\n"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    return ["Head", "Method", "Needs", "Year", "Caution"][: 5 if any(row[4] for row in rows) else 4]


def _cut(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [row[: len(_columns(rows))] for row in rows]


def head_page(name: str) -> str:
    """Return the Markdown page of a head."""
    cls: Any = head_class(name)
    card: Card = cls.card
    summary, prose = without_sections(cls.__doc__)
    parts = [f"# {name}", f"**{escaped(card.title)}.** {markdown(summary)}"]
    if card.caution:
        parts.append(f'!!! warning "Caution"\n\n    {escaped(card.caution[:1].upper() + card.caution[1:])}.')
    parts += [table(("", ""), _facts(cls)), "## Use", _use(cls)]
    if prose:
        parts += ["## Description", markdown(prose)]
    if card.scores:
        scores = [
            f"`{score}`" + (" (default)" if not place else "") for place, score in enumerate(card.scores)
        ]
        parts += [
            "## Scores",
            f"One fit provides several scores, selected by the option `which`: {', '.join(scores)}. "
            "`featood score --which all` compares them.",
        ]
    parts += ["## Options", _options(cls)]
    if cls.presets:
        parts += ["## Presets", _presets(cls)]
    family = cls.__module__.split(".")[-2]
    others = [f"[`{other}`]({other}.md)" for other in families()[family] if other != name]
    if others:
        parts += ["## Same family", ", ".join(others)]
    return "\n\n".join(parts) + "\n"


def _facts(cls: Any) -> list[tuple[str, str]]:
    card: Card = cls.card
    family = cls.__module__.split(".")[-2]
    link = (
        f"[{escaped(card.paper)}, {card.year}]({card.url})"
        if card.url
        else f"{escaped(card.paper)}, {card.year}"
    )
    facts = [("Paper", link)]
    if formula := FORMULA.search(without_sections(cls.__doc__)[0]):
        facts.append(("Formula", f"`{formula[1]}`"))
    facts += [
        ("Family", f"[{family_title(family)}](index.md#{family_title(family).lower().replace(' ', '-')})"),
        ("Needs", "; ".join(NEEDS[need] for need in card.needs)),
    ]
    if card.uses:
        facts.append(("Can use", "; ".join(NEEDS[need] for need in card.uses)))
    fit = "on the training rows" if card.learns else "not needed"
    if cls.trains:
        fit = "trains a network"
    return [*facts, ("Fit", fit), ("Class", f"`{_path(cls)}`")]


def _path(cls: type) -> str:
    """Return the shortest import path of a class."""
    short = getattr(importlib.import_module("featood.heads"), cls.__name__, None) is cls
    return f"featood.heads.{cls.__name__}" if short else f"{cls.__module__}.{cls.__qualname__}"


def _use(cls: Any) -> str:
    card: Card = cls.card
    outliers = " --outliers SET" if "outliers" in card.needs else ""
    fit = f"featood fit {card.name}{outliers}\n" if card.learns else ""
    learn = ".fit(train)" if card.learns else ""
    code = (
        example(cls.__doc__)
        or f'>>> head = featood.create_head("{card.name}"){learn}\n>>> scores = head.score(test)'
    )
    return f"```shell\n{fit}featood score --head {card.name} --ood textures\n```\n\n```pycon\n{code}\n```"


def _options(cls: Any) -> str:
    hints = typing.get_type_hints(cls)
    rows = [
        (
            f"`{field.name}`",
            f"`{_shown(field.default)}`",
            f"{escaped(markdown(field.metadata['help']))}<br>{_values(field, hints[field.name])}",
        )
        for field in sorted(dataclasses.fields(cls), key=lambda field: _depth(cls, field.name))
        if field.init and "help" in field.metadata
    ]
    text = "Option names have hyphens on the command line (`--like-this`), and underscores in Python (`like_this`)."
    return f"{text}\n\n{table(('Option', 'Default', 'Meaning'), rows)}"


def _depth(cls: type, name: str) -> int:
    """Return the depth of the base class that declares an option; the head's own options come first."""
    return next(
        depth for depth, base in enumerate(cls.__mro__) if name in vars(base).get("__annotations__", ())
    )


def _values(field: Any, hint: Any) -> str:
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    if choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in choices)
    kind = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    bounds = [
        f"{sign} {bound}" for sign, bound in (("at least", low), ("at most", high)) if bound is not None
    ]
    return ", ".join([f"`{kind}`", *bounds])


def _presets(cls: Any) -> str:
    names = list(cls.presets)
    keys = dict.fromkeys(key for preset in cls.presets.values() for key in preset)
    rows = [
        (
            f"`{key}`",
            *(f"`{_shown(preset[key])}`" if key in preset else "" for preset in cls.presets.values()),
        )
        for key in keys
    ]
    text = f"Published settings, by `--preset NAME` or `create_head({cls.card.name!r}, preset=NAME)`."
    return f"{text}\n\n{table(('Option', *(f'`{name}`' for name in names)), rows)}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return repr(value) if value == "" else str(value)
