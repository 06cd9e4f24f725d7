"""VERA with a classifier's free energy."""

from __future__ import annotations

__all__ = ["SupervisedVERA"]

from collections.abc import Mapping
from typing import Any, ClassVar

from featood.energies import SupervisedVeraObjective
from featood.heads.energies._energy_head import PLAIN
from featood.heads.energies.vera import VERA
from featood.heads.registry import register


@register(
    "vera-supervised",
    title="Classifier against a generator (VERA)",
    paper="Grathwohl et al., No MCMC for Me: Amortized Sampling for Fast and Stable Training of Energy-Based "
    "Models, ICLR",
    year=2021,
    url="https://arxiv.org/abs/2010.04230",
    needs=("features", "labels"),
)
class SupervisedVERA(SupervisedVeraObjective, VERA):
    """Score the free energy of a classifier trained against samples of an entropy-regularised generator.

    With weights of 1 for entropy and cross-entropy, training maximises the joint likelihood of features and classes.
    The published weight of the cross-entropy, 100, belongs to an entropy weight close to 0; with an entropy weight of 1
    it moves the generator far away from the data.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            **PLAIN,
            "lr": 1e-3,
            "generator_lr": 1e-3,
            "posterior_lr": 3e-5,
            "entropy": 1e-4,
            "penalty": 0.1,
            "l2": 0.0,
            "classification": 100.0,
        }
    }
