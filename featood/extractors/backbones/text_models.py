"""Encoders of sentence-transformers, and encoders and classifiers of Hugging Face, as backbones."""

from __future__ import annotations

__all__ = ["build_encoder", "build_transformer", "encoder_parts", "text_parts"]

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featood.errors import DataError, FeatoodError, UsageError
from featood.extractors.backbones.backbone import Built, Parts, Request, model_folder
from featood.extractors.tokens import TokenTransform
from featood.nets.padded import Padded, real_tokens
from featood.sealed import digest

LONGEST = 512
"""Tokens of a text for models that state no maximum."""
UNBOUNDED = 10**6
"""Maxima from here on mean that a tokenizer has none."""
SAFE: dict[str, Any] = {"trust_remote_code": False}
SAFE_WEIGHTS = {"use_safetensors": True}


class LibraryTokenizer:
    """A tokenizer of transformers.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The tokenizer.
    prompt : str
        Text that the model expects before each input.
    """

    def __init__(self, tokenizer: Any, prompt: str = "") -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        self.size = len(tokenizer)

    def ids(self, text: str, longest: int) -> Sequence[int]:
        """See :class:`featood.extractors.tokens.Tokenizer`."""
        ids: Sequence[int] = self._tokenizer(
            self._prompt + text.strip(), truncation=True, max_length=longest
        )["input_ids"]
        return ids

    def count(self, text: str) -> int:
        """See :class:`featood.extractors.tokens.Tokenizer`."""
        return len(self._tokenizer(self._prompt + text.strip(), truncation=False, verbose=False)["input_ids"])

    def as_json(self) -> dict[str, Any]:
        """See :class:`featood.extractors.tokens.Tokenizer`."""
        fast = getattr(self._tokenizer, "backend_tokenizer", None)
        if fast is not None:
            content = json.loads(fast.to_str())
            content |= {"truncation": None, "padding": None}  # state of the last call
        else:
            content = [sorted(self._tokenizer.get_vocab().items()), str(self._tokenizer.special_tokens_map)]
        body = {"tokenizer": type(self._tokenizer).__name__, "tokenizer_sha256": digest(content)}
        return {**body, "prompt": self._prompt} if self._prompt else body


