"""Text embeddings of class names and other words, by a text encoder of open_clip or any callable."""

from __future__ import annotations

__all__ = ["TextEncoder", "as_words", "embed_texts", "in_phrases", "text_encoder"]

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from featood.errors import DataError, MissingPackage, UsageError
from featood.extractors.backbones import RANDOM
from featood.extractors.backbones.callables import load_callable

OPEN_CLIP, PYTHON = "open_clip:", "python:"
BATCH = 256
"""Number of texts encoded at a time."""
CLIP_SCALE = 100.0
"""Factor of CLIP's cosines after training, used for callables."""
SLOT = "{}"
"""Place of the word in a template."""


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """A function from texts to embeddings."""

    name: str
    encode: Callable[[list[str]], Any]
    """From B texts to ``[B, D]``."""
    scale: float = CLIP_SCALE
    """Factor by which the network multiplies cosines to get logits."""


def text_encoder(name: str, weights: str = "") -> TextEncoder:
    """Return the text encoder of a network.

    Parameters
    ----------
    name : str
        ``open_clip:ARCHITECTURE``, or ``python:package.module:callable`` or ``python:path/file.py:callable``, which
        takes a list of texts and returns an array ``[B, D]``.
    weights : str
        For open_clip, a tag of published weights, a file, or ``random``.

    Raises
    ------
    UsageError
        If there is no such network, or weights are not named where they are needed, or named where they are not.
    DataError
        If the weights cannot be loaded.
    MissingPackage
        If open_clip is not installed.
    """
    if name.startswith(PYTHON):
        if weights:
            raise UsageError("a callable has its own weights; omit --weights")
        return TextEncoder(name, load_callable(name.removeprefix(PYTHON)))
    if not name.startswith(OPEN_CLIP):
        raise UsageError(
            f"'{name}' is no text encoder; write open_clip:ARCHITECTURE or python:MODULE:CALLABLE"
        )
    return _open_clip(name.removeprefix(OPEN_CLIP), weights)


def _open_clip(name: str, weights: str) -> TextEncoder:
    from featood.extractors.vision import torchvision  # noqa: F401  (open_clip imports it, which may need help)

    try:
        import open_clip
    except ImportError:
        raise MissingPackage("text encoders need open_clip: pip install 'featood[clip]'") from None
    if name not in (known := open_clip.list_models()):
        raise UsageError(f"open_clip has no architecture '{name}' (it has: {', '.join(known[:5])}, ...)")
    if not weights:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UsageError(f"name the weights of {name} by --weights: a file, random, or a tag ({tags})")
    try:
        model = open_clip.create_model(name, pretrained=None if weights == RANDOM else weights).eval()
        tokenize = open_clip.get_tokenizer(name)
    except Exception as error:  # that of a download, a file or a configuration
        raise DataError(f"{weights} of {name} cannot be loaded: {type(error).__name__}: {error}") from error

    def encode(texts: list[str]) -> Any:
        with torch.inference_mode():
            return model.encode_text(tokenize(texts)).float().numpy()

    return TextEncoder(f"{OPEN_CLIP}{name}/{weights}", encode, float(model.logit_scale.detach().exp()))


def embed_texts(encoder: TextEncoder, words: Sequence[str], templates: Sequence[str] = (SLOT,)) -> np.ndarray:
    """Embed words as the mean over prompts, as CLIP does for class names.

    Parameters
    ----------
    encoder : TextEncoder
        The encoder.
    words : sequence of str
        C words or phrases.
    templates : sequence of str
        Prompts with ``{}`` for the word, such as ``a photo of a {}``.

    Returns
    -------
    ndarray
        ``[C, D]`` float32: for each prompt, the embedding is scaled to length 1; so is their mean.

    Raises
    ------
    UsageError
        If a template has no ``{}``, or there are no words.
    DataError
        If the encoder fails, or does not return finite numbers ``[B, D]``, or returns zeros.

    Examples
    --------
    >>> letters = TextEncoder("letters", lambda texts: [[text.count("a"), text.count("b")] for text in texts])
    >>> embed_texts(letters, ["a", "bb"]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not words:
        raise UsageError("there are no words to embed")
    for template in templates:
        if SLOT not in template:
            raise UsageError(f"the prompt '{template}' has no {SLOT} in place of the word")
    total: Any = 0.0
    for template in templates:
        texts = [template.replace(SLOT, word) for word in words]
        parts = [_encoded(encoder, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        total = total + _unit(np.concatenate(parts), encoder.name)
    return _unit(total, encoder.name).astype("f4")


def in_phrases(words: Sequence[str], phrases: Sequence[str], seed: int = 0) -> list[str]:
    """Put each word into one of the phrases, such as ``{} creature``, drawn at random."""
    for phrase in phrases:
        if SLOT not in phrase:
            raise UsageError(f"the phrase '{phrase}' has no {SLOT} in place of the word")
    drawn = np.random.default_rng(seed).integers(len(phrases), size=len(words))
    return [phrases[number].replace(SLOT, word) for number, word in zip(drawn, words, strict=True)]


def as_words(names: Sequence[str]) -> list[str]:
    """Return the names of classes as texts: ``_`` becomes a space.

    Raises
    ------
    DataError
        If they are numbers or WordNet identifiers.
    """
    if odd := [name for name in names if re.fullmatch(r"(n\d{8}|\d+)", name)]:
        raise DataError(
            f"'{odd[0]}' is no word; give the names of the classes, one per line, by --names FILE"
        )
    return [name.replace("_", " ") for name in names]


def _encoded(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    try:
        values = np.asarray(encoder.encode(texts), "f8")
    except Exception as error:  # third-party code may raise anything
        raise DataError(f"{encoder.name} failed: {type(error).__name__}: {error}") from error
    if values.ndim != 2 or len(values) != len(texts) or not np.isfinite(values).all():
        raise DataError(
            f"{encoder.name} must return finite numbers [{len(texts)}, D] for {len(texts)} texts, not an array of "
            f"shape {list(values.shape)}"
        )
    return values


def _unit(rows: np.ndarray, name: str) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise DataError(f"{name} returned an embedding of length 0 for row {int(np.argmin(lengths))}")
    return rows / lengths
