"""Page on every name of pytorch-ood: the name or the commands that do the same here, or why there is none."""

from __future__ import annotations

__all__ = ["VERSION", "Section", "pytorch_ood_page", "read_sections"]

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from coverage_pages import Method, covered, linked, read_methods, read_peers
from prose import escaped, table

from featood.detectors import get_model_info

TABLE = Path(__file__).with_name("pytorch_ood.toml")
VERSION = "0.4.0"


class Section(NamedTuple):
    """Names of a kind; the commands of a name may also be names in Python, which begin with ``featood.``."""

    title: str
    module: str
    """Where they are defined."""
    methods: tuple[Method, ...]


def read_sections() -> dict[str, Section]:
    """Read the table, by the key of the section; detectors are those of the page on other libraries."""
    detectors = tuple(
        one._replace(commands=(f"featood.detectors.{one.name}", *one.commands))
        for one in read_peers()["pytorch-ood"].methods
    )
    preprocessing = Method("odin_preprocessing", ("featood.detectors.odin_preprocessing",), "")
    sections = {
        "detectors": Section("Detectors", "pytorch_ood.detector", (*detectors, preprocessing)),
    }
    for key, facts in tomllib.loads(TABLE.read_text(encoding="utf-8")).items():
        methods = read_methods(facts["rows"]) if "rows" in facts else tuple(_weights(facts["seeds"]))
        sections[key] = Section(facts["title"], facts["module"], methods)
    return sections


def pytorch_ood_page() -> str:
    """Return the Markdown of the page."""
    sections = read_sections().values()
    done = [covered(one.methods) for one in sections]
    total = sum(len(one.methods) for one in sections)
    counts = [
        (f"[{one.title}](#{_anchor(one.title)})", str(len(one.methods)), str(here), str(len(one.methods) - here))
        for one, here in zip(sections, done, strict=True)
    ]  # fmt: skip
    parts = [
        "# pytorch-ood, row by row",
        f"Every name of pytorch-ood {VERSION}, with the name in Python or the commands that do the same here, or why "
        "there is none. A network or column that a head needs comes first; names of sets and further options are left "
        "out. What differs in numbers is in [From pytorch-ood](from-pytorch-ood.md).",
        table(
            ("", "Names", "Here", "With a reason"),
            [*counts, ("all", str(total), str(sum(done)), str(total - sum(done)))],
        ),
    ]
    for one in sections:
        rows = [(f"`{method.name}`", _written(method), escaped(method.note)) for method in one.methods]
        where = f"`{one.module}`" if one.module.startswith("pytorch_ood") else one.module
        parts += [f"## {one.title}", f"Of {where}.", table(("Name", "Here", "Note"), rows)]
    return "\n\n".join(parts) + "\n"


def _weights(seeds: Mapping[str, Sequence[str]]) -> Iterator[Method]:
    """Yield the names ``KEY/SEED`` of weights, or ``KEY`` without a seed."""
    for key, tags in seeds.items():
        for tag in tags:
            name = f"{key}/{tag}" if tag else key
            yield Method(name, (f"extract --backbone {get_model_info(name).name}",), "")


def _written(method: Method) -> str:
    return ", ".join(linked(command, "../heads/") for command in method.commands) or "none"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
