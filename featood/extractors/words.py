"""Words of texts as tokens, for networks that are trained from scratch."""

from __future__ import annotations

__all__ = ["WordTokenizer", "words_of"]

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from featood.errors import DataError, Mismatch
from featood.sealed import digest

UNKNOWN = 0
"""Number of the words that are not in the vocabulary."""
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Divide a text into words and punctuation marks, in lower case.

    Examples
    --------
    >>> words_of("A GTK+ front-end.")
    ['a', 'gtk', '+', 'front', '-', 'end', '.']
    """
    return _WORD.findall(text.lower())


class WordTokenizer:
    """Numbers words by a vocabulary; 0 stands for all others.

    Parameters
    ----------
    vocabulary : sequence of str
        The words 1, 2, ...
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self.size = len(self.vocabulary) + 1
        self._numbers = {word: number for number, word in enumerate(self.vocabulary, 1)}

    @classmethod
    def of(cls, texts: Iterable[str], most: int) -> WordTokenizer:
        """Return the tokenizer with the most frequent words of some texts; ties are in alphabetical order.

        Raises
        ------
        DataError
            If there are no words.
        """
        counts = Counter(word for text in texts for word in words_of(text))
        if not counts:
            raise DataError("the texts to train on contain no words")
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ordered[:most])

    @classmethod
    def from_json(cls, body: Any, sha256: str) -> WordTokenizer:
        """Restore a tokenizer from its list of words.

        Raises
        ------
        Mismatch
            If it does not match the digest.
        """
        if (
            not isinstance(body, list)
            or not all(isinstance(word, str) for word in body)
            or digest(body) != sha256
        ):
            raise Mismatch("the vocabulary does not match its checksum; train the network again")
        return cls(body)

    def ids(self, text: str, longest: int) -> Sequence[int]:
        """See :class:`featood.extractors.tokens.Tokenizer`."""
        return [self._numbers.get(word, UNKNOWN) for word in words_of(text)[:longest]]

    def count(self, text: str) -> int:
        """See :class:`featood.extractors.tokens.Tokenizer`."""
        return len(words_of(text))

    def as_json(self) -> dict[str, Any]:
        """See :class:`featood.extractors.tokens.Tokenizer`."""
        return {"tokenizer": "words", "tokenizer_sha256": digest(list(self.vocabulary))}
