"""``featood run``."""

from __future__ import annotations

__all__ = ["run"]

import rich_click as click
from click import get_current_context

from featood.cli.common import code_option, head_file_option
from featood.cli.runs import DONE, PINNED, STEP, current_run, read_run, steps_of
from featood.reporter import print_line


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only check the file, and print the commands.")
@code_option
@head_file_option
def run(file: str, dry_run: bool, code: tuple[str, ...]) -> None:
    """Run the steps in FILE, a TOML file with tables such as [extract], [[fit]], [score] and [report].

    The keys of a table are the long options of the command, such as batch-size = 64; [[fit]] has the key head, too. The
    whole file is checked before the first step. Extractions and fits that were done before are not repeated. Paths are
    relative to the current folder, as on the command line. FILE may also be results of featood score --json, which
    contain their run.

    Example: featood run experiment.toml
    """
    from featood.errors import UsageError

    context = get_current_context()
    tables = read_run(file)
    steps, mistakes = steps_of(tables, code)
    for mistake in mistakes:
        print_line(f"{file}: {mistake}")
    if mistakes:
        count = f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}"
        raise UsageError(f"{file} has {count}; nothing was run")
    if dry_run:
        for step in steps:
            click.echo(step.text)
        return
    context.meta[DONE] = {}
    chosen: dict[str, str] = {}
    for number, step in enumerate(steps, 1):
        words = [*step.words, *(f"--code={name}" for name in code if "code" in _options(step.command))]
        if step.name not in ("train", "extract", "import"):  # of the set that this run has made
            words += [
                f"--{key}={value}"
                for key, value in chosen.items()
                if key in step.keys and key not in step.given
            ]
        print_line(f"step {number} of {len(steps)}: {step.text}")
        context.meta[STEP] = step.name
        context.meta.pop(PINNED, None)
        with step.command.make_context(step.command.name, words, parent=context) as inner:
            done = step.command.invoke(inner)
            context.meta[DONE] = current_run()
        if step.name in ("extract", "import") and done:
            backbone, dataset, _ = done.rsplit("/", 2)
            chosen = chosen or {"backbone": backbone, "dataset": dataset}


def _options(command: click.Command) -> set[str]:
    return {param.name or "" for param in command.params}
