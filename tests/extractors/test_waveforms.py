"""Features of recordings: log-mel, and encoders given as code."""

import librosa
import numpy as np
import pytest
import soundfile
import torch

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.extractors.backbones import resolve_backbone
from featood.extractors.waveforms import FLOOR, AudioTransform, LogMel

SECONDS = {"low": 0.31, "high": 0.52}


def tone(seconds, frequency, rate, seed=0):
    time = np.arange(round(seconds * rate)) / rate
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * frequency * time) + noise).astype(np.float32)


@pytest.fixture
def recordings(tmp_path):
    for split in ("train", "test"):
        for name, frequency in (("low", 300), ("high", 2500)):
            folder = tmp_path / "tones" / split / name
            folder.mkdir(parents=True)
            for row in range(3):
                wave = tone(SECONDS[name] + 0.1 * row, frequency, 16_000, row)
                soundfile.write(folder / f"{row}.wav", wave, 16_000, subtype="FLOAT")
    return tmp_path


def by_loop(wave, rate=16_000):
    """Log-mel features in float64, one window at a time."""
    window, hop = 400, 160
    bands = librosa.filters.mel(sr=rate, n_fft=window, n_mels=64).astype(np.float64)
    wave = np.pad(wave, (0, max(0, window - len(wave)))).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = [
        np.log(bands @ np.abs(np.fft.rfft(hann * wave[start : start + window])) ** 2 + FLOOR)
        for start in range(0, len(wave) - window + 1, hop)
    ]
    return np.concatenate([np.mean(frames, 0), np.std(frames, 0)])


def test_log_mel_is_that_of_a_loop(featood, recordings):
    code, _, err = featood("extract", "--backbone", "log-mel", "--dataset", "tones", "--data-dir", recordings,
                           "--dtype", "float32", "--batch-size", "4", "--workers", "0")  # fmt: skip
    assert code == 0, err
    rows = FeatureCache(recordings / "cache")["log-mel/tones/train"]
    audio = open_dataset("tones", "train", recordings)
    oracle = [by_loop(audio.read(row).samples) for row in range(len(audio))]
    np.testing.assert_allclose(rows.features["output"][:], oracle, rtol=2e-3, atol=2e-3)
    assert rows.recipe["transform"] == {"kind": "recordings", "rate": 16_000, "seconds": 30.0}
    assert rows.labels[:].tolist() == [0, 0, 0, 1, 1, 1] and rows.classes == ("high", "low")


def test_padding_and_short_recordings():
    mel, waves = LogMel(), [tone(seconds, 500, 16_000) for seconds in (0.3, 0.05, 0.01)]
    transform = AudioTransform(16_000)
    batch = transform.normalise(transform.stack(waves))
    lengths = torch.tensor([len(wave) for wave in waves])
    assert (~batch.isnan()).sum(1).tolist() == lengths.tolist()
    found = mel(batch.nan_to_num(), lengths)
    np.testing.assert_allclose(found, [by_loop(wave) for wave in waves], rtol=2e-3, atol=2e-3)


def test_resampling_and_cutting_are_counted(featood, tmp_path):
    folder = tmp_path / "mixed/test"
    folder.mkdir(parents=True)
    soundfile.write(folder / "a.wav", tone(0.2, 440, 8000), 8000, subtype="FLOAT")
    soundfile.write(folder / "b.wav", tone(31, 440, 16_000), 16_000, subtype="FLOAT")
    code, _, err = featood(
        "extract", "--backbone", "log-mel", "--dataset", "mixed", "--data-dir", tmp_path, "--workers", "0"
    )
    assert code == 0, err
    assert "1 of 2 rows are cut off" in err and "1 of 2 rows are resampled" in err
    audio, transform = open_dataset("mixed", data_dir=tmp_path), AudioTransform(16_000)
    assert len(transform.read(audio, 1)) == 30 * 16_000
    resampled = transform.read(audio, 0)
    assert len(resampled) == 3200
    # away from the ends, a resampled tone is that tone at the new rate
    time = np.arange(3200) / 16_000
    np.testing.assert_allclose(resampled[800:2400], 0.5 * np.sin(2 * np.pi * 440 * time)[800:2400], atol=0.05)


def test_encoders_by_code(featood, recordings):
    path = recordings / "loudness.py"
    path.write_text(
        "import torch\n"
        "class Loudness(torch.nn.Module):\n"
        "    featood_rate, featood_seconds, num_classes = 8000, 0.4, 0\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('scale', torch.tensor([1.0, 2.0, 3.0]))\n"
        "    def forward(self, samples, lengths):\n"
        "        power = samples.square().sum(1) / lengths\n"
        "        return torch.stack([power, lengths.float(), samples.abs().amax(1)], 1) * self.scale\n"
    )
    name = f"python:{path}:Loudness"
    code, _, err = featood("extract", "--backbone", name, "--dataset", "tones", "--data-dir", recordings,
                           "--dtype", "float32", "--workers", "0")  # fmt: skip
    assert code == 0, err
    found = FeatureCache(recordings / "cache")["loudness.Loudness/tones/train"].features["output"][:]
    backbone, audio = resolve_backbone(name), open_dataset("tones", "train", recordings)
    for row, values in enumerate(found):
        wave = backbone.transform.read(audio, row)
        np.testing.assert_allclose(
            values, [np.mean(wave**2), 2 * len(wave), 3 * np.abs(wave).max()], rtol=1e-4
        )
    assert found[:, 1].max() == 2 * 0.4 * 8000


def test_unreadable_recordings_are_left_out(featood, recordings):
    (recordings / "tones/test/low/bad.wav").write_bytes(b"RIFF")
    code, _, err = featood("extract", "--backbone", "log-mel", "--dataset", "tones", "--split", "test",
                           "--data-dir", recordings, "--workers", "0")  # fmt: skip
    assert code == 0 and "1 recordings could not be read" in err and "low/bad.wav" in err
    assert len(FeatureCache(recordings / "cache")["log-mel/tones/test"]) == 6
    code, _, err = featood("extract", "--backbone", "log-mel", "--dataset", "digits")
    assert code == 2 and "takes recordings" in err
