"""``featood threshold``."""

from __future__ import annotations

__all__ = ["print_calibration", "threshold"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.cli.common import (
    SHARE,
    Place,
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    data_dir_option,
    dataset_option,
    emit_json,
    head_file_option,
)
from featood.cli.completion import fitted_heads
from featood.cli.runs import repeatable, write_run_option
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.heads.base.calibration import Calibration


@click.command()
@click.argument("head", shell_complete=fitted_heads)
@click.option(
    "--tpr", type=SHARE, default=0.95, show_default=True, help="Share of in-distribution images to accept."
)
@click.option(
    "--confidence",
    type=SHARE,
    help="Accept that share for this share of all calibration sets, not only on average.",
)
@click.option("--by-class", is_flag=True, help="A threshold for each predicted class.")
@click.option("--split", default="", help="In-distribution split to calibrate on (default: val, else test).")
@click.option("--out", type=Place(file_okay=False), help="Folder of the detector (default: HEAD-detector).")
@click.option(
    "--training-rows", type=click.IntRange(0), default=10_000, show_default=True,
    help="Keep the features of at most so many training images, for predict --neighbours.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Accept rows that the head was fitted on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@code_option
@head_file_option
@dataset_option
@backbone_option
@data_dir_option
@cache_option
@write_run_option
@repeatable
def threshold(
    head: str, tpr: float, confidence: float | None, by_class: bool, split: str, out: str | None,
    training_rows: int, force: bool, as_json: bool, backbone: str, dataset: str, data_dir: str | None,
    cache_root: str, code: tuple[str, ...],
) -> None:  # fmt: skip
    """Choose the threshold of a fitted HEAD, and write the detector, a folder for featood predict.

    The threshold accepts a share --tpr of new in-distribution images. It is an order statistic of the scores of a
    calibration set, which the head was not fitted on.

    Example: featood threshold knn --tpr 0.95
    """
    from featood.pipeline.detectors import Detector
    from featood.pipeline.detectors.making import write_detector

    with TerminalReporter() as reporter:
        cache = cache_of(cache_root, backbone, code)
        found, place = write_detector(
            cache, head, tpr, out, confidence=confidence, by_class=by_class, split=split, force=force,
            backbone=backbone, dataset=dataset, data_dir=data_dir, training_rows=training_rows, reporter=reporter,
        )  # fmt: skip
    assert found.calibration is not None
    print_calibration(found.calibration, place, as_json)
    if not as_json:
        inputs = "FILES" if isinstance(found, Detector) else "FILES of features, tables or arrays"
        print_line(f"detector: {place}; next: featood predict {place} {inputs}")


def print_calibration(calibration: Calibration, place: Path, as_json: bool, **further: Any) -> None:
    """Print a threshold and how it was calibrated; as JSON with `further` entries."""
    record, limits = dict(calibration.record), calibration.thresholds
    if as_json:
        emit_json({**record, "thresholds": limits.tolist(), "detector": str(place), **further})
        return
    shown = f"{limits[0]:.6g}" if len(limits) == 1 else f"{limits.min():.6g} to {limits.max():.6g}, by class"
    click.echo(f"threshold: {shown}")
    click.echo(f"calibrated on {record['set']}, {record['rows']} rows")
    if record["alarm_rate_low"] is not None:
        low, high = 100 * record["alarm_rate_low"], 100 * record["alarm_rate_high"]
        click.echo(
            f"false alarms on new in-distribution images: {low:.2f} to {high:.2f} % (95 % of calibration sets)"
        )
