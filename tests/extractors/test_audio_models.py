"""Encoders of torchaudio, which a stand-in with the same interface takes the place of."""

import sys
import types

import pytest
import torch
from torch import nn

from featood.errors import DataError, UsageError
from featood.extractors.backbones import resolve_backbone


class Frames(nn.Module):
    """Two layers on frames of 40 samples, normalised over time as the first layer of wav2vec 2.0 is."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(1, 3, 40, 32), nn.Linear(3, 3)

    def extract_features(self, samples):
        hidden = self.first(samples[:, None])
        hidden = nn.functional.group_norm(hidden, 3).transpose(1, 2)
        return [hidden, self.second(hidden)], None


class Bundle:
    """What a pipeline has: a rate, and a model with weights from a file of this folder and name."""

    sample_rate = 16_000.0

    def get_model(self, *, dl_kwargs):
        net = Frames()
        path = f"{dl_kwargs.pop('model_dir')}/{dl_kwargs.pop('file_name')}"
        net.load_state_dict(torch.load(path, **dl_kwargs))
        return net.eval()


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A file of weights, and a torchaudio with one encoder and a pipeline of another kind."""
    pipelines = types.ModuleType("torchaudio.pipelines")
    pipelines.Wav2Vec2Bundle, pipelines.TINY, pipelines.SPEECH = Bundle, Bundle(), object()
    pipelines.__all__ = ["Wav2Vec2Bundle", "TINY", "SPEECH"]
    library = types.ModuleType("torchaudio")
    library.pipelines = pipelines
    monkeypatch.setitem(sys.modules, "torchaudio", library)
    monkeypatch.setitem(sys.modules, "torchaudio.pipelines", pipelines)
    torch.manual_seed(0)
    torch.save(Frames().state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def test_a_row_is_the_mean_of_its_own_frames(weights):
    backbone = resolve_backbone("torchaudio:TINY", str(weights))
    assert (backbone.resolved, backbone.weights) == ("torchaudio:TINY", "tiny.pth")
    assert backbone.transform.rate == 16_000
    net = Frames().eval()
    net.load_state_dict(torch.load(weights, weights_only=True))
    waves = [
        torch.randn(length, generator=torch.Generator().manual_seed(length)) for length in (3000, 1500, 50)
    ]
    found = backbone.module(torch.as_tensor(backbone.transform.stack([wave.numpy() for wave in waves])))
    for wave, row in zip(waves, found, strict=True):
        padded = nn.functional.pad(wave, (0, max(0, 400 - len(wave))))
        hidden = torch.stack([net.first(frame[None, None])[0, :, 0] for frame in padded.unfold(0, 40, 32)])
        hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(row, net.second(hidden).mean(0), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_built_has_one_line(weights, monkeypatch):
    with pytest.raises(UsageError, match="no encoder 'SPEECH'; it has TINY"):
        resolve_backbone("torchaudio:SPEECH")
    with pytest.raises(UsageError, match="no random weights"):
        resolve_backbone("torchaudio:TINY", "random")
    with pytest.raises(DataError, match="is not a file"):
        resolve_backbone("torchaudio:TINY", str(weights.parent))
    weights.write_bytes(b"no weights")
    with pytest.raises(DataError, match="weights of torchaudio:TINY cannot be read"):
        resolve_backbone("torchaudio:TINY", str(weights))
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.delitem(sys.modules, "torchaudio.pipelines")
    with pytest.raises(UsageError, match="torchaudio cannot be imported"):
        resolve_backbone("torchaudio:TINY")
