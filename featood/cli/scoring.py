"""Shared by ``featood score`` and ``featood report``: options, and the scoring that they describe."""

from __future__ import annotations

__all__ = ["run_scoring", "what_to_score", "what_to_show"]

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import (
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    head_file_option,
    split_names,
)
from featood.cli.completion import fitted_heads, outlier_sets, shifted_sets, suites
from featood.cli.engines import engine_of, engine_options
from featood.cli.runs import current_run, pin
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.pipeline.comparison import Uncertainty
    from featood.pipeline.scoring import Scoring


def _known_suites(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    if names:
        from featood.data import suite

        for name in names:
            suite(name)
    return names


def what_to_score(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that ``score`` and ``report`` share."""
    flag = {"is_flag": True}
    head, ood, suite, shifted = (
        {"multiple": True, "shell_complete": names}
        for names in (fitted_heads, outlier_sets, suites, shifted_sets)
    )
    named = (
        ("--head", "heads", head, "Head to score with: a name or the folder of a fitted head (default: all fitted)."),
        ("--all", "every", flag, "Score every head whose inputs are in the cache, fitting those not fitted yet."),
        ("--training", "training", flag, "With --all: also fit heads that train a network (minutes each)."),
        ("--which", "which", {"default": ""}, "Score of heads that have several, or 'all' (default: as fitted)."),
        ("--ood", "ood", ood, "Out-of-distribution set; may be repeated or comma-separated."),
        ("--suite", "suite", {**suite, "callback": _known_suites}, "A named list of sets, such as cifar10-near."),
        ("--shifted", "shifted", shifted,
         "Set of the same classes, or list such as imagenet-shifted, whose rows count as in-distribution, too "
         "(full-spectrum detection); may be repeated or comma-separated."),
        ("--split", "split", {"default": ""}, "In-distribution split to score (default: test, else val)."),
        ("--limit", "limit", {"type": click.IntRange(1)},
         "For a quick try: use only so many images of each set but the in-distribution set, as NAME:limit=N."),
        ("--download", "download", flag, "Download sets that are missing and have a public address."),
        ("--intervals", "intervals", {"type": click.Choice(["delong", "bootstrap"])},
         "Add intervals and test which heads differ: AUROC by DeLong's formula, or every metric by bootstrap."),
        ("--confidence", "confidence", {"type": click.FloatRange(0, 100, min_open=True, max_open=True)},
         "Confidence level of the intervals, in percent (default: 95)."),
        ("--resamples", "resamples", {"type": click.IntRange(1)}, "Number of bootstrap resamples (default: 1000)."),
        ("--force", "force", flag, "Accept features of another backbone, and sets that heads were fitted or tuned on."),
    )  # fmt: skip
    for add in (
        engine_options,
        cache_option,
        data_dir_option,
        head_file_option,
        code_option,
        dataset_option,
        backbone_option,
    ):
        command = add(command)
    for name, parameter, kind, text in reversed(named):
        command = click.option(name, parameter, help=text, **kind)(command)
    return command


def what_to_show(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the HTML report."""
    command = click.option(
        "--umap/--no-umap", default=None,
        help="Map the features by UMAP in the report, too, in half a minute (default: if it is installed).",
    )(command)  # fmt: skip
    return click.option(
        "--thumbnails/--no-thumbnails", default=True, show_default=True,
        help="Embed small pictures of the hardest rows in the report.",
    )(command)  # fmt: skip


def run_scoring(
    heads: tuple[str, ...], every: bool, training: bool, which: str, ood: tuple[str, ...], suite: tuple[str, ...],
    shifted: tuple[str, ...], split: str, limit: int | None, force: bool, download: bool,
    intervals: str | None, confidence: float | None, resamples: int | None,
    backbone: str, dataset: str, data_dir: str | None, cache_root: str, code: tuple[str, ...],
    engine: str, ray_address: str, ray_gpus: float | None,
) -> Scoring:  # fmt: skip
    """Score as the shared options say, and print warnings and heads that are left out."""
    from featood.errors import UsageError
    from featood.pipeline.scoring import ScorePlan, score_selection
    from featood.pipeline.selection import select

    if every and heads:
        raise UsageError("--all scores every head; use either --all or --head")
    if training and not every:
        raise UsageError("--training is for --all; fit the heads by featood fit, or add --all")
    if every and which:
        raise UsageError("--all scores every head as it was fitted; omit --all to use --which")
    names, further = ([name for group in given for name in split_names(group)] for given in (ood, shifted))
    how = ScorePlan(
        split, which, force, _uncertainty(intervals, confidence, resamples), tuple(further), limit or 0
    )
    with engine_of(engine, ray_address, ray_gpus) as place, TerminalReporter() as reporter:
        selection = select(cache_of(cache_root, backbone, code), backbone, dataset, data_dir)
        selection = dataclasses.replace(selection, download=download, engine=place)
        pin(backbone=selection.backbone, dataset=selection.dataset)
        if every:
            from featood.pipeline.scoring_all import score_all

            scoring = score_all(selection, names, suite, how, training=training, reporter=reporter)
        else:
            scoring = score_selection(selection, heads, names, suite, how, reporter=reporter)
    scoring.results["run"] = current_run()
    for warning in scoring.results["warnings"]:
        print_line(f"warning: {warning}")
    for entry in scoring.results["skipped"]:
        print_line(f"left out {entry['head']}: {entry['reason']}")
    return scoring


def _uncertainty(method: str | None, confidence: float | None, resamples: int | None) -> Uncertainty | None:
    from featood.errors import UsageError

    given: dict[str, Any] = {} if confidence is None else {"level": confidence / 100}
    if resamples is not None:
        given["resamples"] = resamples
    if (given and method is None) or (resamples is not None and method == "delong"):
        option = (
            "--resamples goes with --intervals bootstrap"
            if resamples
            else "--confidence goes with --intervals"
        )
        raise UsageError(f"{option}, which was not given; add it")
    if method is None:
        return None
    from featood.pipeline.comparison import Uncertainty

    return Uncertainty(method, **given)
