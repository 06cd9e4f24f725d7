"""Base of heads that train a small network on one feature column; subclasses add network, loss and score."""

from __future__ import annotations

__all__ = ["Phase", "TrainedHead", "updates_option"]

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.cache.feature_set import ROWS, FeatureSet
from featood.energies.sgld import frozen
from featood.errors import DataError, UsageError
from featood.heads.base.feature_head import FeatureHead, space_option
from featood.heads.base.fit import FitContext, Learned, State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import stacked
from featood.metrics import auroc
from featood.options import option
from featood.training import Batches, Schedule, constant, cosine, digest, multi_step, warm_up
from featood.training.loop import train as run_training

MODEL = "model."
FEW = 20
"""Minimum number of held-out rows: the loss of fewer rows is too noisy."""
SCHEDULES: Mapping[str, Callable[[int], Schedule]] = {
    "cosine": cosine,
    "step": lambda steps: multi_step([steps // 2, 3 * steps // 4]),
    "constant": lambda steps: constant,
}


def updates_option(default: int) -> int:
    """Declare the option ``updates`` with a default specific to the head."""
    return option(
        default,
        "minimum number of updates, unless `epochs` is given: over few rows, more passes are made",
        low=0,
    )


@dataclasses.dataclass(frozen=True)
class Phase:
    """One training phase of a head, with a separate loss."""

    epochs: int
    losses: Callable[[Any, Tensor, Tensor, torch.Generator], dict[str, Tensor]]
    """Function like `TrainedHead.losses`."""
    validation_loss: Callable[[Any, Tensor, Tensor, torch.Generator], Tensor] | None
    """Function like `TrainedHead.validation_loss`; None for training without early stopping."""
    optimizer: Callable[[Any], torch.optim.Optimizer]
    """Function from the network to an optimiser over the trained parameters."""
    name: str = ""
    """Name under which the summary is recorded; empty for the main phase."""
    start: Callable[[Any, Tensor, Tensor], None] | None = None
    """Function like `TrainedHead.initialize`, called before the first step of the phase."""


@dataclasses.dataclass(kw_only=True, eq=False)
class TrainedHead(FeatureHead):
    """Base of heads whose state is a network; a subclass implements `build`, `losses` and `score_rows`.

    The network gets rows in float32 for training and in float64 for scoring, in the space of the option `space`, which
    is fitted on the rows that are not held out. Only a head whose card lists outliers gets any: as many as the batch
    has rows, appended to the batch with label -1. A head with several scores has an option ``which`` with choices,
    which only `score_rows` reads.

    With held-out rows, the training stops early when their loss stops falling, and the network with the lowest loss is
    restored. If the context has outliers to validate on, the criterion is 1 - AUROC of the scores instead of the loss.
    """

    trains: ClassVar[bool] = True
    testing_options: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 64}
    transient: ClassVar[tuple[str, ...]] = ()
    """Submodules needed only in training (a replay buffer, a generator); they are not saved."""
    table_options: ClassVar[Mapping[str, Any]] = {}
    """Options that replace defaults for tables, besides the space."""

    space: str = space_option("standardize")
    epochs: int = option(50, "passes over the training rows", low=1)
    updates: int = updates_option(0)
    batch_size: int = option(512, "rows in a batch", low=1)
    lr: float = option(1e-3, "initial learning rate", low=0)
    schedule: str = option(
        "cosine",
        "learning-rate schedule; step: a factor of 1/10 after 1/2 and 3/4 of the updates",
        choices=tuple(SCHEDULES),
    )
    warmup: int = option(
        0, "number of updates over which the learning rate rises to its initial value", low=0
    )
    weight_decay: float = option(0.0, "decoupled weight decay", low=0)
    clip: float = option(0.0, "largest norm of the gradient; 0 for no limit", low=0)
    ema: float = option(
        0.0, "decay of an exponential moving average of the weights, used in their place", low=0, high=0.99999
    )
    precision: str = option(
        "float32",
        "precision of the matrix products in training",
        choices=("float32", "bfloat16"),
    )
    validation: float = option(0.1, "share of the rows held out to stop early", low=0, high=0.9)
    patience: int = option(
        10, "stop after this many validations (about one per epoch) without a lower loss", low=1
    )
    seed: int = option(
        0, "seed of the weights, the batches and all random numbers in training", low=0, high=2**32 - 1
    )

    # ---- implemented by subclasses ----------------------------------------------------------------

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the untrained network for `size` features and `classes` classes (1 without labels)."""
        raise NotImplementedError

    def initialize(self, model: nn.Module, rows: Tensor, labels: Tensor) -> None:
        """Initialise values from the training rows (followed by outliers, if any) before the first step."""

    def inputs(self, model: Any, rows: Tensor) -> Tensor:
        """Return what the initialised network is trained on and scores, given rows in the space; by default these."""
        return rows

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of a batch ``[B, D]`` with labels ``[B]`` by name; ``loss`` is minimised."""
        raise NotImplementedError

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of the held-out rows; `generator` is in the same state at every call."""
        return self.losses(model, rows, labels, generator)["loss"]

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Score rows ``[B, D]`` to ``[B]``; called without gradients."""
        raise NotImplementedError

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor | None:
        """Return class logits ``[B, C]`` of rows, or None if the head is not a classifier."""
        return None

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser over the network's parameters."""
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def phases(self) -> Sequence[Phase]:
        """Return the training phases of the network in order."""
        return [Phase(self.epochs, self.losses, self.validation_loss, self.optimizer)]

    def batches(self, labels: Tensor) -> Batches:
        """Return the batches of rows with labels ``[N]``; negative labels do not occur."""
        return Batches(len(labels), self.batch_size, self.seed)

    # ---- shared -----------------------------------------------------------------------------------

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Hold out rows, fit the space on the others, and train."""
        data = train.load()
        labels = torch.zeros(len(data), dtype=torch.long, device=train.device)
        if data.labels is not None:
            labels = data.labels[:]
        known = (labels >= 0).nonzero().squeeze(1)
        if not len(known):
            raise DataError(f"{self.name}: {train.source.name} has no row of a known class to fit on")
        shuffle = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.seed))
        shuffle = shuffle.to(known.device)
        count = int(self.validation * len(known))
        if 0 < count < FEW:
            warnings.warn(
                f"{self.name}: {count} held-out rows are too few for early stopping, so none are held out",
                stacklevel=2,
            )
            count = 0
        held, used = known[shuffle[:count]], known[shuffle[count:].sort().values]
        state = self.fit_space_to(self._read(data, used))
        outliers = (labels < 0).nonzero().squeeze(1)
        chosen = {"rows": used, "held": held, "outliers": outliers}
        parts = {name: self._transformed(data, numbers, state) for name, numbers in chosen.items()}
        columns, size = list(data.features), parts["rows"].shape[1]
        del data  # they are in memory in float32 now
        unseen = None
        if context.validate_on is not None:
            if not count:
                raise UsageError(f"{self.name}: no rows are held out for validation; set validation above 0")
            others = SelectedRows(context.validate_on, columns, self.nonfinite, device=train.device).load()
            unseen = self._transformed(others, torch.arange(len(others), device=train.device), state)
        state |= {"classes": torch.tensor(train.num_classes), "inputs": torch.tensor(size)}
        model, summary = self._train(parts, labels[used], labels[held], unseen, train.num_classes, context)
        saved = {name: value for name, value in model.state_dict().items() if not self._is_transient(name)}
        state |= {MODEL + name: value.detach().clone() for name, value in saved.items()}
        return Learned(state, summary)

    def prepare(self, state: State) -> Any:
        """Rebuild the network, in float64."""
        model = self.build(int(state["inputs"]), int(state["classes"]), torch.Generator())
        for child in self.transient:
            delattr(model, child)
        weights = {name.removeprefix(MODEL): value for name, value in state.items() if name.startswith(MODEL)}
        model.load_state_dict(weights)
        device = next(iter(weights.values())).device
        return model.to(device, torch.float64).eval().requires_grad_(False), state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Score a block by `score_rows`."""
        return self.score_rows(fitted[0], self.inputs(fitted[0], self.vectors(block).double()))

    def classify_block(self, block: FeatureSet, fitted: Any) -> Tensor | None:
        """Classify a block by `classify_rows`."""
        return self.classify_rows(fitted[0], self.inputs(fitted[0], self.vectors(block).double()))

    def _read(self, data: FeatureSet, numbers: Tensor) -> Iterator[Tensor]:
        """Iterate over features ``[B, D]`` of rows by number, in parts."""
        return (self.vectors(data.rows(part)) for part in numbers.split(ROWS))

    def _transformed(self, data: FeatureSet, numbers: Tensor, state: State) -> Tensor:
        """Return rows by number in the space, in float32."""
        parts = (self.into_space(rows, state) for rows in self._read(data, numbers))
        return stacked(parts, len(numbers), torch.float32)

    def _train(
        self,
        parts: Mapping[str, Tensor],
        labels: Tensor,
        held_labels: Tensor,
        unseen: Tensor | None,
        classes: int,
        context: FitContext,
    ) -> tuple[nn.Module, dict[str, Any]]:
        passes = math.ceil(self.updates / len(self.batches(labels)))
        if self.epochs < passes:
            longer = dataclasses.replace(self, epochs=passes)
            return longer._train(parts, labels, held_labels, unseen, classes, context)
        rows, held, outliers = parts["rows"], parts["held"], parts["outliers"]
        model = self.build(rows.shape[1], classes, torch.Generator().manual_seed(self.seed)).to(rows.device)
        pool, known, further = rows, labels, None
        if len(outliers):
            pool = torch.cat([rows, outliers])
            known = torch.cat([labels, torch.full((len(outliers),), -1, device=rows.device)])
            further = Batches(len(outliers), self.batch_size, self.seed + 1)
        self.initialize(model, pool, known)
        pool, held = self.inputs(model, pool), self.inputs(model, held)
        unseen = None if unseen is None else self.inputs(model, unseen)
        model.train()
        batches = self.batches(labels)

        def batch(number: int) -> tuple[Tensor, Tensor]:
            chosen = batches(number)
            if further is not None:
                chosen = torch.cat([chosen, len(rows) + further(number)])
            chosen = chosen.to(rows.device)
            return pool.index_select(0, chosen), known.index_select(0, chosen)

        seen = [] if unseen is None else [unseen]
        settings = {**self.options, "data": digest(*parts.values(), labels, held_labels, *seen)}
        training: dict[str, Any] = {}
        for phase in self.phases():
            folder = context.checkpoint
            if phase.start is not None:
                phase.start(model, pool, known)
            summary = self._run_phase(
                phase,
                model,
                batch,
                len(batches),
                (held, held_labels, unseen),
                dataclasses.replace(
                    context, checkpoint=folder / phase.name if folder and phase.name else folder
                ),
                {**settings, **({"phase": phase.name} if phase.name else {})},
            )
            training |= {phase.name: summary} if phase.name else summary
        return model, training

    def _run_phase(
        self,
        phase: Phase,
        model: nn.Module,
        batch: Callable[[int], tuple[Tensor, Tensor]],
        epoch: int,
        held_out: tuple[Tensor, Tensor, Tensor | None],
        context: FitContext,
        settings: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Train with `epoch` batches per pass, and return the summary."""
        held, held_labels, unseen = held_out
        device = held.device
        generator = torch.Generator(device).manual_seed(self.seed)

        def losses(number: int) -> dict[str, Tensor]:
            chosen, named = batch(number)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                return phase.losses(model, chosen, named, generator)

        def validate() -> float:
            assert phase.validation_loss is not None
            with frozen(model):
                if unseen is not None:
                    scores = [self.score_rows(model, part).double().cpu().numpy() for part in (held, unseen)]
                    return 1 - auroc(*scores)
                fixed = torch.Generator(device).manual_seed(self.seed)
                before = {name: value.clone() for name, value in model.named_buffers()}
                loss = float(phase.validation_loss(model, held, held_labels, fixed).detach())
                for name, value in model.named_buffers():  # such as chains, which computing a loss updates
                    value.copy_(before[name])
                return loss

        steps = phase.epochs * epoch
        return run_training(
            losses,
            model,
            phase.optimizer(model),
            steps,
            schedule=warm_up(self.warmup, SCHEDULES[self.schedule](steps)),
            clip=self.clip or None,
            average=self.ema,
            generators=[generator],
            progress=context.progress,
            checkpoint=context.checkpoint,
            settings=settings,
            every=max(epoch, 50),
            validate=validate if len(held) and phase.validation_loss else None,
            patience=self.patience,
        ).summary

    def _is_transient(self, name: str) -> bool:
        return name.split(".")[0] in self.transient
