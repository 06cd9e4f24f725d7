"""The docstring of a head: the author's text, then its options, its paper and an example."""

from __future__ import annotations

__all__ = ["example", "full_docstring"]

import textwrap
from typing import Any

WIDTH = 100


def full_docstring(head: Any) -> str:
    """Return the docstring of a head class under the decorator `featood.heads.register`."""
    from featood.heads.index import describe

    entry, card = describe(head), head.card
    parts = [head.described]
    if card.caution:
        parts.append(textwrap.fill(f"Caution: {card.caution}.", WIDTH))
    if entry.options:
        parts.append("Parameters\n----------\n" + "\n".join(map(_option, entry.options)))
    parts.append(f"References\n----------\n{textwrap.fill(f'{card.paper}, {card.year}. {card.url}', WIDTH)}")
    parts.append("Examples\n--------\n" + example(head))
    return "\n\n".join(parts) + "\n"


def _option(option: Any) -> str:
    if option.choices:
        kind = "{" + ", ".join(map(repr, option.choices)) + "}"
    else:
        kind = f"tuple of {option.kind}" if option.many else option.kind
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", option.low), ("at most", option.high))
        if bound is not None
    ]
    text = option.help[:1].upper() + option.help[1:] + "."
    if bounds:
        text += f" {' and '.join(bounds).capitalize()}."
    lines = textwrap.fill(text, WIDTH - 4)
    return f"{option.name} : {kind}, default {option.default!r}\n" + textwrap.indent(lines, "    ")


def example(head: Any) -> str:
    """Return a runnable example: the head fitted to synthetic features, and the shape of the scores."""
    options = ", ".join(f"{name}={value!r}" for name, value in head.testing_options.items())
    name = head.__qualname__
    ours = head.__module__.startswith("featood.heads.")
    lines = [
        f"from {'featood.heads' if ours else head.__module__} import {name}",
        "from featood.testing import example_sets",
        "train, test = example_sets()",
        f"head = {name}({options})" + (".fit(train)" if head.card.learns else ""),
        "head.score(test).shape",
    ]
    return "\n".join(f">>> {line}" for line in lines) + "\n(120,)"
