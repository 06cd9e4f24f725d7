"""``featood verify``."""

from __future__ import annotations

__all__ = ["print_verdicts", "verify"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich_click as click

from featood.cli.common import cache_option, emit_json, head_file_option
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.pipeline.verification import Verdict


@click.command()
@click.argument("results", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@head_file_option
@cache_option
def verify(results: str, as_json: bool, cache_root: str) -> None:
    """Recompute RESULTS (of score --json) from the cache and compare.

    The exit code is 0 if every row is confirmed, bit-identical or up to rounding (with a message); 5 if a row, a head
    or a set has changed; and 4 if the cache is damaged. Results of dense score are not verified: score into another
    folder by --maps, and compare the files of both.

    Example: featood verify results.json
    """
    from featood.cache import open_cache
    from featood.pipeline.verification import verify_results

    with TerminalReporter() as reporter:
        verdicts = verify_results(results, open_cache(cache_root), reporter=reporter)
    print_verdicts(results, verdicts, as_json)


def print_verdicts(file: str, verdicts: Sequence[Verdict], as_json: bool = False) -> None:
    """Print the verdicts on a file.

    Raises
    ------
    CacheCorrupt, Mismatch
        If a part of it differs from what the cache gives.
    """
    from featood.errors import CacheCorrupt, Mismatch
    from featood.pipeline.verification import DIFFERENT, ROUNDED

    if as_json:
        emit_json([verdict._asdict() for verdict in verdicts])
    else:
        for what, outcome, why, _ in verdicts:
            click.echo(f"{outcome}: {what}" + (f": {why}" if why else ""))
    wrong = [verdict for verdict in verdicts if verdict.outcome == DIFFERENT]
    if wrong:
        kind = CacheCorrupt if any(verdict.exit_code == 4 for verdict in wrong) else Mismatch
        raise kind(f"{file}: {len(wrong)} of {len(verdicts)} parts differ from what the cache gives: {wrong[0].what}"
                   + (", ..." if len(wrong) > 1 else ""))  # fmt: skip
    if any(verdict.outcome == ROUNDED for verdict in verdicts):
        print_line(f"{file}: confirmed up to rounding, not bit-identical")
