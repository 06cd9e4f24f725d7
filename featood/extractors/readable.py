"""Images that can be read, out of those of a set."""

from __future__ import annotations

__all__ = ["read_problem", "split_readable"]

from collections.abc import Callable

import numpy as np
from torch.utils.data import DataLoader, Dataset

from featood.data import InputSet
from featood.errors import DataError
from featood.extractors.inputs import InputTransform


def read_problem(images: InputSet, row: int, error: DataError) -> str:
    """Return why a row could not be read, with its name."""
    name = images.ids[row]
    return str(error) if name in str(error) else f"{name}: {error}"


class _Problems(Dataset[str | OSError]):
    """By row, why it cannot be read, or an empty string.

    System errors (a failing disk) are returned, because raising them in a worker would lose their type.
    """

    def __init__(self, images: InputSet, transform: InputTransform) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> str | OSError:
        try:
            self._transform.read(self._images, row)
        except DataError as error:
            return read_problem(self._images, row, error)
        except OSError as error:
            return error
        return ""


def split_readable(
    images: InputSet,
    transform: InputTransform,
    *,
    strict: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[InputSet, dict[str, str]]:
    """Read all images once, and leave out those that cannot be read.

    Parameters
    ----------
    images : InputSet
        The images; those of a packed set are in memory, and need no check.
    transform : InputTransform
        What must be possible with each image.
    strict : bool
        Whether to stop at the first that cannot be read.
    workers : int
        Processes that read; 0 reads in this one.
    progress : callable, optional
        Called as ``progress(images done, all images)``.

    Returns
    -------
    images : InputSet
        The others, with their labels.
    problems : dict of str to str
        The reasons by id.

    Raises
    ------
    DataError
        If an image cannot be read and `strict` is set, or no image can.
    """
    if images.in_memory:
        return images, {}
    problems: dict[int, str] = {}
    loader = DataLoader(_Problems(images, transform), 64, collate_fn=list, num_workers=workers)
    done = 0
    for part in loader:
        for row, problem in enumerate(part, done):
            if isinstance(problem, OSError):
                raise problem
            if problem and strict:
                raise DataError(f"{problem} (omit --strict to skip such {images.kind})")
            if problem:
                problems[row] = problem
        done += len(part)
        if progress is not None:
            progress(done, len(images))
    if len(problems) == len(images):
        first = f": {problems[0]}" if problems else ""
        raise DataError(f"none of the {len(images)} {images.kind} of {images.name} could be read{first}")
    kept = np.setdiff1d(np.arange(len(images)), list(problems))
    found = images.subset(kept) if problems else images
    return found, {images.ids[row]: problem for row, problem in problems.items()}
