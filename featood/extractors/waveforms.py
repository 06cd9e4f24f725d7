"""From recordings to waveforms, as plain values, which are hashed exactly as applied."""

from __future__ import annotations

__all__ = ["AudioTransform", "LogMel", "librosa_of"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from featood.data import AudioSet
from featood.data.audio.audio_set import soundfile_of
from featood.errors import UsageError
from featood.nets.padded import Padded

WINDOW, HOP, MELS = 0.025, 0.010, 64
"""Seconds of a window and from one to the next, and number of bands of frequencies."""
FLOOR = 1e-6
"""Added to the energies before the logarithm."""


def librosa_of(purpose: str) -> Any:
    """Import librosa.

    Raises
    ------
    UsageError
        If it is not installed; `purpose` is what it is needed for.
    """
    try:
        import librosa
    except ModuleNotFoundError as error:
        raise UsageError(
            f"librosa is needed for {purpose} ({error}): pip install 'featood[audio]'"
        ) from error
    return librosa


@dataclasses.dataclass(frozen=True)
class AudioTransform:
    """Transform from recording to waveform: one channel, at one rate, cut off after some seconds.

    Parameters
    ----------
    rate : int
        Samples per second; other recordings are resampled by soxr.
    seconds : float
        Samples after this time are cut off.

    Raises
    ------
    UsageError
        If a value is not positive.
    """

    takes: ClassVar[str] = "recordings"
    channels: ClassVar[int] = 1
    rate: int
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.rate < 1 or not self.seconds > 0:
            raise UsageError(f"a waveform needs a rate and a length, not {self.rate} and {self.seconds}")

    def __str__(self) -> str:
        return f"one channel, {self.rate} Hz, cut off after {self.seconds:g} s"

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {"kind": self.takes, "rate": self.rate, "seconds": self.seconds}

    def like(self, body: Mapping[str, Any]) -> AudioTransform:
        """Return the transform; none of its values may be chosen."""
        return self

    def example(self) -> Tensor:
        """Return two seconds of noise ``[2, T]``."""
        return 0.1 * torch.randn(2, self.rate, generator=torch.Generator().manual_seed(0))

    def read(self, inputs: AudioSet, row: int) -> np.ndarray:
        """Return the waveform of a row, float32 ``[T]``."""
        samples, rate = inputs.read(row)
        if rate != self.rate:
            samples = samples[: int(rate * (self.seconds + 1))]  # which would be cut off anyway
            samples = librosa_of("resampling").resample(samples, orig_sr=rate, target_sr=self.rate)
        return np.asarray(samples[: int(self.rate * self.seconds)], np.float32)

    def stack(self, rows: Sequence[np.ndarray | None]) -> np.ndarray:
        """Join waveforms to float32 ``[B, T]``, with NaN after the end of shorter ones."""
        longest = max([1, *(len(row) for row in rows if row is not None)])
        samples = np.full((len(rows), longest), np.nan, np.float32)
        for place, row in enumerate(rows):
            if row is not None:
                samples[place, : len(row)] = row
        return samples

    def normalise(self, batch: np.ndarray) -> Tensor:
        """Return the samples as a tensor ``[B, T]``."""
        return torch.from_numpy(batch)

    def counts(self, inputs: AudioSet) -> dict[str, int]:
        """Return the numbers of recordings that are cut off or resampled."""
        soundfile = soundfile_of()
        found = {"cut off": 0, "resampled": 0}
        assert inputs.root is not None
        for name in inputs.ids:
            try:
                about = soundfile.info(str(inputs.root / name))
            except (OSError, RuntimeError):  # reported when it is read
                continue
            found["cut off"] += about.frames > about.samplerate * self.seconds
            found["resampled"] += about.samplerate != self.rate
        return {how: count for how, count in found.items() if count}


class WaveformEncoder(Padded):
    """From samples ``[B, T]``, with NaN after the end, to what a network makes of them and their lengths ``[B]``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor) -> Any:
        """Return the outputs of the network."""
        return self.model(samples.nan_to_num(), (~samples.isnan()).sum(1))


class LogMel(nn.Module):
    """Mean and standard deviation over time of the logarithm of energies in bands of the mel scale.

    Energies are those of Hann windows that lie within the recording, so they do not depend on what is padded; the first
    window of a shorter recording is padded with zeros.

    Parameters
    ----------
    rate : int
        Samples per second.

    References
    ----------
    Davis and Mermelstein, Comparison of Parametric Representations for Monosyllabic Word Recognition, IEEE TASSP 1980,
    without the cosine transform.
    """

    num_classes = 0
    bands: Tensor
    hann: Tensor

    def __init__(self, rate: int = 16_000) -> None:
        super().__init__()
        self._window, self._hop = round(rate * WINDOW), round(rate * HOP)
        bands = librosa_of("mel bands").filters.mel(sr=rate, n_fft=self._window, n_mels=MELS)
        self.register_buffer("bands", torch.from_numpy(bands))
        self.register_buffer("hann", torch.hann_window(self._window))

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Map samples ``[B, T]`` and lengths ``[B]`` to means and deviations ``[B, 128]``."""
        missing = max(0, self._window - samples.shape[1])
        samples = nn.functional.pad(samples, (0, missing))
        spectrum = torch.stft(
            samples, self._window, self._hop, window=self.hann, center=False, return_complex=True
        )
        energies = torch.log(self.bands @ spectrum.abs().square() + FLOOR)
        count = 1 + (lengths - self._window).clamp(min=0) // self._hop
        inside = (torch.arange(energies.shape[2], device=samples.device) < count[:, None])[:, None]
        count = count[:, None].to(energies.dtype)
        mean = energies.where(inside, 0).sum(2) / count
        squares = (energies - mean[..., None]).square().where(inside, 0).sum(2) / count
        return torch.cat([mean, squares.sqrt()], 1)
