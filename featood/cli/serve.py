"""``featood serve``."""

from __future__ import annotations

__all__ = ["serve"]

import rich_click as click

from featood.cli.common import detector_code_option
from featood.reporter import TerminalReporter


@click.command()
@click.argument("detector")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for any."
)
@click.option(
    "--max-batch", type=click.IntRange(1), default=32, show_default=True, help="Images in a batch at most."
)
@click.option(
    "--max-waiting", type=click.IntRange(1), default=256, show_default=True,
    help="Images that wait at most; further requests are refused.",
)  # fmt: skip
@click.option(
    "--max-bytes", type=click.IntRange(1), default=20_000_000, show_default=True, help="Bytes of a request at most."
)  # fmt: skip
@click.option(
    "--max-pixels", type=click.IntRange(1), default=50_000_000, show_default=True, help="Pixels of an image at most."
)  # fmt: skip
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds for a request.")
@click.option("--device", default="auto", show_default=True, help="Device of the network.")
@detector_code_option
def serve(
    detector: str, host: str, port: int, max_batch: int, max_waiting: int, max_bytes: int, max_pixels: int,
    timeout: float, device: str, code: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve a DETECTOR of featood threshold by HTTP, after it has tested itself on its golden inputs.

    POST /predict takes the content of an image file and answers with score, p-value, decision and class as JSON;
    GET /health and GET /metrics (Prometheus) are for operation. There is no authentication and no encryption: put it
    behind a proxy that has both before you open it to others by --host.

    Example: featood serve knn-detector
    """
    from featood.errors import MissingPackage
    from featood.pipeline.detectors import Detector

    try:
        from featood.pipeline.serving import Limits
        from featood.pipeline.serving import serve as run
    except ImportError as error:
        raise MissingPackage(f"featood serve needs {error.name}: pip install 'featood[serve]'") from None
    limits = Limits(max_batch, max_waiting, max_bytes, max_pixels, timeout)
    with TerminalReporter() as reporter:
        run(Detector.load(detector, code, device), host, port, limits, reporter)
