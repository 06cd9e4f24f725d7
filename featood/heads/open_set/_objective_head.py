"""Base class of heads whose network defines its own objective."""

from __future__ import annotations

__all__ = ["ObjectiveHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.errors import DataError, UsageError
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.open_set._finetuned import Finetuned
from featood.heads.open_set._network import ObjectiveNet
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class ObjectiveHead(PerceptronHead):
    """Base of heads that train an :class:`ObjectiveNet`; a subclass chooses the network and its settings.

    By default no rows are held out: as they are of known classes, their loss is not informative about outliers. `which`
    names a score of the network, ``auto`` the objective's own score.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 15, "batch_size": 64, "width": 32, "depth": 1, "lr": 1e-2,
    }  # fmt: skip

    which: str
    depth: int = option(2, "hidden layers", low=0)
    validation: float = option(0.0, "share of the rows held out to stop early", low=0, high=0.9)

    def network(self) -> type[ObjectiveNet]:
        """Return the class of the network."""
        raise NotImplementedError

    def settings(self) -> dict[str, float]:
        """Return the settings that override the network's defaults."""
        return {}

    def build(self, size: int, classes: int, generator: torch.Generator) -> ObjectiveNet:
        """Make the network."""
        kind = self.network()
        return kind(lambda outputs: self.mlp(size, outputs, generator), classes, self.settings(), generator)

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Raise if the objective needs outliers and there are none, and initialise the network from the rows."""
        if model.outliers == "needed" and bool((labels >= 0).all()):
            raise DataError(f"{self.display_name} learns from outliers: add --outliers SET")
        rows, labels = rows[labels >= 0], labels[labels >= 0]
        epoch = len(self.batches(labels))
        model.start(rows, labels, epoch, self.epochs * epoch)

    @property
    def display_name(self) -> str:
        """The head's name in error messages."""
        return self.name

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of the objective, with outliers if it learns from them."""
        if model.outliers == "ignored":
            rows, labels = rows[labels >= 0], labels[labels >= 0]
        return model.losses(rows, labels, generator)

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of held-out rows, for objectives with a single loss."""
        if isinstance(model, Finetuned):
            raise UsageError(
                f"{self.display_name} has two phases with different losses and cannot stop early on held-out rows; "
                "set validation to 0, or validate on outliers"
            )
        return super().validation_loss(model, rows, labels, generator)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        return model.score(self.which, rows)

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor | None:
        """Return the logits of the network ``[B, C]``, or None if it does not classify."""
        return model.logits(rows)
