"""Running the service."""

from __future__ import annotations

__all__ = ["serve"]

import contextlib
import socket

import uvicorn

from featood.errors import UsageError
from featood.pipeline.detectors.detector import Detector
from featood.pipeline.serving.app import create_app
from featood.pipeline.serving.limits import DEFAULTS, Limits
from featood.reporter import SILENT, Reporter

CONNECTIONS = 1000
GRACE = 10
"""Seconds for requests that are being answered when the service stops."""


def serve(
    detector: Detector,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits = DEFAULTS,
    reporter: Reporter = SILENT,
) -> None:
    """Serve a detector until SIGTERM or Ctrl-C, upon which open requests are answered.

    Parameters
    ----------
    detector : Detector
        The detector.
    host, port
        Where to listen; port 0 is any that is free.
    limits : Limits
        See :func:`create_app`.
    reporter : Reporter
        Receives the address once requests are served.

    Raises
    ------
    UsageError
        If the port is in use, or the host does not exist.
    """
    config = uvicorn.Config(
        create_app(detector, limits), log_level="warning", access_log=False, limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE, server_header=False,
    )  # fmt: skip
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=config.backlog)
    except OSError as error:
        raise UsageError(
            f"{host} port {port} cannot be listened to: {error.strerror}; choose another by --port"
        ) from None
    # connections inherit it; otherwise the second part of an answer waits 40 ms for the acknowledgement of the first
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening, contextlib.suppress(KeyboardInterrupt):  # the orderly end of a service
        shown = f"[{host}]" if ":" in host else host
        reporter.line(f"serving on http://{shown}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run([listening])
