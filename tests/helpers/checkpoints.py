"""Reading weights into a network, for the tests of checkpoints."""

import os

import torch

from featood.extractors.weights import load_weights
from featood.nets import create_net


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


SAVERS = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


def loaded(path, classes=10):
    """Load a file into a new network, and return its weights and the notes."""
    other = create_net("cifar-resnet20", classes)
    notes = load_weights(other, path)
    return other.state_dict(), notes
