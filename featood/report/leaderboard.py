"""The page of a leaderboard, in Markdown."""

from __future__ import annotations

__all__ = ["leaderboard_page"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featood.report.comparison import probability
from featood.report.documents import markdown_text
from featood.report.rows import percent, printable

TOP = 20
"""Number of lines of a table that are always shown; the rest is folded."""
READING = """All heads were fitted and scored on the same cached features, so a table compares heads on one network.
Tables are sorted by mean AUROC, in which near and far have equal weight, whatever their numbers of sets. Numbers are
in percent, except seconds.

- **[ ]**: {level} % interval of AUROC by DeLong's variance. It says how much AUROC would vary with other test rows of
  the same sets, and nothing about other networks or other sets.
- **clique**: heads that share a number do not differ significantly in mean AUROC (DeLong's paired test on the same
  rows, corrected for all pairs by Holm's method). The order of the heads within a clique means nothing.
- **seeds** and **±**: heads that draw random numbers were fitted with several seeds. Their numbers are means over the
  fits, and ± is the standard error of the mean. Intervals and cliques are about these fits: where ± is large, other
  seeds may change the order.
- **FPR95**: share of the OOD rows that are accepted when 95 % of the ID rows are; lower is better.
- **=**: heads that rank all rows alike; times are those of the first.
- **fit s**, **score s**: seconds of a fit, and of scoring the ID rows and one OOD set, by one thread, while other fits
  ran on the same machine. To compare speed, use `featood bench`.

AUROC, FPR95 and AUPR on each set, with bootstrap intervals, are in `results.jsonl` beside the digests of the sets, the
options of the head and the versions of the libraries. `--verify` makes chosen fits again and compares them.

The best head here need not be the best on other data: compare some of several families on your own, by
`featood score --all`."""
UNTUNED = """Nothing was tuned for this page. Every head has its defaults, or, where it has presets for the kind of
network, the published settings, except for what is listed below. A head that depends much on an option, such
as a number of neighbours, a share to prune or the length of a training, may be better after `featood tune` with
another OOD set: a low rank says that a head is not good untuned, not that it cannot be. The networks were not chosen
for any head, either; a head that was published with a training of its own is scored on them all the same."""


def leaderboard_page(tables: Mapping[str, Any], command: str) -> str:
    """Return the page.

    Parameters
    ----------
    tables : dict
        See :func:`featood.pipeline.leaderboard.tables.tables`.
    command : str
        The command that makes it.
    """
    plan = tables["plan"]
    parts = [
        "# Leaderboard",
        f"{_count(tables)}, made by one command from cached features:",
        f"```text\n{command}\n```",
        "## How to read it",
        READING.format(level=f"{100 * plan['level']:.4g}"),
        "## What was not tuned",
        "\n".join([UNTUNED, *_settings(plan)]),
    ]
    if len(tables["ranking"]["benchmarks"]) > 1:
        parts += _ranking(tables)
    for name, body in tables["benchmarks"].items():
        parts += _benchmark(name, body, tables["families"])
    if tables["pending"]:
        parts.append(f"Nothing was fitted yet on {', '.join(map(_text, tables['pending']))}.")
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in tables["versions"].items())
    return "\n\n".join([*parts, f"Versions: {markdown_text(versions)}."]) + "\n"


def _count(tables: Mapping[str, Any]) -> str:
    heads = {
        head for body in tables["benchmarks"].values() for row in body["standings"] for head in _names(row)
    }
    networks = len(tables["benchmarks"])
    return f"{len(heads)} heads on {networks} network{'s' * (networks > 1)}"


def _names(row: Mapping[str, Any]) -> list[str]:
    return [row["head"], *row["same"]]


def _settings(plan: Mapping[str, Any]) -> Iterator[str]:
    """Describe the settings of the plan that are not the defaults."""
    if plan["note"]:
        yield f"\n{markdown_text(printable(plan['note']))}"
    if plan["epochs"] is not None:
        yield f"\nHeads that train a network have {plan['epochs']} epochs each, which may be too few for some."
    if plan["options"]:
        yield "\nOptions that are not the defaults:\n"
    for head, options in plan["options"].items():
        given = ", ".join(f"{name}={_value(value)}" for name, value in options.items())
        yield f"- {_code(head)}: {markdown_text(printable(given))}"


