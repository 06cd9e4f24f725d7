"""``featood export``."""

from __future__ import annotations

__all__ = ["export"]

import dataclasses

import rich_click as click

from featood.cli.common import (
    Place,
    backbone_option,
    cache_of,
    cache_option,
    code_option,
    dataset_option,
    emit_json,
)
from featood.cli.completion import fitted_heads
from featood.reporter import TerminalReporter, print_line


@click.command()
@click.argument("source", metavar="DETECTOR_OR_HEAD", shell_complete=fitted_heads)
@click.argument("file", type=Place(dir_okay=False))
@click.option(
    "--head-only", is_flag=True, help="Of a detector, export the head alone: from features to scores."
)
@click.option(
    "--image-size", type=(int, int), metavar="HEIGHT WIDTH",
    help="Size of all images, which the graph then resizes (default: that of the network's inputs).",
)  # fmt: skip
@click.option(
    "--tolerance", type=float, default=1e-4, show_default=True,
    help="Largest difference of a score, relative to its size or to the spread of the scores.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@code_option
@dataset_option
@backbone_option
@cache_option
def export(
    source: str, file: str, head_only: bool, image_size: tuple[int, int] | None, tolerance: float, as_json: bool,
    backbone: str, dataset: str, cache_root: str, code: tuple[str, ...],
) -> None:  # fmt: skip
    """Write a detector (a folder of featood threshold), or a fitted head, to FILE for other runtimes.

    FILE ends in .onnx or .pt2 (torch.export). Of a detector, it holds network, head and thresholds: 8-bit images in;
    score, p-value, decision and predicted class out. Of a head, columns in and scores out. The file is run and compared
    with the original, and is not written if it differs.

    Example: featood export knn-detector knn.onnx
    """
    from featood.errors import UsageError
    from featood.pipeline.export import export_detector, export_head
    from featood.pipeline.export.sources import detector_in, golden_rows, head_in

    with TerminalReporter() as reporter:
        detector = detector_in(source, code)
        if detector is None:
            if head_only or image_size:
                raise UsageError(
                    f"{source} is a head, not the folder of a detector; leave out the options of detectors"
                )
            head, rows = head_in(cache_of(cache_root, backbone, code), source, backbone, dataset, reporter)
            made = export_head(head, rows, file, tolerance)
        elif head_only:
            made = export_head(detector.head, golden_rows(detector), file, tolerance)
        else:
            made = export_detector(detector, file, image_size, tolerance)
    if as_json:
        emit_json(dataclasses.asdict(made))
        return
    click.echo(f"inputs: {', '.join(made.inputs)}; outputs: {', '.join(made.outputs)}")
    click.echo(
        f"largest difference of a score: {made.difference:.2g} (relative, {made.rows} rows of {made.compared_on})"
    )
    if made.resizing is not None:
        click.echo(f"resized by the graph instead of Pillow: {made.resizing:.2g}")
    print_line(f"written: {made.path}")
