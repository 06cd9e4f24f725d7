"""Heads that train a small network on one feature column: all but the network, its loss and its score."""

from __future__ import annotations

__all__ = ["TrainedHead"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.cache.feature_set import FeatureSet
from featood.energies.sgld import frozen
from featood.errors import DataError
from featood.heads.base import FeatureHead, FitContext, State
from featood.heads.registry import option
from featood.heads.rows import SelectedRows
from featood.nets.mlp import ACTIVATIONS, MLP
from featood.training import Batches, cosine, digest
from featood.training.loop import train as run_training

MODEL = "model."


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainedHead(FeatureHead):
    """Base of heads whose state is a network; a subclass writes `build`, `losses` and `score_rows`.

    The network sees rows in float32 to learn and in float64 to score, standardised where asked for. Rows with
    a negative label reach it only in heads whose card needs outliers. A head that offers several scores has
    an option ``which`` with choices, and tells them apart in `score_rows`.

    The learning rate falls along half a cosine. With held-out rows the training ends when their loss has not
    fallen for a while, and the network is put back to where it was lowest.
    """

    trains: ClassVar[bool] = True
    testing_options: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 64, "width": 16, "depth": 2}
    transient: ClassVar[tuple[str, ...]] = ()
    """Children of the network that only training needs (a replay buffer, a generator); they are not saved."""

    depth: int = option(5, "hidden layers", low=0)
    width: int = option(100, "units of a hidden layer", low=1)
    activation: str = option("silu", "between the layers", choices=tuple(ACTIVATIONS))
    standardize: bool = option(True, "shift and scale every feature to mean 0 and variance 1")
    epochs: int = option(50, "passes over the training rows", low=1)
    batch_size: int = option(512, "rows in a batch", low=1)
    lr: float = option(1e-3, "first learning rate", low=0)
    weight_decay: float = option(0.0, "decoupled weight decay", low=0)
    validation: float = option(0.0, "share of the rows held out to stop early", low=0, high=0.9)
    patience: int = option(10, "validations (one an epoch) without a lower loss that end training", low=1)
    seed: int = option(0, "seed of the weights, the batches and everything drawn in training", low=0)

    # ---- what a subclass writes -------------------------------------------------------------------

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the untrained network for `size` features and `classes` classes (1 where there are no labels)."""
        raise NotImplementedError

    def initialize(self, model: nn.Module, rows: Tensor, labels: Tensor) -> None:
        """Set what depends on the training rows before the first step (class counts, a noise distribution)."""

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of a batch ``[B, D]``, ``[B]`` by name; the one called ``loss`` is minimised."""
        raise NotImplementedError

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of the held-out rows; all draws come from `generator`, the same at every call."""
        return self.losses(model, rows, labels, generator)["loss"]

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Score rows ``[B, D]`` to ``[B]``, without gradients unless asked for."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser over the network's parameters."""
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def mlp(self, size: int, outputs: int, generator: torch.Generator) -> MLP:
        """Make a perceptron of the head's depth, width and activation, ``[B, size]`` to ``[B, outputs]``."""
        return MLP(size, [self.width] * self.depth, outputs, self.activation, generator)

    # ---- what they share --------------------------------------------------------------------------

    def run_fit(self, train: SelectedRows, context: FitContext) -> State:
        """Standardise, hold rows out, and train."""
        data = train.load()
        labels = torch.zeros(len(data), dtype=torch.long, device=train.device)
        if data.labels is not None:
            labels = data.labels[:]
        known = (labels >= 0).nonzero().squeeze(1)
        if not len(known):
            raise DataError(f"{self.name}: {train.source.name} has no row of a known class to fit on")
        state = self._scaling(self.vectors(data)[known].double())
        rows = _scaled(self.vectors(data), state).float()
        shuffle = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.seed))
        held = known[shuffle[: int(self.validation * len(known))].to(known.device)]
        used = torch.ones(len(rows), dtype=torch.bool, device=train.device)
        used[held] = False
        state["classes"] = torch.tensor(train.num_classes)
        model = self._train(rows[used], labels[used], rows[held], labels[held], train.num_classes, context)
        saved = {name: value for name, value in model.state_dict().items() if not self._is_transient(name)}
        return state | {MODEL + name: value.detach().clone() for name, value in saved.items()}

    def prepare(self, state: State) -> Any:
        """Rebuild the network, in float64."""
        model = self.build(len(state["mean"]), int(state["classes"]), torch.Generator())
        for child in self.transient:
            delattr(model, child)
        weights = {name.removeprefix(MODEL): value for name, value in state.items() if name.startswith(MODEL)}
        model.load_state_dict(weights)
        return model.to(state["mean"]).eval().requires_grad_(False), state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by `score_rows`."""
        model, state = fitted
        return self.score_rows(model, _scaled(self.vectors(block), state))

    def _scaling(self, rows: Tensor) -> State:
        mean, spread = torch.zeros_like(rows[0]), torch.ones_like(rows[0])
        if self.standardize:
            mean, deviation = rows.mean(0), rows.std(0, correction=0)
            # a column that does not vary stays as it is, beyond the rounding of its mean
            spread = torch.where(deviation > 1e-6 * mean.abs(), deviation, spread)
        return {"mean": mean, "spread": spread}

    def _train(
        self,
        rows: Tensor,
        labels: Tensor,
        held_rows: Tensor,
        held_labels: Tensor,
        classes: int,
        context: FitContext,
    ) -> nn.Module:
        model = self.build(rows.shape[1], classes, torch.Generator().manual_seed(self.seed)).to(rows.device)
        self.initialize(model, rows, labels)
        model.train()
        generator = torch.Generator(rows.device).manual_seed(self.seed)
        batches = Batches(len(rows), self.batch_size, self.seed)

        def losses(number: int) -> dict[str, Tensor]:
            batch = batches(number).to(rows.device)
            return self.losses(model, rows[batch], labels[batch], generator)

        def validate() -> float:
            fixed = torch.Generator(rows.device).manual_seed(self.seed)
            with frozen(model):
                return float(self.validation_loss(model, held_rows, held_labels, fixed))

        steps = self.epochs * len(batches)
        run_training(
            losses,
            model,
            self.optimizer(model),
            steps,
            schedule=cosine(steps),
            generators=[generator],
            progress=context.progress,
            checkpoint=context.checkpoint,
            settings={**self.options, "data": digest(rows, labels)},
            every=max(len(batches), 50),
            validate=validate if len(held_rows) else None,
            patience=self.patience,
        )
        return model

    def _is_transient(self, name: str) -> bool:
        return name.split(".")[0] in self.transient


def _scaled(rows: Tensor, state: State) -> Tensor:
    return (rows.double() - state["mean"]) / state["spread"]
