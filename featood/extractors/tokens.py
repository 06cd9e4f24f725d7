"""From texts to token numbers, as plain values, which are hashed exactly as applied."""

from __future__ import annotations

__all__ = ["TokenTransform", "Tokenizer"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from featood.data import TextSet
from featood.errors import UsageError
from featood.nets.padded import PADDING


class Tokenizer(Protocol):
    """Numbers the parts of a text."""

    size: int
    """Number of different tokens."""

    def ids(self, text: str, longest: int) -> Sequence[int]:
        """Return the numbers of the first tokens of a text, at most `longest` with those for its ends."""

    def count(self, text: str) -> int:
        """Return the number of tokens of a whole text, with those for its ends."""

    def as_json(self) -> dict[str, Any]:
        """Return what identifies it."""


@dataclasses.dataclass(frozen=True)
class TokenTransform:
    """Transform from text to token numbers.

    Parameters
    ----------
    tokenizer : Tokenizer
        Numbers the parts of a text.
    max_length : int
        Tokens after this number are cut off.

    Raises
    ------
    UsageError
        If the length is not positive.
    """

    takes: ClassVar[str] = "texts"
    tokenizer: Tokenizer
    max_length: int

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise UsageError(f"a text must have at least one token, not {self.max_length}")

    def __str__(self) -> str:
        about = self.tokenizer.as_json()
        return f"{about['tokenizer']}, {self.tokenizer.size} tokens, texts cut off after {self.max_length}"

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form; a tokenizer is in it by its digest."""
        return {"kind": self.takes, **self.tokenizer.as_json(), "max_length": self.max_length}

    def like(self, body: Mapping[str, Any]) -> TokenTransform:
        """Return the transform with the length of a JSON form."""
        return dataclasses.replace(self, max_length=body.get("max_length", self.max_length))

    def example(self) -> Tensor:
        """Return two texts of random tokens ``[2, L]``."""
        generator = torch.Generator().manual_seed(0)
        shape = (2, min(self.max_length, 16))
        return torch.randint(self.tokenizer.size, shape, generator=generator)

    @property
    def channels(self) -> int:
        """Number of different tokens, which a network has in place of the channels of images."""
        return self.tokenizer.size

    def read(self, inputs: TextSet, row: int) -> np.ndarray:
        """Return the token numbers of a row, int64 ``[L]``."""
        return np.asarray(self.tokenizer.ids(inputs.read(row), self.max_length), np.int64)

    def stack(self, rows: Sequence[np.ndarray | None]) -> np.ndarray:
        """Join texts to int64 ``[B, L]``, with `PADDING` after shorter ones."""
        longest = max([1, *(len(row) for row in rows if row is not None)])
        tokens = np.full((len(rows), longest), PADDING, np.int64)
        for place, row in enumerate(rows):
            if row is not None:
                tokens[place, : len(row)] = row
        return tokens

    def normalise(self, batch: np.ndarray) -> Tensor:
        """Return the tokens as a tensor ``[B, L]``."""
        return torch.from_numpy(batch)

    def counts(self, inputs: TextSet) -> dict[str, int]:
        """Return the number of texts that are cut off."""
        # a token has at least one byte of the text, except for those of its ends
        ends = self.tokenizer.count("")
        maybe = (
            text for text in inputs.texts if len(text.encode("utf-8", "replace")) + ends > self.max_length
        )
        cut = sum(self.tokenizer.count(text) > self.max_length for text in maybe)
        return {"cut off": cut} if cut else {}