class SentenceEncoder(Padded):
    """From token numbers ``[B, L]`` to the embeddings ``[B, D]`` of a model of sentence-transformers."""

    num_classes = 0

    def __init__(self, model: nn.Module, padding: int) -> None:
        super().__init__()
        self.model, self._padding = model, padding

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the embeddings."""
        ids, mask = real_tokens(tokens, self._padding)
        embedded: Tensor = self.model({"input_ids": ids, "attention_mask": mask.long()})["sentence_embedding"]
        return embedded


class TextNetwork(Padded):
    """From token numbers ``[B, L]`` to the outputs ``[B, C]`` of a network with the interface of transformers."""

    def __init__(self, model: nn.Module, padding: int) -> None:
        super().__init__()
        self.model, self._padding = model, padding
        self.config: Any = getattr(model, "config", None)

    def forward(self, tokens: Tensor) -> Any:
        """Return what the network returns, or the logits among it."""
        ids, mask = real_tokens(tokens, self._padding)
        output = self.model(input_ids=ids, attention_mask=mask.long())
        return getattr(output, "logits", output)


def build_encoder(name: str, request: Request) -> Built:
    """Build ``st:FOLDER`` or ``st:NAME``: a model of sentence-transformers, with its own pooling."""
    return _built("st", name, request, _sentence_transformer)


def build_transformer(name: str, request: Request) -> Built:
    """Build ``hf:FOLDER`` or ``hf:NAME``: a classifier of transformers, or else an encoder."""
    return _built("hf", name, request, _transformer)


def _built(family: str, name: str, request: Request, load: Callable[[str], Parts]) -> Built:
    if request.weights:
        raise UsageError(f"{family}:{name} contains its weights; leave out --weights")
    local = os.path.isdir(name)
    if not local and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        raise DataError(f"{name} does not exist; give the folder of a model, or its name on the hub")
    try:
        parts = load(name)
    except (FeatoodError, MemoryError):
        raise
    except Exception as error:  # libraries raise many types of errors on damaged folders
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = "the folder of a model" if local else "a model on the hub, or in its local cache"
        raise DataError(
            f"{family}:{name} cannot be loaded as {what}, without code of its own and from safetensors: {reason}"
        ) from error
    known = Path(name).name if local else name
    return Built(
        parts.module, f"{family}:{known}", "its own", parts.transform, parts.classes, parts.classes, parts.notes,
        folder=model_folder(f"{family}:{name}"), options=parts.options,
    )  # fmt: skip


def _sentence_transformer(name: str) -> Parts:
    from featood.extractors.language import sentence_transformers

    model = sentence_transformers.SentenceTransformer(name, device="cpu", model_kwargs=SAFE_WEIGHTS, **SAFE)
    return encoder_parts(model)


def _transformer(name: str) -> Parts:
    from featood.extractors.language import transformers

    config = transformers.AutoConfig.from_pretrained(name, **SAFE)
    kinds = getattr(config, "architectures", None) or ()
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return _sentence_transformer(name)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(name, **SAFE_WEIGHTS, **SAFE)
    return text_parts(model, transformers.AutoTokenizer.from_pretrained(name, **SAFE))


def encoder_parts(model: Any) -> Parts:
    """Return a model of sentence-transformers as a backbone.

    Raises
    ------
    UsageError
        If it has no tokenizer, or its pooling leaves out the prompt.
    """
    tokenizer = model.tokenizer
    if not callable(tokenizer) or not hasattr(tokenizer, "pad_token_id"):
        raise UsageError("this model of sentence-transformers has no tokenizer of texts")
    prompt = (model.prompts or {}).get(model.default_prompt_name or "", "")
    pooling = next((part for part in model if hasattr(part, "pooling_mode")), None)
    if prompt and pooling is not None and not getattr(pooling, "include_prompt", True):
        raise UsageError("the pooling of this model leaves out its prompt, which is not supported")
    parts = [_part_name(part) for part in model]
    options: dict[str, Any] = {"parts": parts, "config_sha256": _config_digest(model[0])}
    if pooling is not None:
        options["pooling"] = str(pooling.pooling_mode)
    how = f"embeddings by {' and '.join(parts)}" + (f", pooling {options['pooling']}" if pooling else "")
    notes = (how, *([f"before each text: {prompt!r}"] if prompt else []))
    longest = _bounded(model.max_seq_length)
    transform = TokenTransform(LibraryTokenizer(tokenizer, prompt), longest)
    return Parts(SentenceEncoder(model, tokenizer.pad_token_id or 0), transform, options, notes=notes)


def _part_name(part: nn.Module) -> str:
    """Return the class of a part, with its activation, which is not in its weights."""
    activation = getattr(part, "activation_function", None)
    return type(part).__name__ + (
        f" with {type(activation).__name__}" if isinstance(activation, nn.Module) else ""
    )


def text_parts(model: Any, tokenizer: Any) -> Parts:
    """Return a classifier of transformers, or another network that is called in the same way, as a backbone."""
    config = getattr(model, "config", None)
    titles = tuple(name for _, name in sorted((getattr(config, "id2label", None) or {}).items()))
    named = titles if not all(re.fullmatch(r"LABEL_\d+", name) for name in titles) else ()
    longest = _bounded(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
    padding = getattr(config, "pad_token_id", None)
    padding = (tokenizer.pad_token_id if padding is None else padding) or 0
    options = {"parts": [type(model).__name__], "config_sha256": _config_digest(model)}
    module = TextNetwork(model, padding)
    return Parts(module, TokenTransform(LibraryTokenizer(tokenizer), longest), options, named)


def _bounded(*maxima: int | None) -> int:
    return min((value for value in maxima if value and value < UNBOUNDED), default=LONGEST)


def _config_digest(part: nn.Module) -> str:
    for module in part.modules():
        if hasattr(config := getattr(module, "config", None), "to_dict"):
            return _digest_of(config)
    return ""


def _digest_of(config: Any) -> str:
    """Return a digest of a configuration, such as the number of heads of attention, without its origin."""
    body = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    body.pop("transformers_version", None)
    return digest(json.loads(json.dumps(body, default=str)))
