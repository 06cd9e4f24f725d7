"""Published settings of energies of images."""

from __future__ import annotations

__all__ = ["ENERGY_RECIPES"]

from collections.abc import Mapping
from typing import Any

from featood.extractors.trainer.recipe import Recipe

_NET: Mapping[str, Any] = {
    "norm": "none", "slope": 0.2, "bias": True, "late_stride": True, "shortcut": "all",
}  # fmt: skip
_GROUPS = {**_NET, "norm": "group"}
_SOURCE = (
    "Elflein, Out-of-distribution Detection with Energy-based Models, 2023; configs/model/{}.yaml and "
    "configs/dataset/cifar10.yaml of github.com/selflein/MA-EBM, without its rotations by up to 15 degrees and without "
    "early stopping: the last state is kept{}"
)
_CHAINS = {
    "step_size": 1.0,
    "noise": 0.01,
    "spread": 1.0,
    "buffer_size": 10_000,
    "restart": 0.05,
    "image_noise": 0.1,
    "gradient_clip": 0.0,
    "value_clamp": 0.0,
}
_HOW: Mapping[str, Any] = {
    "epochs": 100, "batch_size": 32, "optimizer": "adamw", "lr": 1e-4, "momentum": 0.9, "beta2": 0.999,
    "weight_decay": 0.0, "schedule": "steps", "milestones": (0.5,), "factor": 0.5, "augment": ("crop:4", "flip"),
    "validation": 0.0, "keep": "last",
}  # fmt: skip
_CONSTANT = {**_HOW, "schedule": "constant"}


def _rates(lr: float, generator: float, posterior: float) -> dict[str, Any]:
    """Return the learning rates and decay rates of an energy, its generator and the generator's posterior."""
    parts = {"network": generator, "log_sigma": generator, "log_posterior": posterior}
    return {
        "lr": lr, "momentum": 0.0, "beta2": 0.9,
        "lr_of": tuple(f"parts.sampler.{part}={rate:g}" for part, rate in parts.items()),
    }  # fmt: skip


_VERA = {**_HOW, **_rates(3e-5, 6e-5, 3e-5), "factor": 0.3}
_GENERATED = {"noise_size": 128, "generator_width": 128, "entropy": 1e-4, "penalty": 0.1}
_DIVIDED = "; there the uncertain cross-entropy is divided by the ten classes, here its weight is"
_GENERATOR = "; its generator has batch normalisation"

ENERGY_RECIPES: dict[str, Recipe] = {
    "thesis-img-cd": Recipe(
        "cd", "wrn-16-8", _SOURCE.format("img_mcmc", ""), _NET, {**_CHAINS, "sgld_steps": 100, "l2": 1.0}, _HOW
    ),
    "thesis-img-jem": Recipe(
        "jem", "wrn-16-8", _SOURCE.format("img_mcmc_supervised", ""), _NET,
        {**_CHAINS, "sgld_steps": 100, "l2": 1.0, "class_conditional": True, "entropy": 1e-4}, _HOW,
    ),
    "thesis-img-entropy-mcmc": Recipe(
        "entropy-mcmc", "wrn-16-8", _SOURCE.format("img_mcmc_entropy", ""), _NET,
        {**_CHAINS, "sgld_steps": 50, "spread": 10.0}, _CONSTANT,
    ),
    "thesis-img-ssm": Recipe(
        "ssm", "wrn-16-8", _SOURCE.format("img_ssm", ", whose leaky ReLUs have no second derivatives"), _NET,
        {"image_noise": 0.1, "projections": 1}, _CONSTANT,
    ),
    "thesis-img-ssm-supervised": Recipe(
        "ssm-supervised", "wrn-16-8",
        _SOURCE.format("img_ssm_supervised", ", whose leaky ReLUs have no second derivatives"), _NET,
        {"image_noise": 0.1, "projections": 1, "classification": 1.0}, _CONSTANT,
    ),
    "thesis-img-vera": Recipe(
        "vera", "wrn-16-8", _SOURCE.format("img_vera", _GENERATOR), _NET,
        {"image_noise": 0.0, **_GENERATED, "l2": 0.0},
        {**_VERA, "milestones": (0.15, 0.18)},
    ),
    "thesis-img-vera-supervised": Recipe(
        "vera-supervised", "wrn-16-8", _SOURCE.format("img_vera_supervised", _GENERATOR), _NET,
        {"image_noise": 0.0, **_GENERATED, "l2": 0.0, "classification": 100.0},
        {**_VERA, "milestones": (0.4,)},
    ),
    "thesis-img-epn-m": Recipe(
        "epn-m", "wrn-16-8",
        _SOURCE.format("img_mcmc_priornet", _DIVIDED), _NET,
        {**_CHAINS, "sgld_steps": 30, "l2": 1.0, "classification": 0.1, "entropy_weight": 1e-3}, _HOW,
    ),
    "thesis-img-epn-v": Recipe(
        "epn-v", "wrn-16-8", _SOURCE.format("img_vera_priornet", _GENERATOR), _GROUPS,
        {
            "image_noise": 0.0, **_GENERATED, "l2": 1.0, "classification": 1.0,
            "target": 0.0,
        },
        {**_HOW, **_rates(3e-5, 6e-5, 6e-5), "factor": 0.3, "milestones": (0.4, 0.45)},
    ),
    "thesis-img-vera-posterior": Recipe(
        "vera-posterior", "wrn-16-8", _SOURCE.format("img_vera_posteriornet", _DIVIDED + _GENERATOR),
        {**_GROUPS, "dropout": 0.3},
        {
            "image_noise": 0.01, **_GENERATED, "l2": 0.1, "classification": 10.0,
            "entropy_weight": 0.0,
        },
        {**_CONSTANT, **_rates(3e-5, 6e-5, 6e-5), "weight_decay": 0.1},
    ),
    "jem-wrn": Recipe(
        "jem", "wrn-28-10",
        "Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, ICLR "
        "2020; README of github.com/wgrathwohl/JEM, for CIFAR-10; the warm-up is 1,000 updates of 45,000 images",
        {"norm": "none", "slope": 0.2, "bias": True},
        {
            "sgld_steps": 20, "step_size": 1.0, "noise": 0.01, "spread": 1.0, "buffer_size": 10_000, "restart": 0.05,
            "image_noise": 0.03, "l2": 0.0, "gradient_clip": 0.0, "value_clamp": 0.0,
        },
        {
            "epochs": 200, "batch_size": 64, "optimizer": "adam", "lr": 1e-4, "momentum": 0.9, "weight_decay": 0.0,
            "schedule": "steps", "milestones": (0.8, 0.9), "factor": 0.3, "warm_up": 1.42,
            "augment": ("crop:4", "flip"),
            "validation": 0.1, "keep": "best",
        },
    ),
}  # fmt: skip
"""By name."""
