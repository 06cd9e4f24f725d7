"""Energy-prior network with the loss of posterior networks."""

from __future__ import annotations

__all__ = ["VERAPosterior"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.energies import VeraPosteriorObjective
from featood.heads.dirichlet._evidence_head import EnergyEvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.energies._energy_head import PLAIN
from featood.heads.energies.vera import VERA
from featood.heads.registry import register
from featood.options import option


@register(
    "vera-posterior",
    title="Energy-prior network by VERA and uncertain cross-entropy",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("features", "labels"),
)
class VERAPosterior(EnergyEvidenceHead, VeraPosteriorObjective, VERA):
    """Score the evidence of a classifier trained by uncertain cross-entropy and against a generator."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            **PLAIN,
            "lr": 1e-4,
            "generator_lr": 2e-4,
            "posterior_lr": 2e-4,
            "penalty": 0.1,
            "schedule": "constant",
        }
    }

    generator_lr: float = option(
        5e-4, "initial learning rate of the generator; higher ones diverged on features", low=0
    )
    which: str = option("p(x)", "score to return", choices=CHOICES)
