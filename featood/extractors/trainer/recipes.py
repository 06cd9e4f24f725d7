"""Recipes: published settings of a training by name."""

from __future__ import annotations

__all__ = ["RECIPES", "find_recipe"]

from collections.abc import Mapping
from typing import Any

from featood.extractors.trainer.energy_recipes import ENERGY_RECIPES
from featood.extractors.trainer.recipe import Recipe
from featood.names import find_named

_CROP_FLIP = ("crop-black:4", "flip")
_SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 128}
_DDU = {
    **_SGD, "epochs": 350, "nesterov": False, "schedule": "steps", "milestones": (150 / 350, 250 / 350), "factor": 0.1,
    "augment": _CROP_FLIP, "validation": 0.1, "keep": "last",
}  # fmt: skip
_DDU_SOURCE = (
    "Mukhoti et al., Deep Deterministic Uncertainty, CVPR 2023; train.py and net/ of github.com/omegafragger/DDU, "
    "with -sn and -mod"
)
_SN_MOD = {"sn": True, "coeff": 3.0, "power_iterations": 1, "mod": True}
_OPENOOD = {
    **_SGD, "epochs": 100, "nesterov": True, "schedule": "cosine", "min_lr": 1e-6, "augment": ("flip", "crop-black:4"),
    "validation": 0.02, "keep": "best",
}  # fmt: skip
_OPENOOD_SOURCE = (
    "Zhang et al., OpenOOD v1.5, arXiv 2023; configs/datasets/{0}/{0}.yml, networks/resnet18_32x32.yml and "
    "pipelines/train/baseline.yml of github.com/Jingkang50/OpenOOD, which selects the best epoch by images of its "
    "own list, not by 2 % of the training images as here"
)
_OE_SOURCE = (
    "Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019; CIFAR/{} of "
    "github.com/hendrycks/outlier-exposure, whose outliers are the 80 Million Tiny Images"
)
_OE = {
    **_SGD, "outlier_batch": 256, "nesterov": True, "schedule": "cosine", "min_lr": 1e-6,
    "augment": ("flip", "crop-black:4"), "validation": 0.0, "keep": "last",
}  # fmt: skip

_VMDLS_SOURCE = (
    "Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI 2022; "
    "README, main.py and models/vae.py of github.com/BGU-CS-VIL/vmdls{}"
)
_FINE_TUNED = ", as the fine-tuning there, whose epochs 0 to 20 are frozen"


def _vmdls(epochs: int = 500, frozen: int = 0, step: int = 100, **training: Any) -> dict[str, Any]:
    """Return the training of VMDLS: a tenth of the rate every `step` epochs after the frozen ones."""
    after = epochs - frozen
    return {
        "epochs": epochs, "momentum": 0.9, "nesterov": True, "schedule": "steps", "factor": 0.1,
        "milestones": tuple(epoch / after for epoch in range(step, after, step)), "frozen_epochs": frozen,
        "augment": ("crop-black:4", "flip"), "validation": 0.0, "keep": "last", **training,
    }  # fmt: skip


_VMDLS_SGD: Mapping[str, Any] = {"optimizer": "sgd", "weight_decay": 1e-4}
_VMDLS_ADAM: Mapping[str, Any] = {"optimizer": "adam", "weight_decay": 0.0}
_MARGINS = {"latent": 32, "margin_max_distance": 32.0, "margin_jumps": 1.0, "kl_weight": 0.1}
_REBUILT = (
    "train_resnet_ae.py of github.com/BGU-CS-VIL/vmdls, which trains the autoencoder of pytorch-lightning-bolts; "
    "epochs, code size, learning rate and decoder are ours{}"
)

