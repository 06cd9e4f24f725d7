"""Classifiers that are also energies of images."""

from __future__ import annotations

__all__ = ["JEM"]

from featood.energies import JointObjective
from featood.extractors.models.energy_model import SampledModel
from featood.extractors.models.registry import register
from featood.options import option


@register(
    "jem",
    title="Joint energy model",
    paper="Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, ICLR",
    year=2020,
    url="https://arxiv.org/abs/1912.03263",
    needs=("labels",),
)
class JEM(JointObjective, SampledModel):
    """Learn a classifier whose free energy models the density of images, by contrast with Langevin samples.

    Samples are of the free energy, as published (``--class-conditional`` for those of a class, as in the thesis). The
    squared energies have a small weight, without which small networks diverge (0 in the paper, 1 in the thesis). Score
    the column ``energy`` with ``likelihood``, and the logits with ``msp``.
    """

    class_conditional: bool = option(False, "sample from the energy of a class instead of the free energy")
