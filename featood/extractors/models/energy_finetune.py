"""Classifiers whose free energies are low for the classes and high for outliers."""

from __future__ import annotations

__all__ = ["EnergyFinetune"]

from typing import ClassVar

from featood.errors import UsageError
from featood.extractors.models.model import ImageBatch
from featood.extractors.models.network import SplitNet
from featood.extractors.models.phases import PhasedModel
from featood.extractors.models.registry import register
from featood.losses import bounded_energy
from featood.options import option
from featood.training.loop import Losses


@register(
    "energy-finetune",
    title="Energy-bounded fine-tuning",
    paper="Liu et al., Energy-based Out-of-distribution Detection, NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2010.03759",
    needs=("labels", "outliers"),
)
class EnergyFinetune(PhasedModel):
    """Minimise the cross-entropy plus bounds on the energies E of labelled images and outliers.

    The loss is ``CE + weight (mean max(E - m_in, 0)^2 + mean max(m_out - E, 0)^2)`` with ``E = -log sum_c exp(l_c)``.
    Score it with ``energy``.

    The authors fine-tune a trained classifier for 10 epochs with a learning rate of 0.001; here the share `pretraining`
    of the updates, at the start, minimises the cross-entropy alone, and the learning rate is not reset. To fine-tune as
    the authors do, use ``--initial FOLDER --pretraining 0 --lr 0.001``. The default bounds are those of CIFAR-10; the
    authors take -27 and -5 for CIFAR-100.
    """

    takes: ClassVar[tuple[str, ...]] = ("images", "texts")
    weight: float = option(0.1, "weight of the bounds", low=0)
    m_in: float = option(-23.0, "upper bound of the energy of labelled images")
    m_out: float = option(-5.0, "lower bound of the energy of outliers")
    pretraining: float = option(0.5, "share of the training by cross-entropy alone", low=0, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.m_in > self.m_out:
            raise UsageError(
                f"{self.name}: m_in must not exceed m_out, but {self.m_in} is above {self.m_out}"
            )

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the cross-entropy, and the loss of the bounds."""
        logits = net(batch.images)
        named = batch.cross_entropy(logits)
        bounds = bounded_energy(-logits.logsumexp(1), batch.labels, self.m_in, self.m_out)
        weight = self.weight if self.begun(net, batch, self.pretraining) else 0.0
        return {"loss": named + weight * bounds, "classification": named, "bounds": bounds}
