"""``featood monitor``."""

from __future__ import annotations

__all__ = ["monitor"]

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import rich_click as click

from featood.cli.common import SHARE, Place, detector_code_option
from featood.reporter import TerminalReporter, print_line

if TYPE_CHECKING:
    from featood.data import ImageSet
    from featood.pipeline.monitoring import Diagnosis, Report


@click.command()
@click.argument("detector")
@click.argument("stream", nargs=-1, required=True)
@click.option(
    "--batch", type=click.IntRange(1), default=100, show_default=True, help="Images per batch, at most."
)
@click.option(
    "--false-alarm",
    type=SHARE,
    help="Probability of a false alarm on a stream of any length (default: 0.01, or that of the state).",
)
@click.option("--state", type=Place(file_okay=False), help="Folder of the state, written after each batch.")
@click.option(
    "--resume", is_flag=True, help="Skip the images at the beginning of STREAM that the state has seen."
)
@click.option(
    "--page", type=Place(dir_okay=False), help="Write a page on alarm, and at the end of the stream."
)
@click.option(
    "--prometheus", type=Place(dir_okay=False), help="Write figures for Prometheus after each batch."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per batch and line.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the alarm has been raised.")
@click.option("--device", default="auto", show_default=True, help="Device of the network.")
@detector_code_option
@click.option("--no-test", is_flag=True, help="Do not test the detector on its golden inputs.")
def monitor(
    detector: str, stream: tuple[str, ...], batch: int, false_alarm: float | None, state: str | None, resume: bool,
    page: str | None, prometheus: str | None, as_json: bool, exit_code: bool, device: str, code: tuple[str, ...],
    no_test: bool,
) -> None:  # fmt: skip
    """Watch a STREAM of images for changes, by a DETECTOR of featood threshold.

    STREAM is images, folders, packed images (.npy, .npz), image lists, or - for names on standard input, which are
    taken as they come. The alarm is false with a probability of at most --false-alarm, however long the stream is, if
    its images are exchangeable with those of the calibration set.

    Example: featood monitor knn-detector camera/ --state camera-state --page camera.html
    """
    from featood.errors import UsageError
    from featood.pipeline.detectors import Detector
    from featood.pipeline.detectors.files import image_sets
    from featood.pipeline.monitoring import Monitor
    from featood.pipeline.monitoring.stream import batches, unseen
    from featood.report.files import write_text
    from featood.report.monitoring import write_monitor_page
    from featood.report.prometheus import prometheus_text

    if resume and state is None:
        raise UsageError("--resume needs the folder of the state: add --state")
    found = Detector.load(detector, code, device, test=not no_test)
    watching = Monitor(found, state, false_alarm)
    report = None
    with TerminalReporter() as reporter:
        if found.reference is None:
            reporter.line(
                "the detector has no reference rows, so features are not compared and alarms not diagnosed; make it "
                "again with featood threshold"
            )

        def sets() -> Iterator[ImageSet]:
            for images in image_sets(stream, found.network.decoding, sys.stdin, batch):
                for note in images.notes:
                    reporter.line(f"{images.name}: {note}")
                yield images

        images = batches(sets(), batch)
        if resume:
            images = unseen(images, watching.state.stream_rows, watching.state.stream_digest)
        else:
            watching.begin_stream()
        for part in images:
            raised = watching.state.alarm is not None
            report = watching.feed(part)
            click.echo(json.dumps(report.as_json()) if as_json else _line(report))
            if prometheus:
                text = prometheus_text(
                    report.as_json(), watching.state.false_alarm, watching.state.unread, state or detector
                )
                write_text(prometheus, text)
            if page and report.alarm and not raised:
                write_monitor_page(page, watching.summary())
    if page:
        write_monitor_page(page, watching.summary())
    if watching.state.unread:
        print_line(f"{watching.state.unread} images could not be read")
    if (alarm := watching.state.alarm) is None:
        print_line(f"no alarm in {watching.state.rows} rows")
        return
    print_line(
        f"ALARM at row {alarm.row + 1} ({alarm.id}): scores are {alarm.change}, probably since row {alarm.since + 1}; "
        f"such an alarm is false with a probability of at most {100 * watching.state.false_alarm:g} %"
    )
    if (diagnosis := watching.diagnose()) is not None:
        _print(diagnosis)
    if exit_code:
        sys.exit(1)


def _line(report: Report) -> str:
    share = "" if report.low is None else f" ({100 * report.low:.1f} to {100 * report.high:.1f} %)"  # type: ignore[operator]
    unread = f", {report.unread} not read" if report.unread else ""
    state = (
        "" if report.alarm is None else f"  ALARM{f': {report.diagnosis.kind}' if report.diagnosis else ''}"
    )
    return (
        f"batch {report.batch}: {report.rows} rows{unread}, {report.out} out{share}, log capital "
        f"{report.log_capital:.2f}{state}"
    )


def _print(diagnosis: Diagnosis) -> None:
    from featood.pipeline.monitoring.diagnosis import KINDS

    print_line(
        f"{diagnosis.kind}: {KINDS[diagnosis.kind]}; {diagnosis.rows} rows since then, {diagnosis.out} out"
    )
    for row in diagnosis.unusual:
        known = f"  ({row['class']})" if row["class"] else ""
        print_line(f"  {row['score']:>12.6g}  {row['id']}{known}, nearest calibration row {row['neighbour']}")
