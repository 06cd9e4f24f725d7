"""Peak memory of tensors, counted exactly."""

import dataclasses
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from featood.testing.fixture import Blockwise


class CopiedBlocks(Blockwise):
    """A FeatureSet whose blocks are copies, as those read from disk are, so that a block that is kept takes memory."""

    def blocks(self, size=32):
        for block in super().blocks(size):
            yield dataclasses.replace(
                block,
                features={name: values.clone() for name, values in block.features.items()},
                logits=None if block.logits is None else block.logits.clone(),
                labels=None if block.labels is None else block.labels.clone(),
            )


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, of those made within the context."""

    def __init__(self):
        super().__init__()
        self.bytes = self.peak = 0
        self._known = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, made)
        return made

    def _count(self, tensor):
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self._known:
            return

        def forget(_):
            self.bytes -= size
            del self._known[place]

        self._known[place] = weakref.ref(storage, forget)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
