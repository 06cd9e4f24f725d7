"""Base of the models that start with the cross-entropy alone."""

from __future__ import annotations

__all__ = ["PhasedModel"]

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet


class _Phase(nn.Module):
    begun: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("begun", torch.tensor(False))


@dataclasses.dataclass(kw_only=True, eq=False)
class PhasedModel(Model):
    """A model whose objective begins after a share of the training; earlier weights are not candidates for the best."""

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the record of the phase."""
        return {"phase": _Phase()}

    def begun(self, net: SplitNet, batch: ImageBatch, share: float) -> bool:
        """Whether the objective, which begins after a share of the training, has begun; call it in each update."""
        begun = batch.done >= share
        if begun:
            self._phase(net).begun.fill_(True)
        return begun

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the errors ``[B]``, NaN before the objective has begun."""
        errors = self.all_errors(net, batch)
        return errors if bool(self._phase(net).begun) else torch.full_like(errors, math.nan)

    def all_errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the errors ``[B]`` of any weights."""
        return super().errors(net, batch)

    @staticmethod
    def _phase(net: SplitNet) -> _Phase:
        phase = net.parts["phase"]
        assert isinstance(phase, _Phase)
        return phase
