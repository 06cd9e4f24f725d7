"""What a module made by code declares about its inputs, and the log-mel features of recordings."""

from __future__ import annotations

__all__ = ["LOG_MEL", "build_log_mel", "declared_parts"]

from torch import nn

from featood.errors import UsageError
from featood.extractors.backbones.backbone import Built, Parts, Request
from featood.extractors.backbones.text_models import encoder_parts, text_parts
from featood.extractors.transform import Transform
from featood.extractors.waveforms import FLOOR, HOP, AudioTransform, LogMel, WaveformEncoder

LOG_MEL = "log-mel"
RATE = 16_000


def declared_parts(module: nn.Module) -> Parts:
    """Return a module with the transform that it declares.

    A model of sentence-transformers takes texts, and so does a module with a tokenizer of transformers as its
    attribute ``featood_tokenizer``, called as ``module(input_ids=, attention_mask=)``. A module with ``featood_rate``,
    samples per second, and optionally ``featood_seconds``, takes recordings, called as ``module(samples, lengths)``
    with ``[B, T]`` and ``[B]``. All others take images, whose transform may be in ``featood_transform``.
    """
    library = type(module).__module__.partition(".")[0]
    if library == "sentence_transformers" and hasattr(module, "max_seq_length"):
        return encoder_parts(module)
    if (tokenizer := getattr(module, "featood_tokenizer", None)) is not None:
        return text_parts(module, tokenizer)
    if (rate := getattr(module, "featood_rate", None)) is not None:
        transform = AudioTransform(
            int(rate), float(getattr(module, "featood_seconds", AudioTransform.seconds))
        )
        return Parts(WaveformEncoder(module), transform)
    own = getattr(module, "featood_transform", None)
    return Parts(module, None if own is None else Transform.from_json(own))


def build_log_mel(name: str, request: Request) -> Built:
    """Build the features of recordings that need no trained network.

    Raises
    ------
    UsageError
        If weights are given, or there are no features of this name.
    """
    if name != LOG_MEL or request.weights:
        raise UsageError(
            f"the features of recordings are called {LOG_MEL}, and have no weights; omit --weights"
        )
    return Built(
        WaveformEncoder(LogMel(RATE)),
        LOG_MEL,
        "its own",
        AudioTransform(RATE),
        options={"hop": HOP, "floor": FLOOR},
    )
