"""Pages of commands, generated from click's definitions."""

from __future__ import annotations

__all__ = ["command_pages", "walk"]

import dataclasses
import inspect
from collections.abc import Iterator

import click
from prose import escaped, markdown, table

from featood.cli.root import root
from featood.heads import head_class

EXAMPLE = "knn"
"""The head whose command is used to show the options shared by all heads."""


def walk(
    command: click.Command = root, words: tuple[str, ...] = ("featood",)
) -> Iterator[tuple[str, click.Context]]:
    """Iterate over all commands as typed, with their contexts; of the commands that fit a head, only over one."""
    context = click.Context(command, info_name=words[-1])
    yield " ".join(words), context
    if isinstance(command, click.Group):
        for name in [EXAMPLE] if words == ("featood", "fit") else command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, (*words, name))


def command_pages() -> dict[str, str]:
    """Return the Markdown of all pages by their path: one for each command below the root."""
    pages: dict[str, list[str]] = {}
    links = []
    for words, context in walk():
        parts = words.split()
        if len(parts) == 1:
            continue
        name = parts[1]
        if len(parts) == 2:
            links.append((f"[`{words}`]({name}.md)", escaped(context.command.get_short_help_str(200))))
        pages.setdefault(name, []).append(_command(words, context, "#" * (len(parts) - 1)))
    index = (
        f"# Commands\n\n{_help(root)}\n\n{table(('Command', ''), links)}\n\n"
        "Exit codes: 0 done, 2 usage, 3 data missing or bad, 4 corrupt cache, 5 mismatch, 130 interrupted.\n"
    )
    texts = {f"commands/{name}.md": "\n\n".join(parts) + "\n" for name, parts in pages.items()}
    return {"commands/index.md": index} | texts


def _command(words: str, context: click.Context, heading: str) -> str:
    command = context.command
    own: set[str] = set()
    title, about = words, _help(command)
    if words == f"featood fit {EXAMPLE}":
        own = {field.name for field in dataclasses.fields(head_class(EXAMPLE))} | {"preset"}
        title = "featood fit HEAD"
        about = "Every head has these options, and those listed on [its page](../heads/index.md)."
    usage = " ".join([title, *command.collect_usage_pieces(context)])
    rows = [
        (f"`{record[0]}`", escaped(record[1]))
        for param in command.params
        if param.name not in own and (record := param.get_help_record(context)) is not None and record[1]
    ]
    options = [table(("Option", "Meaning"), rows)] if rows else []
    return "\n\n".join([f"{heading} {title}", f"```text\n{usage}\n```", about, *options])


def _help(command: click.Command) -> str:
    """Return the help of a command, with example commands as code blocks."""
    parts = []
    for paragraph in inspect.cleandoc(command.help or "").replace("\b", "").split("\n\n"):
        before, found, line = (
            paragraph.partition("featood ") if "\n" not in paragraph else (paragraph, "", "")
        )
        if found and before.strip().rstrip(":") in ("", "Example"):
            parts += [*filter(None, [before.strip()]), f"```shell\nfeatood {line}\n```"]
        else:
            parts.append(escaped(markdown(paragraph)))
    return "\n\n".join(parts)
