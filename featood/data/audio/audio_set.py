"""Sets of recordings."""

from __future__ import annotations

__all__ = ["FOLDERS", "AudioSet", "Recording", "soundfile_of"]

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from featood.data.contents import content_digests
from featood.data.folders import FolderKind
from featood.data.input_set import InputSet
from featood.errors import DataError, UsageError, reading

SUFFIXES = frozenset((".wav", ".flac", ".ogg"))
MAX_SECONDS = 3600
"""Longer recordings are refused, because a recording is held in memory."""


def soundfile_of() -> Any:
    """Import soundfile.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise UsageError(
            f"recordings are read by soundfile ({error}): pip install 'featood[audio]'"
        ) from error
    return soundfile


class Recording(NamedTuple):
    """A decoded recording."""

    samples: np.ndarray
    """float32 ``[T]`` from -1 to 1, the mean of all channels."""
    rate: int
    """Samples per second."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AudioSet(InputSet):
    """N files of recordings below one folder; see :class:`~featood.data.InputSet` for the attributes.

    Raises
    ------
    DataError
        If the attributes are inconsistent.
    """

    kind: ClassVar[str] = "recordings"

    def __post_init__(self) -> None:
        if self.root is None:
            raise DataError(f"{self.name}: a set of recordings consists of files (root)")
        super().__post_init__()

    def read(self, i: int) -> Recording:
        """Decode row ``i``; several channels become their mean.

        Raises
        ------
        DataError
            If the file is missing, damaged, empty or longer than an hour; the message names it.
        UsageError
            If soundfile is not installed.
        """
        soundfile = soundfile_of()
        assert self.root is not None
        path = self.root / self.ids[i]
        if not path.is_file():  # reading a pipe would block
            raise DataError(f"{path} is missing, or not a file")
        with reading(path), soundfile.SoundFile(path) as file:
            if file.frames > MAX_SECONDS * file.samplerate:
                raise ValueError(f"it is longer than {MAX_SECONDS} seconds; divide it")
            samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
            if not len(samples) or not np.isfinite(samples).all():
                raise ValueError("it has no samples, or some that are not finite")
        return Recording(samples.mean(1), rate)

    def digest(self) -> str:
        """SHA-256 of the inputs: ids, labels, and the size and content of each file."""
        sha = self._listing(b"featood audio 1\0")
        assert self.root is not None
        for part in content_digests(self.root, self.ids):
            sha.update(part)
        return sha.hexdigest()


FOLDERS = FolderKind("recordings", SUFFIXES, AudioSet)
"""Class folders of recordings."""
