"""Encoders of recordings of torchaudio's pipelines (wav2vec 2.0, HuBERT, WavLM) as backbones."""

from __future__ import annotations

__all__ = ["PipelineEncoder", "build_pipeline"]

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.errors import DataError, UsageError
from featood.extractors.backbones.backbone import RANDOM, Built, Request
from featood.extractors.waveforms import AudioTransform, WaveformEncoder

PUBLISHED = "its own"
SHORTEST = 400
"""Samples of the first window of these networks; shorter recordings are followed by zeros."""


class PipelineEncoder(nn.Module):
    """Mean over time of the outputs of the last layer.

    Recordings are passed one at a time: some of these networks normalise over time, where samples added to the end of a
    shorter recording would change it.

    Parameters
    ----------
    model : Module
        ``extract_features(samples [1, T])``, whose first output lists ``[1, frames, D]`` for each layer.
    """

    num_classes = 0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Map samples ``[B, T]`` and lengths ``[B]`` to ``[B, D]``."""
        rows = [row[:length] for row, length in zip(samples, lengths.tolist(), strict=True)]
        padded = [F.pad(row, (0, max(0, SHORTEST - len(row)))) for row in rows]
        return torch.cat([self.model.extract_features(row[None])[0][-1].mean(1) for row in padded])


def build_pipeline(name: str, request: Request) -> Built:
    """Build ``torchaudio:NAME``, a pipeline of torchaudio such as ``HUBERT_BASE``.

    Raises
    ------
    UsageError
        If torchaudio cannot be imported, has no such pipeline, or random weights are requested.
    DataError
        If the weights cannot be downloaded or read.
    """
    pipelines = _pipelines()
    if name not in pipelines:
        raise UsageError(f"torchaudio has no encoder '{name}'; it has {', '.join(pipelines)}")
    if request.weights == RANDOM:
        raise UsageError(f"torchaudio:{name} has no random weights; omit --weights, or name a file")
    # only tensors are read: torchaudio's files are pickles
    how: dict[str, Any] = {"weights_only": True, "map_location": "cpu"}
    if request.weights:
        file = Path(request.weights)
        if not file.is_file():
            raise DataError(f"{file} is not a file; name the weights of {name}, or omit --weights")
        how |= {"model_dir": str(file.parent), "file_name": file.name}
    try:
        model = pipelines[name].get_model(dl_kwargs=how)
    except Exception as error:  # of the download, the file, or other weights
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"the weights of torchaudio:{name} cannot be read: {reason}") from error
    weights = Path(request.weights).name if request.weights else PUBLISHED
    transform = AudioTransform(round(pipelines[name].sample_rate))
    return Built(WaveformEncoder(PipelineEncoder(model)), f"torchaudio:{name}", weights, transform)


def _pipelines() -> dict[str, Any]:
    try:
        from torchaudio import pipelines
    except (ImportError, OSError) as error:  # its libraries may not fit the installed torch
        raise UsageError(
            f"torchaudio cannot be imported ({error}); install the version that fits torch {torch.__version__}"
        ) from error
    bundles = {name: getattr(pipelines, name) for name in pipelines.__all__}
    return {name: one for name, one in bundles.items() if isinstance(one, pipelines.Wav2Vec2Bundle)}