def _value(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


def _ranking(tables: Mapping[str, Any]) -> list[str]:
    """Return the section with the mean ranks."""
    ranking = tables["ranking"]
    names = ranking["benchmarks"]
    tested = ranking["p"] is not None
    text = (
        f"The {len(ranking['heads'])} heads that were scored on all {len(names)} networks: mean rank, and rank by mean "
        "AUROC (in brackets) on each."
    )
    if left := [_text(name) for name in tables["benchmarks"] if name not in names]:
        text += f" By the plan, {', '.join(left)} does not count here."
    if tested:
        differ = "differ" if ranking["p"] < 1 - tables["plan"]["level"] else "do not differ"
        text += (
            f" The ranks {differ} (Friedman, p {probability(ranking['p'])}). Heads that share a number under *clique* "
            "do not differ in mean rank (Conover, Holm); tests with so few networks find only large differences."
        )
    columns = ["", "head", "family", "mean rank", *(["clique"] if tested else []), *map(_text, names)]
    lines = [
        [
            str(place),
            _code(row["head"]),
            tables["families"].get(row["head"], ""),
            f"{row['mean_rank']:.1f}",
            *([_span(row["cliques"])] if tested else []),
            *(f"{row['ranks'][name]:g} ({percent(row['auroc'][name])})" for name in names),
        ]
        for place, row in enumerate(ranking["heads"], 1)
    ]
    title = "All networks" if len(names) == len(tables["benchmarks"]) else "Most networks"
    return [f"## {title}", text, *_table(columns, lines)]


def _benchmark(name: str, body: Mapping[str, Any], families: Mapping[str, str]) -> list[str]:
    """Return the section of one network."""
    groups = list(body["groups"])
    rows = ", ".join(f"{_text(part)} {count:,}" for part, count in body["rows"].items())
    how = "rows of the same set" if body["divided"] else "training rows"
    facts = [
        f"Fitted on {body['fitted_on']:,} {how}. Rows scored: {rows}.",
        *(f"{group.capitalize()}: {', '.join(map(_text, sets))}." for group, sets in body["groups"].items()),
    ]
    columns = ["", "head", "family", *(f"AUROC {group}" for group in groups), "mean", "clique"]
    columns += [*(f"FPR95 {group}" for group in groups), "seeds", "fit s", "score s"]
    lines = [
        [
            str(place),
            " = ".join(map(_code, _names(row))),
            families.get(row["head"], ""),
            *(_interval(row["auroc"][group]) for group in groups),
            percent(row["auroc"]["mean"][0]) + ("" if row["error"] is None else f" ±{percent(row['error'])}"),
            _span(row["cliques"]),
            *(percent(row["fpr95"][group]) for group in groups),
            str(row["seeds"]),
            f"{row['fit_s']:.3g}",
            f"{row['score_s']:.3g}",
        ]
        for place, row in enumerate(body["standings"], 1)
    ]
    parts = [f"## {_text(name)}", " ".join(facts), *_table(columns, lines)]
    if body["left_out"]:
        reasons = [[_code(head), _text(reason)] for head, reason in body["left_out"].items()]
        parts += _folded(f"{len(reasons)} heads are left out", [_rows(["head", "reason"], reasons)])
    if body["missing"]:
        parts.append(f"Not fitted: {', '.join(map(_code, body['missing']))}.")
    return parts


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return a table whose lines after the first few are folded."""
    parts = [_rows(columns, lines[:TOP])]
    rest = lines[TOP:]
    return parts + (_folded(f"Ranks {TOP + 1} to {len(lines)}", [_rows(columns, rest)]) if rest else [])


def _folded(title: str, parts: Sequence[str]) -> list[str]:
    return [f'<details markdown="1">\n<summary>{title}</summary>', *parts, "</details>"]


def _rows(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    text = ("head", "family", "reason")
    marks = [":--" if name in text else "--:" for name in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, marks, *lines))


def _interval(bounds: Sequence[float]) -> str:
    value, low, high = map(percent, bounds)
    return f"{value} [{low}, {high}]"


def _span(numbers: Sequence[int]) -> str:
    first, last = numbers
    return str(first) if first == last else f"{first} to {last}"


def _text(name: str) -> str:
    return markdown_text(printable(name))


def _code(name: str) -> str:
    return f"`{printable(name).replace('`', '').replace('|', '')}`"
