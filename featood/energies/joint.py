"""Joint energy models: classifiers whose free energy is learned by contrastive divergence."""

from __future__ import annotations

__all__ = ["JointObjective", "joint_loss"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.energies.classifier import Logits, classification_loss
from featood.energies.contrastive import contrastive_divergence
from featood.energies.gaussian_base import learned_energy
from featood.energies.replay import SampledObjective, random_classes
from featood.options import option


def joint_loss(
    logits: Logits,
    rows: Float[Tensor, "B *shape"],
    labels: Int[Tensor, "B"],
    samples: Float[Tensor, "M *shape"],
    *,
    density: float = 1.0,
    classification: float = 1.0,
    l2: float = 1.0,
    smoothing: float = 0.0,
    entropy: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss of a joint energy model, a weighted sum of ``-log p(x)`` and ``-log p(y|x)``.

    Parameters
    ----------
    logits : callable
        ``[B, ...]`` to ``[B, C]``; see :func:`learned_energy`.
    rows, labels : Tensor
        Data ``[B, ...]`` and their classes ``[B]``.
    samples : Tensor
        Samples of the model ``[M, ...]``.
    density, classification : float
        Weights of the contrastive divergence of the free energy and of the cross-entropy.
    l2 : float
        Weight of the squared energies within the contrastive divergence.
    smoothing, entropy : float
        See :func:`classification_loss`.

    Returns
    -------
    dict of str to Tensor
        ``loss``, the mean energies ``positive`` and ``negative``, and ``classification``.

    References
    ----------
    Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, ICLR 2020.
    """
    parts = contrastive_divergence(learned_energy(logits), rows, samples, l2=l2)
    cross_entropy = classification_loss(logits, rows, labels, smoothing=smoothing, entropy=entropy)
    loss = density * parts["loss"] + classification * cross_entropy
    return {**parts, "loss": loss, "classification": cross_entropy}


@dataclasses.dataclass(kw_only=True, eq=False)
class JointObjective(SampledObjective):
    """Learn a classifier whose free energy is contrasted with its own Langevin samples; see :func:`joint_loss`."""

    supervised: ClassVar[bool] = True

    class_conditional: bool = option(True, "sample from the energy of a class instead of the free energy")
    density: float = option(1.0, "weight of the density of the inputs in the loss", low=0)
    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)
    class_density: float = option(
        0.0, "weight of a contrastive term with samples of the inputs' own classes", low=0
    )
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)
    smoothing: float = option(0.0, "label smoothing", low=0, high=1)
    entropy: float = option(
        0.0, "weight of the regulariser that increases the entropy of the predictions", low=0
    )

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Draw samples, and return the contrastive and classification losses."""
        chains, count = parts["chains"], len(rows)
        drawn = random_classes(count, chains, generator) if self.class_conditional else None
        losses = joint_loss(
            net,
            rows,
            labels,
            self.samples(net, chains, count, generator, drawn),
            density=self.density,
            classification=self.classification,
            l2=self.l2,
            smoothing=self.smoothing,
            entropy=self.entropy,
        )
        if self.class_density:
            samples = self.samples(net, chains, count, generator, labels)
            further = contrastive_divergence(learned_energy(net), rows, samples, l2=0.0)
            losses["loss"] = losses["loss"] + self.class_density * further["loss"]
        return losses
