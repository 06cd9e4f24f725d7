"""``featood migrate``."""

from __future__ import annotations

__all__ = ["migrate"]

from pathlib import Path
from typing import Any

import rich_click as click

from featood.cli.common import SHARE, Place, data_dir_option, detector_code_option, numbers, quiet_downloads
from featood.cli.completion import image_sets
from featood.cli.options import parse_pairs
from featood.cli.threshold import print_calibration
from featood.reporter import TerminalReporter, print_line


@click.command()
@click.argument("detector", type=Place(file_okay=False))
@click.option("--backbone", required=True, help="The other network; see featood extract.")
@click.option(
    "--images", required=True, shell_complete=image_sets,
    help="In-distribution images, some hundreds, whose labels are not used: name of a dataset, or a folder.",
)  # fmt: skip
@click.option("--split", default="", help="Split of the dataset (default: the first).")
@click.option("--weights", default="", help="File of weights (default: the published weights).")
@click.option(
    "--arch-option",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of a network of featood, such as sn=true.",
)
@click.option("--mean", callback=numbers, help="Mean of each channel on [0, 1], comma-separated.")
@click.option(
    "--std", callback=numbers, help="Standard deviation of each channel on [0, 1], comma-separated."
)
@click.option("--image-size", type=click.IntRange(1), help="Side of the square input in pixels.")
@click.option(
    "--fit-share", type=SHARE, default=0.5, show_default=True,
    help="Share of the images to fit the head on, if it learns; the others calibrate it.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of their choice.")
@click.option("--out", type=Place(file_okay=False), help="Folder to write (default: DETECTOR-migrated).")
@detector_code_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
@quiet_downloads
def migrate(
    detector: str, backbone: str, images: str, split: str, weights: str, arch_option: tuple[str, ...], mean: Any,
    std: Any, image_size: int | None, fit_share: float, seed: int, out: str | None, code: tuple[str, ...],
    as_json: bool, data_dir: str | None,
) -> None:  # fmt: skip
    """Move a DETECTOR to another network, by some hundred in-distribution images without labels.

    The head is fitted again with the same options, and calibrated for the same rate of false alarms. With labelled
    images, featood extract, fit and threshold make a better one.

    Example: featood migrate knn-detector --backbone resnet50 --images photos/
    """
    from featood.errors import UsageError
    from featood.pipeline.detectors import Detector
    from featood.pipeline.detectors.migration import migrate_detector
    from featood.pipeline.extraction import ImageSource, Network

    place = Path(out or f"{detector.rstrip('/')}-migrated")
    if place.exists():
        raise UsageError(f"{place} exists; choose another folder by --out, or delete it")
    network = Network(backbone, weights, "", seed, mean, std, image_size, options=parse_pairs(arch_option))
    source = ImageSource(images, (split,) if split else (), data_dir)
    with TerminalReporter() as reporter:
        found = migrate_detector(
            Detector.load(detector, code), source, network, fit_share=fit_share, seed=seed,
            code=[*code, *([backbone] if backbone.startswith("python:") else [])], reporter=reporter,
        )  # fmt: skip
    found.detector.save(place)
    further = {name: getattr(found, name) for name in ("fitted", "flagged_before", "rank_correlation")}
    print_calibration(found.detector.calibration, place, as_json, **further)
    if as_json:
        return
    click.echo(f"the earlier detector flags {100 * found.flagged_before:.2f} % of these images")
    click.echo(f"rank correlation between the scores of both: {found.rank_correlation:.3f}")
    print_line(f"detector: {place}; next: featood predict {place} FILES")
