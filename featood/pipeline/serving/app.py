"""The service: routes, errors, and the way of an image from a request to a decision."""

from __future__ import annotations

__all__ = ["create_app"]

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from featood.data.images.reading import read_image
from featood.errors import DataError
from featood.pipeline.detectors.detector import Detector, Prediction
from featood.pipeline.serving.batching import Batcher, Busy
from featood.pipeline.serving.limits import DEFAULTS, Limits, read_body
from featood.pipeline.serving.metrics import Metrics

LOG = logging.getLogger("featood.serving")
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def create_app(detector: Detector, limits: Limits = DEFAULTS) -> Starlette:
    """Return the service of a detector, an ASGI application.

    ``POST /predict`` takes the content of one image file as the body, and answers with the score, the p-value, the
    decision and the predicted class as JSON. ``GET /health`` answers once requests are served, ``GET /metrics`` in the
    format of Prometheus. An error is answered with one line. Nothing in a request is used as a path or run.

    Parameters
    ----------
    detector : Detector
        The detector.
    limits : Limits
        Sizes and times; beyond them, requests are refused.
    """
    metrics = Metrics()
    network = detector.network
    # columns with random numbers depend on the position in a batch, so such images are computed alone
    largest = 1 if network.options.extras else limits.batch

    def pixels(content: bytes) -> np.ndarray:
        return network.transform.pixels(read_image(content, network.decoding, limits.pixels))

    def decide(images: Sequence[np.ndarray]) -> list[Prediction]:
        metrics.batch.observe(len(images))
        return detector.decide(np.stack(images), [""] * len(images))

    batches: Batcher[np.ndarray, Prediction] = Batcher(decide, largest, limits.waiting)
    decoders = ThreadPoolExecutor(os.cpu_count(), "decoding")

    async def prediction(request: Request) -> Prediction:
        received = False
        try:
            async with asyncio.timeout(limits.seconds):
                content = await read_body(request, limits.body)
                received = True
                image = await asyncio.get_running_loop().run_in_executor(decoders, pixels, content)
                return await batches(image)
        except TimeoutError:
            what = "no answer" if received else "no complete request"
            raise HTTPException(
                503 if received else 408, f"{what} within {limits.seconds:g} s", {"connection": "close"}
            ) from None
        except Busy:
            raise HTTPException(
                503, "too many requests wait; try again later", {"retry-after": "1"}
            ) from None
        except DataError as error:
            raise HTTPException(400, str(error)) from None

    async def predict(request: Request) -> Response:
        start, status = time.perf_counter(), 500
        try:
            found = await prediction(request)
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        except ClientDisconnect:
            status = 499
            return Response(status_code=status)
        finally:
            metrics.answers.labels(status).inc()
            metrics.seconds.observe(time.perf_counter() - start)
        assert found.p_value is not None
        metrics.p_values.observe(found.p_value)
        metrics.out.inc(bool(found.out))
        return JSONResponse(
            {
                name: value
                for name, value in found._asdict().items()
                if name not in ("id", "error", "neighbours")
            }
        )

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": batches.queue.qsize()})

    async def about(request: Request) -> Response:
        record = detector.calibration.record
        return JSONResponse({
            "head": detector.head.name, "calibrated_on": record["set"], "alarm_rate": record["alarm_rate"],
            "classes": list(network.classes), "score": "higher = more out-of-distribution",
            "routes": {
                "POST /predict": "the content of an image file as the body", "GET /health": "", "GET /metrics": "",
            },
        })  # fmt: skip

    async def measured(request: Request) -> Response:
        return Response(metrics.text(), media_type=PROMETHEUS)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        LOG.error("a request failed", exc_info=error)
        return JSONResponse({"error": "the image could not be scored; the log of the service says why"}, 500)

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(batches.run())
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
            decoders.shutdown(wait=False, cancel_futures=True)

    return Starlette(
        routes=[
            Route("/", about), Route("/health", health), Route("/metrics", measured),
            Route("/predict", predict, methods=["POST"]),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
        lifespan=running,
    )  # fmt: skip
