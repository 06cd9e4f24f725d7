"""Classifiers trained on logits of constant norm."""

from __future__ import annotations

__all__ = ["LogitNorm"]

from typing import ClassVar

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import logit_norm
from featood.options import option
from featood.training.loop import Losses


@register(
    "logit-norm",
    title="LogitNorm",
    paper="Wei et al., Mitigating Neural Network Overconfidence with Logit Normalization, ICML",
    year=2022,
    url="https://arxiv.org/abs/2205.09310",
)
class LogitNorm(Model):
    """Minimise the cross-entropy of ``l / (t |l|)``, so that confidence cannot grow by the norm of the logits l.

    The network's logits are those before normalisation, as in the authors' code.
    """

    takes: ClassVar[tuple[str, ...]] = ("images", "texts")
    temperature: float = option(0.04, "t: lower lets the classifier be more confident", low=1e-4)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the cross-entropy of a batch."""
        return {"loss": logit_norm(net(batch.images), batch.labels, self.temperature)}
