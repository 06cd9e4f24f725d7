"""Page on the methods of other libraries: the commands that run them here, or why there is none."""

from __future__ import annotations

__all__ = ["Method", "Peer", "coverage_page", "covered", "linked", "read_methods", "read_peers"]

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prose import escaped, table

from featood.heads import list_heads
from featood.heads.outliers._pyod_table import read_detectors
from featood.heads.registry import PYOD

TABLE = Path(__file__).with_name("coverage.toml")


class Method(NamedTuple):
    """A method of another library."""

    name: str
    commands: tuple[str, ...]
    """Commands without ``featood``; none if it cannot be run."""
    note: str
    """What differs, or why it cannot be run."""


class Peer(NamedTuple):
    """Another library."""

    title: str
    version: str
    source: str
    """Where its methods are listed."""
    page: str
    methods: tuple[Method, ...]

    @property
    def covered(self) -> int:
        """Number of methods that can be run here."""
        return covered(self.methods)


def covered(methods: Iterable[Method]) -> int:
    """Count the methods that can be run here."""
    return sum(bool(method.commands) for method in methods)


def read_peers() -> dict[str, Peer]:
    """Read the table, by name of the library; PyOD's detectors are completed from the table of its heads."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    detectors = read_detectors()
    of_pyod = {name: {"no": f"it {reason}"} for name, reason in detectors.refused.items()}
    of_pyod |= {name: f"fit {PYOD}{name}" for name in detectors.heads}
    table["pyod"]["methods"] = dict(
        sorted((of_pyod | table["pyod"]["methods"]).items(), key=lambda pair: pair[0].lower())
    )
    return {name: Peer(**{**peer, "methods": read_methods(peer["methods"])}) for name, peer in table.items()}


def read_methods(entries: Mapping[str, Any]) -> tuple[Method, ...]:
    """Read the entries of a table: commands, or a mapping with ``do`` and perhaps a ``note``, or with ``no``."""
    found = []
    for name, entry in entries.items():
        body = {"do": entry} if isinstance(entry, str) else entry
        commands = tuple(part.strip() for part in body.get("do", "").split(";") if part.strip())
        found.append(Method(name, commands, body.get("note", body.get("no", ""))))
    return tuple(found)


def coverage_page() -> str:
    """Return the Markdown of the page."""
    peers = read_peers().values()
    parts = [
        "# Methods of other libraries",
        "For each method of other libraries, at the version stated, the commands that run it here, or why there is "
        "none. A network or column that a head needs comes first. Names of sets and further options are left out.",
        table(
            ("Library", "Version", "Methods", "Here"),
            [
                (f"[{one.title}](#{one.title.lower()})", one.version, str(len(one.methods)), str(one.covered))
                for one in peers
            ],
        ),
    ]
    for one in peers:
        rows = [(f"`{method.name}`", _written(method), escaped(method.note)) for method in one.methods]
        parts += [
            f"## {one.title}",
            f"[{one.title}]({one.page}) {one.version}: {one.source}. {one.covered} of {len(one.methods)} can be run.",
            table(("Method", "Command", "Note"), rows),
        ]
    return "\n\n".join(parts) + "\n"


def _written(method: Method) -> str:
    return ", ".join(map(linked, method.commands)) or "none"


def linked(command: str, heads: str = "") -> str:
    """Return a command in Markdown; one that fits a head is a link to its page in the folder `heads`."""
    kind, name, *_ = f"{command} -".split()
    text = f"`{command}`"
    return f"[{text}]({heads}{name}.md)" if kind == "fit" and name in list_heads() else text
