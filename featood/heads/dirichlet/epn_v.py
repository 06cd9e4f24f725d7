"""Energy-prior network, its energy learned against a generator."""

from __future__ import annotations

__all__ = ["EPNV"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.energies import GeneratedEnergyPriorObjective
from featood.heads.dirichlet._evidence_head import EnergyEvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.energies._energy_head import PLAIN
from featood.heads.energies.vera import VERA
from featood.heads.registry import register
from featood.options import option


@register(
    "epn-v",
    title="Energy-prior network by VERA",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("features", "labels"),
)
class EPNV(EnergyEvidenceHead, GeneratedEnergyPriorObjective, VERA):
    r"""Score the evidence of a classifier whose free energy is learned against samples of a generator.

    The concentrations are ``exp(l_c) + 1``, so the total evidence is :math:`\exp(-E(x))`; the target of a row of
    class y has all evidence on y. Optionally, the distribution on generator samples is trained to be flat.

    With ``target=0``, as published, the target concentration is the evidence itself: where it is near 1, the target is
    the flat distribution, and no class is learned. Without a base, on 342 features of a DenseNet, this gave an accuracy
    of 28 % and an AUROC of 58 %, against 93 % and 86 % with ``target=100``. In few dimensions, where the classes are
    learned with either target, a fixed target makes the density somewhat worse. The published learning rates decay at
    fixed epochs; here they follow `schedule`.
    """

    # as published, except that the published learning rates decay at fixed epochs
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            **PLAIN,
            "lr": 1e-4,
            "generator_lr": 2e-4,
            "posterior_lr": 2e-4,
            "noise_size": 0,
            "penalty": 0.1,
            "batch_size": 128,
            "target": 0.0,
        }
    }

    generator_lr: float = option(
        5e-4, "initial learning rate of the generator; higher ones diverged on features", low=0
    )
    which: str = option("p(x)", "score to return", choices=CHOICES)
