"""Limits of the service, and reading of a body within them."""

from __future__ import annotations

__all__ = ["DEFAULTS", "Limits", "read_body"]

import dataclasses

from starlette.exceptions import HTTPException
from starlette.requests import Request

from featood.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of the service.

    Parameters
    ----------
    batch : int
        Images in a batch.
    waiting : int
        Images that wait for a batch; further requests are refused (503).
    body : int
        Bytes of a request (413).
    pixels : int
        Pixels of an image (400).
    seconds : float
        From the first byte of a request's body to the answer (408 while the body is read, 503 after).
    """

    batch: int = 32
    waiting: int = 256
    body: int = 20_000_000
    pixels: int = 50_000_000
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise UsageError(
                    f"the limit of {field.name} must be positive, not {getattr(self, field.name)}"
                )


DEFAULTS = Limits()


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    A body that declares more than `most` bytes is refused before any is read; one that declares nothing, when it has
    sent more.

    Raises
    ------
    HTTPException
        413 if it is larger.
    """
    refused = HTTPException(413, f"a request has at most {most} bytes", {"connection": "close"})
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise refused
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise refused
    return bytes(content)
