"""Runs: commands as tables of a TOML file, derived from the parameters of the commands."""

from __future__ import annotations

__all__ = [
    "DONE",
    "PINNED",
    "STEP",
    "STEPS",
    "Step",
    "current_run",
    "pin",
    "read_run",
    "repeatable",
    "run_as_toml",
    "steps_of",
    "write_run_option",
]

import difflib
import functools
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rich_click as click
from click import get_current_context
from click.core import ParameterSource
from click.types import FloatParamType, IntParamType

from featood.cli.common import HEAD_FILES, Place
from featood.errors import DataError, FeatoodError, UsageError

STEPS = {
    "train": "model", "import": "", "extract": "", "fit": "head", "tune": "", "score": "", "report": "",
    "threshold": "",
}  # fmt: skip
"""Commands that can be steps, in the order in which they run, and the key that names the subcommand of a group."""
CODE = ("code", "head-file")
"""Options that name code: it runs only if the command line names it."""
NOT_IN_FILES = ("help", "write-run", *CODE)
DONE, STEP, PINNED = "featood.done", "featood.step", "featood.pinned"
"""Keys of click's context: the tables of earlier steps, the name of this step, and what it has pinned."""

Tables = dict[str, list[dict[str, Any]]]
"""Tables of a run by step."""


class Step(NamedTuple):
    """One command of a run."""

    name: str
    command: click.Command
    words: list[str]
    """Its options and arguments."""
    keys: Mapping[str, click.Parameter]
    """Parameters of the command by their key in a file."""
    given: frozenset[str]

    @property
    def text(self) -> str:
        """The command line."""
        import shlex

        head = [self.command.name] if STEPS[self.name] and self.command.name else []
        return shlex.join(["featood", self.name, *head, *self.words])


# ---- reading ------------------------------------------------------------------------------------------


