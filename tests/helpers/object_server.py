"""A local S3 server with one bucket, behind a proxy that may fail."""

from __future__ import annotations

import logging
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faulty_proxy import FaultyProxy

BUCKET = "bucket"


@contextmanager
def serving() -> Iterator[int]:
    """Serve a bucket on the loopback interface, and yield the port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")).close()
    try:
        yield port
    finally:
        server.stop()


@contextmanager
def caches(port: int, share: float = 0.0, seed: int = 0) -> Iterator[tuple[FaultyProxy, str]]:
    """Start a proxy before the server, and yield it with the URL of an empty folder."""
    with FaultyProxy(port, share, seed) as proxy:
        yield proxy, f"s3://{BUCKET}/{uuid.uuid4().hex}"


def environment(proxy: FaultyProxy) -> dict[str, str]:
    """Return the environment variables with which clients use the proxy."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": proxy.url,
        "AWS_ALLOW_HTTP": "true",
    }


def content_of(root: object) -> dict[str, bytes]:
    """Return the content of all files below a folder or a URL by their path, except locks."""
    import obstore
    from obstore.store import from_url

    if isinstance(root, Path):
        found = {
            path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
        }
        return {name: content for name, content in found.items() if not name.endswith(".lock")}
    store = from_url(str(root))
    keys = [entry["path"] for page in obstore.list(store) for entry in page]
    return {key: bytes(obstore.get(store, key).bytes()) for key in keys}
