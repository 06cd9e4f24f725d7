"""An HTTP proxy in front of a server, which fails a share of the requests in the ways that networks fail."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("503", "dropped before", "dropped after", "cut", "delayed")
DELAY = 0.05
"""Seconds by which a delayed request is late."""


class FaultyProxy:
    """Passes requests on to the server at `port` of this machine.

    Parameters
    ----------
    port : int
        Port of the server.
    share : float
        Share of the requests that fail: answered 503, dropped before or after the server gets them, delayed, or for an
        object, answered with half of it.
    seed : int
        Determines which requests fail, in the order of their arrival.
    """

    def __init__(self, port: int, share: float, seed: int) -> None:
        self.upstream, self.share = port, share
        self.requests: list[str] = []
        """Method and path of each request."""
        self.sent = 0
        """Bytes of the bodies of all answers."""
        self.faults: Counter[str] = Counter()
        self.watch: Callable[[str], None] = lambda request: None
        """Called with method and path of each request before it is passed on."""
        self.status = 0
        """If not 0, the status that answers every request."""
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def draw(self, request: str) -> str:
        """Draw what happens to the next request; empty if nothing does.

        Only objects are cut: clients continue them, but no list of objects.
        """
        with self._lock:
            self.requests.append(request)
            if self._random.random() >= self.share:
                return ""
            whole = not request.startswith("GET") or "list-type" in request
            fault = self._random.choice([name for name in FAULTS if not (whole and name == "cut")])
            self.faults[fault] += 1
            return fault


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Ignore connections that a killed client leaves."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {self.path}"
        fault = self.proxy.draw(request)
        self.proxy.watch(request)
        if self.proxy.status:
            self._answer(self.proxy.status, {}, b"<Error><Code>Refused</Code></Error>")
            return
        if fault == "503":
            self._answer(503, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault == "dropped before":
            self.close_connection = True
            return
        if fault == "delayed":
            time.sleep(DELAY)
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers))
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        if fault == "dropped after":
            self.close_connection = True
            return
        headers = {
            name: value
            for name, value in response.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        self._answer(response.status, headers, content, half=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _answer(self, status: int, headers: dict[str, str], content: bytes, half: bool = False) -> None:
        self.send_response(status)
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if half:
            content, self.close_connection = content[: len(content) // 2], True
        if self.command != "HEAD":
            self.proxy.sent += len(content)
            with suppress(ConnectionError):  # a client that was killed
                self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
