"""``featood evaluate``."""

from __future__ import annotations

__all__ = ["evaluate"]

from pathlib import Path
from typing import Any

import rich_click as click

from featood.cli.common import cache_of, split_names, table
from featood.cli.completion import fitted_heads
from featood.cli.protocols import moments, print_failures, print_metric, protocol, set_names
from featood.reporter import TerminalReporter, print_line


@click.group()
def evaluate() -> None:
    """Repeat a published evaluation over several networks and several runs of each.

    Every protocol writes the files of the original, and prints its table. The networks are backbones in the cache, by
    name or pattern: NAME=BACKBONE,BACKBONE or plain-*.
    """


@evaluate.command()
@protocol
@click.option("--kind", "kinds", multiple=True, type=click.Choice(["softmax", "gmm", "ensemble"]),
              help="Kind of model; may be repeated (default: all).")  # fmt: skip
@click.option(
    "--members", type=click.IntRange(2), default=5, show_default=True, help="Networks of an ensemble."
)
@click.option(
    "--bins", type=click.IntRange(1), default=15, show_default=True, help="Bins of the calibration error."
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of training rows for the temperature, where those that a training held out are unknown.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of these rows.")
def ddu(
    networks: tuple[str, ...], cache_root: str, code: tuple[str, ...], ood: tuple[str, ...], suite: tuple[str, ...],
    out: str | None, kinds: tuple[str, ...], **settings: Any,
) -> None:  # fmt: skip
    """Deep Deterministic Uncertainty (Mukhoti et al., CVPR 2023): softmax, density of the features, ensembles.

    Example: featood evaluate ddu 'plain-*' 'sn-mod-*' --ood mnist --ood notmnist --members 3
    """
    from featood.pipeline.protocols.ddu import DDUPlan, ddu_rows, evaluate_ddu
    from featood.report import write_json, write_rows

    plan = DDUPlan(outliers=set_names(ood), suites=suite, kinds=kinds, **settings)
    with TerminalReporter() as reporter:
        evaluations = evaluate_ddu(cache_of(cache_root, code=code), networks, plan, reporter=reporter)
    folder = Path(out or "evaluated/ddu")
    for evaluation in evaluations:
        write_json(folder / evaluation.file, evaluation.results)
    rows = ddu_rows(evaluations)
    write_rows(folder / "table.csv", rows)
    by_kind = {(row["network"], row["kind"]): row for row in rows}
    table(
        ["network", "kind", "runs", "accuracy", "ece"],
        [[*key, row["runs"], moments(row, "accuracy"), moments(row, "ece")] for key, row in by_kind.items()],
    )
    print_metric(rows, ("network", "score"), "auroc")
    for (network, kind), row in by_kind.items():
        if row["failed"]:
            print_line(f"{network}, {kind}: {row['failed']} runs failed and are left out")
    print_line(f"files: {folder}")


@evaluate.command()
@protocol
@click.option(
    "--scorer",
    "scorers",
    multiple=True,
    shell_complete=fitted_heads,
    help="Head to evaluate, fitted if it is not yet; may be repeated (default: the three of HEAT).",
)
@click.option(
    "--combine", multiple=True, help="Head of the composition; may be repeated (default: the three of HEAT)."
)
@click.option(
    "--beta",
    "betas",
    type=float,
    multiple=True,
    help="Parameter of the composition: 0 for the sum, inf, -inf, ...; may be repeated (default: 0).",
)
@click.option("--combine-only", is_flag=True, help="Evaluate only the composition.")
def heat(
    networks: tuple[str, ...], cache_root: str, code: tuple[str, ...], ood: tuple[str, ...], suite: tuple[str, ...],
    out: str | None, combine_only: bool, dataset: str, data_dir: str | None, **chosen: tuple[Any, ...],
) -> None:  # fmt: skip
    """HEAT (Lafon et al., ICML 2023): FPR95 and AUROC of its heads and of their composition.

    Example: featood evaluate heat 'resnet34-*' --suite cifar10-far --scorer heat-gmm --scorer knn --beta 0 --beta inf
    """
    from featood.pipeline.protocols.heat import HEATPlan, evaluate_heat
    from featood.report import write_json, write_rows

    given = {name: values for name, values in chosen.items() if values}
    plan = HEATPlan(
        dataset=dataset,
        outliers=set_names(ood),
        suites=suite,
        data_dir=data_dir,
        combine_only=combine_only,
        **given,
    )
    with TerminalReporter() as reporter:
        rows, failed = evaluate_heat(cache_of(cache_root, code=code), networks, plan, reporter=reporter)
    folder = Path(out or "evaluated/heat")
    write_json(folder / "results.json", {"rows": rows, "failed": [failure._asdict() for failure in failed]})
    write_rows(
        folder / "table.csv", [{k: v for k, v in row.items() if not k.endswith("_values")} for row in rows]
    )
    for metric in ("fpr95", "auroc"):
        print_metric(rows, ("network", "scorer", "runs"), metric)
    print_failures(failed, folder)


@evaluate.command()
@protocol
@click.option(
    "--head",
    "heads",
    multiple=True,
    shell_complete=fitted_heads,
    help="Fitted head to score as well; may be repeated.",
)
@click.option(
    "--max-eval",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Most rows of a set, the same number of both sets (0: all rows).",
)
@click.option(
    "--eval-classification/--no-eval-classification",
    "classification",
    default=True,
    show_default=True,
    help="Evaluate accuracy and calibration.",
)
@click.option(
    "--eval-ood-calibration/--no-eval-ood-calibration",
    "ood_calibration",
    default=True,
    show_default=True,
    help="Evaluate the divergence of the predictions on OOD rows from the uniform distribution.",
)
@click.option(
    "--name", default="results", show_default=True, help="Name of the files: ood-NAME.csv and clf-NAME.csv."
)
def thesis(
    networks: tuple[str, ...], cache_root: str, code: tuple[str, ...], ood: tuple[str, ...], suite: tuple[str, ...],
    out: str | None, name: str, **settings: Any,
) -> None:  # fmt: skip
    """Evaluate every score of the logits, accuracy and calibration, as a thesis on energy-based models does.

    Example: featood evaluate thesis 'wrn-*' --ood svhn --ood textures --head jem --name cifar10
    """
    from featood.names import check_name
    from featood.pipeline.protocols.thesis import ThesisPlan, evaluate_thesis, mean_rows
    from featood.report import write_rows

    check_name(name, "the name of the files")
    plan = ThesisPlan(outliers=set_names(ood), suites=suite, **settings)
    with TerminalReporter() as reporter:
        tables = evaluate_thesis(cache_of(cache_root, code=code), networks, plan, reporter=reporter)
    folder = Path(out or "evaluated/thesis")
    write_rows(folder / f"ood-{name}.csv", tables.ood)
    write_rows(folder / f"clf-{name}.csv", tables.classification)
    print_metric(mean_rows(tables.ood), ("network", "score", "runs"), "AUROC", 1.0)
    for row in mean_rows(tables.classification):
        values = (f"{metric} {moments(row, metric, 1.0, 4)}" for metric in row if f"{metric}_se" in row)
        print_line(f"{row['network']}{row['ood'] and ' on '}{row['ood']}: {', '.join(values)}")
    print_failures(tables.failed, folder)


@evaluate.command()
@protocol
@click.option(
    "--latent-feature", default="", help="Column with latents (default: an encoder is trained on features)."
)
@click.option(
    "--stages", default="", help="Columns to join with them, comma-separated (default: every .avg column)."
)
@click.option(
    "--original", default="", help="Column of the first stage, to be compared with --reconstruction."
)
@click.option("--reconstruction", default="", help="Column of the same stage for reconstructed images.")
@click.option(
    "--tpr",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Share of held-out rows that the threshold accepts.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of training rows for the threshold, where those that a training held out are unknown.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of these rows.")
def vmdls(
    networks: tuple[str, ...], cache_root: str, code: tuple[str, ...], ood: tuple[str, ...], suite: tuple[str, ...],
    out: str | None, latent_feature: str, stages: str, original: str, reconstruction: str, **settings: Any,
) -> None:  # fmt: skip
    """VMDLS (Dinari and Freifeld, UAI 2022): detection and open-set classification by densities of latents and stages.

    Example: featood evaluate vmdls 'vmdls-*' --ood omniglot --latent-feature mu.avg
    """
    from featood.pipeline.protocols.vmdls import VMDLSPlan, evaluate_vmdls
    from featood.report import write_json, write_rows

    options = {
        "latent_feature": latent_feature, "stages": tuple(split_names(stages)), "original": original,
        "reconstruction": reconstruction,
    }  # fmt: skip
    plan = VMDLSPlan(outliers=set_names(ood), suites=suite, options=options, **settings)
    with TerminalReporter() as reporter:
        rows, failed = evaluate_vmdls(cache_of(cache_root, code=code), networks, plan, reporter=reporter)
    folder = Path(out or "evaluated/vmdls")
    write_json(folder / "results.json", {"rows": rows, "failed": [failure._asdict() for failure in failed]})
    write_rows(
        folder / "table.csv", [{k: v for k, v in row.items() if not k.endswith("_values")} for row in rows]
    )
    first = [[row["network"], row["ood"], str(row["runs"])] for row in rows]
    decided = ("f1_macro", "known_accuracy", "unknown_accuracy", "open_mistakes")
    table(
        ["network", "ood", "runs", "threshold", "F1", "known", "unknown", "open"],
        [
            [*names, moments(row, "threshold", 1.0), *(moments(row, metric) for metric in decided)]
            for names, row in zip(first, rows, strict=True)
        ],
    )
    found = ("closed_accuracy", "auroc", "cauroc", "fpr95")
    table(
        ["network", "ood", "runs", "accuracy", "AUROC", "CAUROC", "FPR95"],
        [
            [*names, *(moments(row, metric) for metric in found)]
            for names, row in zip(first, rows, strict=True)
        ],
    )
    print_line(
        "F1: macro-F1 with unknown as a class; known, unknown: accuracy on known and unknown rows; open: share of the "
        "mistakes on known rows that are rejections; accuracy: without rejection"
    )
    print_line("all but the threshold in percent, mean ± standard error over the runs")
    print_failures(failed, folder)
