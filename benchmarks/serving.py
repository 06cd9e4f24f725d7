"""The service under load on this machine, beside the same work without it.

A detector is served on 127.0.0.1 in a process of its own. Clients send one image after the other over kept
connections: one client for the latency of a lone request, several for the rate. The bare call decodes, transforms and
scores the same image in this process, alone, with as many threads. It alternates with the lone client, so that other
work on the machine affects both.
"""

from __future__ import annotations

import argparse
import http.client
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import save, show

from featood.pipeline.detectors import Detector
from featood.speed.environment import environment

ROUNDS = 5


def timed(call: Any, seconds: float) -> list[float]:
    """Call repeatedly for some seconds, and return the time of each call."""
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - start)
    return times


class Service:
    """``featood serve`` as a process, on a free port."""

    def __init__(self, folder: str) -> None:
        command = [sys.executable, "-m", "featood", "serve", folder, "--port", "0", "--device", "cpu"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.port = 0
        for line in self.process.stderr:
            if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise SystemExit("the service did not start")

    def load(self, image: bytes, clients: int, seconds: float) -> list[float]:
        """Return the times of the requests of several clients at once."""
        times: list[float] = []
        failed: list[int] = []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)

            def request() -> None:
                connection.request("POST", "/predict", image)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(answer.status)

            request()
            times.extend(timed(request, seconds))

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise SystemExit(f"{len(failed)} requests failed: {sorted(set(failed))}")
        return times

    def stop(self) -> int:
        """End the service as a service manager does; return its exit code."""
        self.process.terminate()
        return self.process.wait(30)


def row(what: str, times: list[float], seconds: float) -> dict[str, Any]:
    """Return a row of the table."""
    least, p50, p99 = 1e3 * np.percentile(times, [0, 50, 99])
    return {
        "what": what,
        "requests/s": len(times) / seconds,
        "least ms": least,
        "p50 ms": p50,
        "p99 ms": p99,
        "requests": len(times),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", help="folder of a detector")
    parser.add_argument("image", type=Path, help="image to send")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json")
    given = parser.parse_args()
    image = given.image.read_bytes()
    detector = Detector.load(given.detector, device="cpu")
    detector(image)
    service, part = Service(given.detector), given.seconds / ROUNDS
    alone: list[float] = []
    lone: list[float] = []
    try:
        for _ in range(ROUNDS):
            alone += timed(lambda: detector(image), part)
            lone += service.load(image, 1, part)
        rows = [row("bare call", alone, given.seconds), row("service, 1 client", lone, given.seconds)]
        for clients in given.clients:
            times = service.load(image, clients, given.seconds)
            rows.append(row(f"service, {clients} clients", times, given.seconds))
    finally:
        code = service.stop()
    show(f"{given.detector}, an image of {len(image)} bytes", rows)
    for column in ("least ms", "p50 ms"):
        print(f"{column} of one client over the bare call: {rows[1][column] / rows[0][column]:.2f}")
    print(f"exit code after SIGTERM: {code}")
    save(given.json, environment("starlette", "uvicorn"), rows=rows)


if __name__ == "__main__":
    main()