_FLOW_SOURCE = (
    "models/normalizing_flow/image_flows.py, {} and configs/dataset/cifar10.yaml of github.com/selflein/MA-EBM, "
    "without its rotations by up to 15 degrees; other datasets need --image-size 32, as there"
)
_FLOW = {
    "epochs": 100, "batch_size": 32, "optimizer": "adamw", "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant",
    "clip": 0.0, "augment": ("crop:4", "flip"), "validation": 0.1, "keep": "best",
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "ddu-wrn": Recipe(
        "cross-entropy", "wrn-28-10", _DDU_SOURCE, {**_SN_MOD, "dropout": 0.3, "norm_momentum": 0.01}, training=_DDU
    ),
    "ddu-resnet18": Recipe("cross-entropy", "cifar-resnet18", _DDU_SOURCE, _SN_MOD, training=_DDU),
    "ddu-resnet50": Recipe("cross-entropy", "cifar-resnet50", _DDU_SOURCE, _SN_MOD, training=_DDU),
    "ddu-vgg16": Recipe("cross-entropy", "cifar-vgg16", _DDU_SOURCE, {**_SN_MOD, "bias": False}, training=_DDU),
    "openood-cifar10": Recipe(
        "cross-entropy", "cifar-resnet18", _OPENOOD_SOURCE.format("cifar10"), training=_OPENOOD
    ),
    "openood-cifar100": Recipe(
        "cross-entropy", "cifar-resnet18", _OPENOOD_SOURCE.format("cifar100"), training=_OPENOOD
    ),
    "oe-wrn": Recipe(
        "outlier-exposure", "wrn-40-2", _OE_SOURCE.format("oe_scratch.py"), {"dropout": 0.3}, {"weight": 0.5},
        {**_OE, "epochs": 100},
    ),
    "oe-wrn-tune": Recipe(
        "outlier-exposure", "wrn-40-2", _OE_SOURCE.format("oe_tune.py"), {"dropout": 0.3}, {"weight": 0.5},
        {**_OE, "epochs": 10, "lr": 0.001}, tunes=True,
    ),
    "logitnorm-wrn": Recipe(
        "logit-norm", "wrn-40-2",
        "Wei et al., Mitigating Neural Network Overconfidence with Logit Normalization, ICML 2022; train.py and the "
        "README of github.com/hongxin001/logitnorm_ood; OpenOOD has the temperature 0.04",
        {"dropout": 0.3}, {"temperature": 0.01},
        {
            **_SGD, "epochs": 200, "nesterov": False, "schedule": "steps", "milestones": (80 / 200, 140 / 200),
            "factor": 0.1, "augment": ("flip", "crop-black:4"), "validation": 0.0, "keep": "last",
        },
    ),
    "thesis-ce": Recipe(
        "cross-entropy", "wrn-16-8",
        "configs/model/img_ce_baseline.yaml and configs/dataset/cifar10.yaml of github.com/selflein/MA-EBM, without "
        "its rotations by up to 15 degrees, and without early stopping: the best epoch is kept",
        {"norm": "none", "slope": 0.2, "bias": True, "late_stride": True, "shortcut": "all"}, {"smoothing": 0.0},
        {
            "epochs": 100, "batch_size": 32, "optimizer": "adamw", "lr": 1e-4, "momentum": 0.9, "weight_decay": 0.0,
            "schedule": "steps", "milestones": (0.3, 0.6, 0.9), "factor": 0.5, "augment": ("crop:4", "flip"),
            "validation": 0.1, "keep": "best",
        },
    ),
    "thesis-glow": Recipe(
        "glow", "glow", _FLOW_SOURCE.format("archs/glow"), options={"levels": 3, "steps": 32, "width": 512},
        training={**_FLOW, "lr": 1e-3},
    ),
    "thesis-realnvp": Recipe(
        "realnvp", "realnvp", _FLOW_SOURCE.format("archs/real_nvp") + "; normalisations are those of Glow",
        options={
            "scales": 2, "width": 32, "blocks": 4, "class_conditional": True, "likelihood": 0.0, "classification": 1.0,
        },
        training={**_FLOW, "lr": 1e-4},
    ),
    "vmdls-mnist": Recipe(
        "vmdls", "mnist-conv",
        _VMDLS_SOURCE.format(", without its rotations by up to 10 degrees and crops of at least 95 %"),
        options={**_MARGINS, "margins_epoch": 1, "generation_epoch": 0},
        training=_vmdls(**_VMDLS_ADAM, lr=1e-4, batch_classes=10, batch_size=160, augment=()),
    ),
    "vmdls-vgg": Recipe(
        "vmdls", "vggm", _VMDLS_SOURCE.format(""), options={**_MARGINS, "margins_epoch": 10, "generation_epoch": 0},
        training=_vmdls(**_VMDLS_ADAM, lr=1e-3, batch_classes=8, batch_size=64),
    ),
    "vmdls-resnet18": Recipe(
        "vmdls", "cifar-resnet18", _VMDLS_SOURCE.format(""),
        options={**_MARGINS, "margins_epoch": 10, "generation_epoch": 0},
        training=_vmdls(**_VMDLS_SGD, lr=0.01, batch_classes=10, batch_size=80),
    ),
    "vmdls-densenet": Recipe(
        "vmdls", "densenet-100-12", _VMDLS_SOURCE.format(""),
        options={**_MARGINS, "margins_epoch": 30, "generation_epoch": 0},
        training=_vmdls(**_VMDLS_SGD, lr=0.1, batch_classes=10, batch_size=80),
    ),
    "vmdls-wrn-tune": Recipe(
        "vmdls", "wrn-28-10", _VMDLS_SOURCE.format(
            f"{_FINE_TUNED}; its optimiser, batches and first learning rate are not published"
        ),
        {"dropout": 0.1}, {**_MARGINS, "margins_epoch": 30, "generation_epoch": 5},
        _vmdls(**_VMDLS_SGD, frozen=21, lr=1e-3, frozen_lr=1e-3, batch_classes=10, batch_size=80), tunes=True,
    ),
    "vmdls-densenet-tune": Recipe(
        "vmdls", "densenet-100-12", _VMDLS_SOURCE.format(f"{_FINE_TUNED}, for CIFAR-100"),
        options={
            "latent": 64, "margin_max_distance": 64.0, "margin_jumps": 1.0, "kl_weight": 0.1, "margins_epoch": 40,
            "generation_epoch": 0,
        },
        training=_vmdls(
            200, 21, 64, **_VMDLS_SGD, lr=1e-3, frozen_lr=0.01, batch_classes=20, batch_size=400
        ),
        tunes=True,
    ),
    "autoencoder-mnist": Recipe(
        "autoencoder", "mnist-conv",
        "models/mnist_ae.py of github.com/BGU-CS-VIL/vmdls, without its rotations and crops; its number of epochs is "
        "not published",
        options={"latent": 32, "decoder": "conv"},
        training={
            "epochs": 100, "batch_size": 256, "optimizer": "adam", "lr": 1e-4, "momentum": 0.9, "weight_decay": 0.0,
            "schedule": "constant", "validation": 0.0, "keep": "last",
        },
    ),
    "autoencoder-cifar": Recipe(
        "autoencoder", "cifar-resnet18", _REBUILT.format(" (for CIFAR-10, the authors use published weights)"),
        options={"latent": 256, "decoder": "resnet18"},
        training={
            "epochs": 100, "batch_size": 256, "optimizer": "adam", "lr": 1e-4, "momentum": 0.9, "weight_decay": 0.0,
            "schedule": "constant", "validation": 0.0, "keep": "last",
        },
    ),
    **ENERGY_RECIPES,
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """Return a recipe.

    Raises
    ------
    UsageError
        If there is none of that name; the text suggests the nearest.
    """
    return find_named("recipe", name, RECIPES)
