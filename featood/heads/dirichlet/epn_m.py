"""Energy-prior network, its energy learned from Langevin samples."""

from __future__ import annotations

__all__ = ["EPNM"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.energies import EnergyPriorObjective
from featood.heads.dirichlet._evidence_head import EnergyEvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.energies._energy_head import PUBLISHED, SampledHead
from featood.heads.registry import register
from featood.options import option


@register(
    "epn-m",
    title="Energy-prior network by contrastive divergence",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("features", "labels"),
)
class EPNM(EnergyEvidenceHead, EnergyPriorObjective, SampledHead):
    r"""Score the evidence of a classifier whose free energy is learned from its own Langevin samples.

    The concentrations are ``exp(l_c) + 1``, so the total evidence is :math:`\exp(-E(x))`. Samples descend the
    energy of a randomly drawn class, and each class has its own chains. The uncertain cross-entropy is averaged
    over rows; the published loss is also divided by the number of classes, which a preset cannot depend on: set
    ``classification=0.1`` for ten classes. By default, steps are short and the noise is that of exact Langevin
    dynamics; the preset has the published long steps with little noise.

    Without a base it suits tables and low-dimensional features only: on 342 features of a DenseNet it does not detect
    outliers.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": PUBLISHED}

    which: str = option("p(x)", "score to return", choices=CHOICES)