def read_run(path: str | Path) -> Tables:
    """Read the tables of a run: a TOML file, or the ``run`` of a JSON file of results.

    Raises
    ------
    DataError
        If the file cannot be read, or is neither.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        tables = json.loads(text)["run"] if str(path).endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path} contains no run; give a TOML file, or results of score --json") from None
    if not isinstance(tables, dict) or not tables:
        raise DataError(f"{path} contains no steps; it needs tables such as [extract], [[fit]] and [score]")
    return {name: table if isinstance(table, list) else [table] for name, table in tables.items()}


def steps_of(tables: Tables, code: Sequence[str] = ()) -> tuple[list[Step], list[str]]:
    """Return the steps of a run in their order, and a line about each mistake.

    Parameters
    ----------
    tables : dict
        See :func:`read_run`.
    code : sequence of str
        Code that the command line names.
    """
    steps: list[Step] = []
    mistakes = [
        f"{name}: there is no such step; {_nearest(name, list(STEPS))}"
        for name in tables
        if name not in STEPS
    ]
    for name in STEPS:
        for position, table in enumerate(tables.get(name, ())):
            where = name if len(tables[name]) == 1 else f"{name}[{position + 1}]"
            found = _step(name, table, code)
            mistakes += [f"{where}{mistake}" for mistake in found if isinstance(mistake, str)]
            steps += [step for step in found if isinstance(step, Step)]
    return steps, mistakes


def _step(name: str, table: Any, code: Sequence[str]) -> list[Step | str]:
    """Return the step of a table, or the mistakes in it."""
    if not isinstance(table, dict):
        return [f" must be a table, not {_kind(table)}"]
    table = dict(table)
    try:
        command = _command(name, table)
    except FeatoodError as error:
        return [f": {error}"]
    keys, words, mistakes = _keys(command), [], []
    context = command.context_class(command, info_name=name)
    for key, value in table.items():
        if key not in keys:
            hint = "name it on the command line of featood run" if key in CODE else _nearest(key, list(keys))
            mistakes.append(
                f".{key}: {'code is not named in files' if key in CODE else 'there is no such key'}; {hint}"
            )
            continue
        try:
            _refuse_code(value, code)
            own = _words(key, keys[key], value)
            options, rest, _ = command.make_parser(context).parse_args(list(own))
            keys[key].handle_parse_result(context, options, rest)
        except click.ClickException as error:
            mistakes.append(f".{key}: {_plain(error)}")
        except FeatoodError as error:
            mistakes.append(f".{key}: {error}")
        else:
            words += own
    mistakes += [f".{key} is missing" for key, param in keys.items() if param.required and key not in table]
    return list(mistakes) or [Step(name, command, words, keys, frozenset(table))]


def _command(name: str, table: dict[str, Any]) -> click.Command:
    from featood.cli.root import root

    command = root.get_command(click.Context(root), name)
    assert command is not None
    if isinstance(command, click.Group):
        named = table.pop(STEPS[name], None)
        if not isinstance(named, str):
            raise UsageError(f"{STEPS[name]} must name one, as text")
        command = command.get_command(click.Context(command), named)
        assert command is not None
    return command


def _keys(command: click.Command) -> dict[str, click.Parameter]:
    found = {_key(param): param for param in command.params}
    return {key: param for key, param in found.items() if key not in NOT_IN_FILES}


def _key(param: click.Parameter) -> str:
    """Return the key of a parameter: its first long option, or the name of an argument."""
    return next((text[2:] for text in param.opts if text.startswith("--")), param.name or "")


def _words(key: str, param: click.Parameter, value: Any) -> list[str]:
    """Return the words of the command line for the value of a key.

    Raises
    ------
    UsageError
        If the value has another type than the parameter.
    """
    if isinstance(param, click.Option) and param.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"must be true or false, not {_kind(value)}")
        return [param.opts[0]] if value else param.secondary_opts[:1]
    values = value if isinstance(value, list) else [value]
    # the callback of a parameter that takes several values in one word splits it at commas
    separated = isinstance(value, list) and not param.multiple and param.nargs == 1
    if separated and param.callback is None:
        raise UsageError("takes one value, not a list")
    texts = [_text(one, click.UNPROCESSED if separated else param.type) for one in values]
    if isinstance(param, click.Argument):
        return texts
    return [f"{param.opts[0]}={text}" for text in ([",".join(texts)] if separated else texts)]


def _text(value: Any, kind: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(kind, IntParamType):
        valid, wanted = isinstance(value, int) and number, "a whole number"
    elif isinstance(kind, FloatParamType):
        valid, wanted = number, "a number"
    elif kind is click.UNPROCESSED:
        valid, wanted = number or isinstance(value, str), "text or a number"
    else:
        valid, wanted = isinstance(value, str), "text"
    if not valid:
        raise UsageError(f"must be {wanted}, not {_kind(value)}")
    return value if isinstance(value, str) else repr(value)


def _refuse_code(value: Any, code: Sequence[str]) -> None:
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and "python:" in text and text not in code:
            raise UsageError(f"code is not run because a file names it; add --code {text} to allow it")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    kinds: Mapping[type, str] = {str: "text", dict: "a table", list: "a list"}
    return kinds.get(type(value), str(value))


def _plain(error: click.ClickException) -> str:
    message = getattr(error, "message", "") or error.format_message()
    return f"{message[:1].lower()}{message[1:]}".rstrip(".")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


# ---- writing ------------------------------------------------------------------------------------------


write_run_option = click.option(
    "--write-run",
    type=Place(dir_okay=False),
    help="Write a file with which featood run repeats this command.",
)


def repeatable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Write the file of ``--write-run`` after a command has succeeded."""

    @functools.wraps(function)
    def wrapped(*args: Any, write_run: str | None = None, **kwargs: Any) -> Any:
        done = function(*args, **kwargs)
        if write_run is not None:
            from featood.report.files import write_text
            from featood.reporter import print_line

            context = get_current_context()
            code = {"code": context.params.get("code", ()), "head-file": context.meta.get(HEAD_FILES, ())}
            named = [f"--{key} {value}" for key, values in code.items() for value in values]
            write_text(write_run, run_as_toml(current_run(), named))
            print_line(f"run: {write_run}; featood run {write_run} repeats this command")
        return done

    return wrapped


def pin(**values: str) -> None:
    """Note values that a command has chosen by default, such as the newest extraction, so that a run repeats them."""
    if (context := get_current_context(silent=True)) is not None:
        context.meta[PINNED] = values


def current_run() -> Tables:
    """Return the tables of the command that is executed, after those of the steps before it in a run.

    They contain what was typed, and what was pinned.
    """
    context = get_current_context()
    command, table = context.command, dict[str, Any]()
    parent = context.parent.command.name or "" if context.parent is not None else ""
    name = context.meta.get(STEP) or (parent if STEPS.get(parent) else command.name or "")
    if STEPS[name]:
        table[STEPS[name]] = command.name
    pinned = context.meta.get(PINNED, {})
    for key, param in _keys(command).items():
        assert param.name is not None
        value = context.params.get(param.name)
        if context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE and value is not None:
            table[key] = list(value) if isinstance(value, tuple) else value
        elif key in pinned:
            table[key] = pinned[key]
    done: Tables = context.meta.get(DONE, {})
    return {**done, name: [*done.get(name, ()), table]}


def run_as_toml(tables: Tables, needed: Sequence[str] = ()) -> str:
    """Return the tables of a run as TOML; `needed` lists options that its command line needs."""
    lines = ["# featood run FILE repeats this"]
    lines += [f"# it needs: featood run FILE {option}".replace("\n", " ") for option in needed]
    for name, members in tables.items():
        heading = f"[[{name}]]" if STEPS[name] or len(members) > 1 else f"[{name}]"
        for table in members:
            lines += ["", heading, *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
