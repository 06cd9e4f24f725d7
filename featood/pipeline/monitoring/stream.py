"""Streams of images: batches of sets, and those that a monitor has not seen."""

from __future__ import annotations

__all__ = ["batches", "unseen"]

from collections.abc import Iterable, Iterator

from featood.data import ImageSet
from featood.errors import Mismatch
from featood.pipeline.monitoring.state import names_digest


def batches(sets: Iterable[ImageSet], size: int) -> Iterator[ImageSet]:
    """Divide sets into batches of at most `size` images; the last batch of each set may be smaller."""
    for images in sets:
        for start in range(0, len(images), size):
            yield images.subset(range(start, min(start + size, len(images))))


def unseen(images: Iterable[ImageSet], seen: int, digest: str) -> Iterator[ImageSet]:
    """Leave out the first images of a stream, if they have the names of those that were seen.

    Parameters
    ----------
    images : iterable of ImageSet
        Batches.
    seen : int
        Number of images that were seen.
    digest : str
        Digest of their names.

    Raises
    ------
    Mismatch
        If the names are others.
    """
    left, found = seen, ""
    for batch in images:
        skipped = min(left, len(batch))
        found, left = names_digest(found, batch.ids[:skipped]), left - skipped
        if skipped and not left and found != digest:
            raise _other(seen)
        if skipped < len(batch):
            yield batch.subset(range(skipped, len(batch)))
    if left:
        raise _other(seen)


def _other(seen: int) -> Mismatch:
    return Mismatch(
        f"the first {seen} images of this stream are not those that the state has seen; without --resume, all count "
        "as new"
    )
