"""``featood predict``."""

from __future__ import annotations

__all__ = ["predict"]

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import rich_click as click

from featood.cli.common import SHARE, Place, detector_code_option, head_file_option
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.pipeline.detectors import Prediction


@click.command()
@click.argument("detector")
@click.argument("files", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image and line.")
@click.option(
    "--parquet", type=Place(dir_okay=False), help="Write all predictions as Parquet, and print none."
)
@click.option(
    "--neighbours", type=click.IntRange(0), default=0, metavar="K",
    help="Show the K nearest training images of each, with their distance.",
)  # fmt: skip
@click.option(
    "--false-share", type=SHARE,
    help="Decide on all images together, such that at most this share of the flagged ones is expected to be "
    "in-distribution (Benjamini and Hochberg), instead of by the threshold.",
)  # fmt: skip
@click.option("--exit-code", is_flag=True, help="Exit with 1 if an image is out-of-distribution.")
@click.option("--device", default="auto", show_default=True, help="Device of the network.")
@detector_code_option
@head_file_option
@click.option("--no-test", is_flag=True, help="Do not test the detector on its golden inputs.")
@click.option(
    "--probes", type=Place(dir_okay=False), metavar="FILE",
    help="For a detector of features: those of its probes, computed again, to test that the encoder is the same.",
)  # fmt: skip
def predict(
    detector: str, files: tuple[str, ...], as_json: bool, parquet: str | None, neighbours: int,
    false_share: float | None, exit_code: bool, device: str, code: tuple[str, ...], no_test: bool,
    probes: str | None,
) -> None:  # fmt: skip
    """Decide for each image in FILES whether it is out-of-distribution, by a DETECTOR of featood threshold.

    FILES are images, folders, packed images (.npy, .npz), image lists, or - for names on standard input. Each line has
    the decision, the score (higher = more out-of-distribution), its p-value, the predicted class and the name.

    A detector of imported features, or a calibrated head, decides on their rows: FILES are tables or arrays.

    Example: featood predict knn-detector photos/
    """
    from featood.errors import DataError, UsageError
    from featood.pipeline.detectors import Detector
    from featood.pipeline.detectors.batch import flag_discoveries
    from featood.pipeline.detectors.files import as_record, predict_files
    from featood.pipeline.detectors.rows import is_head, load_calibrated, predict_rows, read_features
    from featood.remote import local_folder

    folder = local_folder(detector)
    what = "images"
    kept: list[Prediction] = []
    unread = out = total = 0
    note = ""
    with TerminalReporter() as reporter:
        decided: Iterable[Prediction]
        if is_head(folder):
            if neighbours:
                raise UsageError(
                    f"{detector} decides on features, and has no training rows to show; omit --neighbours"
                )
            head, calibration = load_calibrated(folder, test=not no_test)
            if probes is not None:
                calibration.probes.check_encoder(read_features(head, probes, reporter))
            what, decided = "rows", predict_rows(head, files, sys.stdin, reporter)
        else:
            if probes is not None:
                raise UsageError(f"{detector} tests its network by its own golden images; omit --probes")
            found = Detector.load(folder, code, device, test=not no_test)
            calibration, decided = (
                found.calibration,
                predict_files(found, files, sys.stdin, neighbours, reporter),
            )
        if false_share is not None:
            decided, bound = flag_discoveries(calibration, list(decided), false_share)
            note = f", of which at most {bound} are not, with 95 % confidence"
        for one in decided:
            total += 1
            unread += bool(one.error)
            out += bool(one.out)
            if parquet:
                kept.append(one)
            else:
                click.echo(json.dumps(as_record(one)) if as_json else _line(one))
    if parquet:
        from featood.pipeline.detectors.files import write_predictions

        write_predictions(parquet, kept)
    print_line(f"{out} of {total - unread} {what} are out-of-distribution{note}")
    if unread:
        raise DataError(f"{unread} of {total} {what} could not be read; their lines say why")
    if exit_code and out:
        sys.exit(1)


def _line(one: Prediction) -> str:
    if one.error:
        return f"unread  {'':>12} {'':>8}  {one.id}: {one.error}"
    named = one.class_name or ("" if one.predicted is None else str(one.predicted))
    decision = "OUT" if one.out else "in"
    line = f"{decision:<6}  {one.score:>12.6g} {one.p_value:>8.3g}  {one.id}{f'  ({named})' if named else ''}"
    for near in one.neighbours:
        line += f"\n{'':>20} {near.distance:>8.3g}  {near.id}{f'  ({near.class_name})' if near.class_name else ''}"
    return line
