"""The one training loop: seeds, schedules, checkpoints to resume from, and what to do when a training diverges."""

from featood.training.batches import BalancedBatches, Batches
from featood.training.checkpoint import digest
from featood.training.loop import Losses, TrainingResult, train
from featood.training.schedules import Schedule, constant, cosine, multi_step, warm_up

__all__ = [
    "BalancedBatches",
    "Batches",
    "Losses",
    "Schedule",
    "TrainingResult",
    "constant",
    "cosine",
    "digest",
    "multi_step",
    "train",
    "warm_up",
]
