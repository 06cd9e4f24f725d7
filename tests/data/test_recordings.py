"""Sets of recordings: formats, class folders, and the layout of the spoken digits."""

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from featood.data import AudioSet, open_dataset
from featood.errors import DataError


def tone(seconds=0.1, rate=8000, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_wav_and_flac_are_read(tmp_path):
    samples = np.round(tone() * 32767).astype(np.int16)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        wavfile.write(tmp_path / "train" / name / "1.wav", 8000, samples)
        soundfile.write(tmp_path / "train" / name / "2.flac", samples, 8000)
    found = open_dataset(tmp_path, "train")
    assert isinstance(found, AudioSet) and found.classes == ("a", "b")
    assert found.labels.tolist() == [0, 0, 1, 1]
    for row in range(4):
        recording = found.read(row)
        assert recording.rate == 8000
        np.testing.assert_allclose(recording.samples, samples / 32768, atol=1e-7)


def test_several_channels_become_their_mean(tmp_path):
    left, right = tone(), tone(frequency=220)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    np.testing.assert_allclose(open_dataset(tmp_path).read(0).samples, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("content", [b"", b"RIFF but no recording", b"\0" * 100])
def test_damaged_files_are_errors_that_name_them(tmp_path, content):
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.wav cannot be read"):
        open_dataset(tmp_path).read(0)


def test_spoken_digits(tmp_path):
    folder = tmp_path / "free-spoken-digit-dataset/recordings"
    folder.mkdir(parents=True)
    for digit in (3, 7):
        for take in (0, 4, 5, 49):
            soundfile.write(folder / f"{digit}_theo_{take}.wav", tone(), 8000)
    train, test = (open_dataset("fsdd", split, tmp_path) for split in ("train", "test"))
    assert test.ids == ("3_theo_0.wav", "3_theo_4.wav", "7_theo_0.wav", "7_theo_4.wav")
    assert train.ids == ("3_theo_49.wav", "3_theo_5.wav", "7_theo_49.wav", "7_theo_5.wav")
    assert train.labels.tolist() == test.labels.tolist() == [3, 3, 7, 7]
    assert train.classes == tuple("0123456789")
    soundfile.write(folder / "theo_3.wav", tone(), 8000)
    assert any(
        note.startswith("1 files that are not named DIGIT_")
        for note in open_dataset("fsdd", "test", tmp_path).notes
    )
    changed = test.digest()
    soundfile.write(folder / "3_theo_0.wav", tone(frequency=300), 8000)
    assert open_dataset("fsdd", "test", tmp_path).digest() != changed
