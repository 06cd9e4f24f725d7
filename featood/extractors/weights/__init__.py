"""Files of weights: read without running anything, matched with a network by name, identified by content."""

from __future__ import annotations

__all__ = [
    "SUFFIXES",
    "Checkpoint",
    "Conversion",
    "Match",
    "Slots",
    "fill",
    "load_weights",
    "match",
    "read_checkpoint",
    "weights_sha256",
]

from featood.extractors.weights.files import SUFFIXES, Checkpoint, read_checkpoint
from featood.extractors.weights.load import fill, load_weights, weights_sha256
from featood.extractors.weights.match import Conversion, Match, Slots, match
