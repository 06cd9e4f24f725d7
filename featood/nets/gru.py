"""A recurrent classifier of texts."""

from __future__ import annotations

__all__ = ["GruClassifier", "GruOptions"]

import dataclasses
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from featood.nets.options import NetOptions
from featood.nets.padded import Padded, real_tokens
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class GruOptions(NetOptions):
    """Options of the recurrent classifier."""

    name: ClassVar[str] = "gru"
    embedding: int = option(50, "dimensions of the embedding of a token", low=1)
    hidden: int = option(128, "units of a layer", low=1)
    layers: int = option(2, "layers", low=1)
    dropout: float = option(0.0, "dropout between layers and before the last", low=0, high=0.99)


class GruClassifier(Padded):
    """Embeddings of tokens, gated recurrent units, and a linear layer on the last state of the last layer.

    The last state is that of the last token, so it does not depend on the padding; a text without tokens is read as one
    unknown token, number 0.

    Parameters
    ----------
    num_classes
        Width of the logits.
    tokens
        Number of different tokens.
    options
        See :class:`GruOptions`.

    References
    ----------
    Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019, for texts.
    """

    Options = GruOptions

    def __init__(self, num_classes: int, tokens: int, options: GruOptions = GruOptions()) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, options.embedding)
        between = options.dropout if options.layers > 1 else 0.0
        self.gru = nn.GRU(
            options.embedding, options.hidden, options.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(options.dropout)
        self.fc = nn.Linear(options.hidden, num_classes)

    def forward(self, tokens: Int[Tensor, "B L"]) -> Float[Tensor, "B K"]:
        """Map token numbers ``[B, L]``, with -1 after the end of a text, to logits ``[B, K]``."""
        ids, mask = real_tokens(tokens)
        lengths = mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.fc(self.dropout(self.gru(packed)[1][-1]))
