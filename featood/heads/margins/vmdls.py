"""Class densities of the features of several stages joined with a latent space with margins between the classes."""

from __future__ import annotations

__all__ = ["VMDLS"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.fit import FitContext, Learned, State
from featood.heads.base.head import WORST
from featood.heads.base.rows import SelectedRows
from featood.heads.densities.gmm import GMM
from featood.heads.margins._latent_head import LatentHead
from featood.heads.registry import register
from featood.options import option

GAUSSIANS = "gaussians."
PUBLISHED: Mapping[str, Any] = {"epochs": 500, "schedule": "step", "depth": 0, "validation": 0.0}


@register(
    "vmdls",
    title="Variational and metric-based deep latent space",
    paper="Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI",
    year=2022,
    url="https://github.com/BGU-CS-VIL/vmdls",
    needs=("features", "labels"),
)
class VMDLS(LatentHead):
    """Score ``(G + 1 - max_c log N(v; m_c, S_c)) d`` for features of several stages joined with learned latents.

    v concatenates the `stages` and the posterior mean of the latents of the classifier's input; each class has a
    Gaussian in this space. The encoder of the latents is trained here, on features, unless `latent_feature` names a
    column with those of a network that was trained on images with the same loss (``featood train vmdls``). d is a
    reconstruction error, or 1 unless the columns to compare are given (``extract --autoencoder`` adds the second). The
    largest log-density G, and the largest error, by which d is divided, are computed on the *training* rows (the
    published code computes them on the test rows). The predicted class is the one with the largest density.

    Differences from the published code: the classifier's input is not one of the stages, because on a DenseNet the
    AUROC was 91.8 % without and 84.6 % with it (add it to `stages` to include it); the margin is limited to
    `margin_max_distance`, which the code exceeds by up to one step; all covariances get the same ridge of at least
    1e-6 of the mean variance within classes (`ridge`; with 0, only if needed), whereas the code adds 1e-6 twice,
    whatever the scale of the features; moments are computed over all rows of a class, not its last batch; latents are
    not normalised unless `normalize_embeddings` is set; and an encoder that is trained here has features as its inputs,
    not images.

    The presets have the published settings except for the decay of the learning rate, which is a factor of ten
    every 100 epochs in the published code and after a half and three quarters of the epochs here.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper-cifar10-resnet18": {**PUBLISHED, "opt": "sgd", "lr": 0.01, "weight_decay": 1e-4},
        "paper-cifar10-densenet": {
            **PUBLISHED, "opt": "sgd", "lr": 0.1, "weight_decay": 1e-4, "margins_epoch": 30,
        },
        "paper-cifar10-vgg": {**PUBLISHED, "lr": 1e-3, "batch_classes": 8, "batch_size": 64},
        "paper-cifar100-densenet": {
            **PUBLISHED, "opt": "sgd", "lr": 0.01, "weight_decay": 1e-4, "epochs": 200, "latent": 64,
            "margins_epoch": 40, "margin_max_distance": 64.0, "batch_classes": 20, "batch_size": 400,
        },
        "paper-mnist": {**PUBLISHED, "lr": 1e-4, "margins_epoch": 1, "batch_size": 160},
    }  # fmt: skip
    latent_feature: str = option(
        "",
        "column with latents to use, such as mu.avg of networks trained by vmdls; options of the training then have no "
        "effect",
    )
    stages: tuple[str, ...] = option(
        (), "feature columns to join with the latents (default: every .avg column)"
    )
    original: str = option(
        "", "column with features of the inputs (first stage), to be compared with `reconstruction`"
    )
    reconstruction: str = option("", "column with the same features of the reconstructed inputs")
    covariance: str = option(
        "full",
        "covariance: one per class (full), one shared by all (tied), or variances only (diag)",
        choices=("full", "tied", "diag"),
    )
    ridge: float = option(
        1e-6, "smallest ridge on the covariances, relative to the mean variance within classes", low=0, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.original) != bool(self.reconstruction):
            raise UsageError(
                f"{self.name}: original and reconstruction must be given together; set both columns or neither"
            )

    def resolve_options(self) -> Mapping[str, Any]:
        """Leave the space out where no encoder is trained in it."""
        return {"space": "none"} if self.latent_feature else {}

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the encoder's input, the stages, and the columns to compare."""
        main = self.feature or source.main
        names = [main, *self._stages(source), self.latent_feature, self.original, self.reconstruction]
        return [name for name in dict.fromkeys(names) if name]

    def _stages(self, source: FeatureSet) -> list[str]:
        others = {self.feature or source.main, self.latent_feature, self.reconstruction}
        return list(self.stages) or [
            name for name in source.features if name.endswith(".avg") and name not in others
        ]

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Train the encoder, fit the Gaussians, and find the largest density and error of the training rows."""
        learned = Learned({})
        if not self.latent_feature:
            learned = super().run_fit(train.only(self.feature or train.main, "labels"), context)
        state = dict(learned.state)
        train = self.in_space(train, state)
        encoder, gaussians = self._encoder(state), self._gaussians()
        statistics = None
        for block in train.blocks():
            statistics = gaussians.accumulate(statistics, self._joined(block, encoder))
        fitted = gaussians.finish(statistics, train)
        state |= {GAUSSIANS + name: value for name, value in fitted.items()}
        prepared = self.prepare(state)
        with torch.no_grad():
            largest = [
                torch.stack([self.classify_block(block, prepared).max(), self._errors(block).max().double()])
                for block in train.blocks()
            ]
        density, error = torch.stack(largest).max(0).values
        if not error > 0:
            raise DataError(f"{self.name}: {self.reconstruction} is the same as {self.original} in every row")
        state |= {"largest_density": density.clone(), "largest_error": error.clone()}
        return Learned(state, learned.training)

    def prepare(self, state: State) -> Any:
        """Rebuild encoder and Gaussians."""
        parts = {name.removeprefix(GAUSSIANS): v for name, v in state.items() if name.startswith(GAUSSIANS)}
        return self._encoder(state), self._gaussians().prepare(parts), state

    def classify_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the log-densities of the classes ``[B, C]``."""
        encoder, gaussians, _ = fitted
        densities = self._gaussians().class_densities(self._joined(block, encoder), gaussians)
        return densities.clamp(min=-WORST)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the distance of the best log-density from the largest one, times the reconstruction error."""
        state = fitted[2]
        below = state["largest_density"] + 1 - self.classify_block(block, fitted).max(1).values
        return below * self._errors(block) / state["largest_error"]

    def _gaussians(self) -> GMM:
        return GMM(covariance=self.covariance, ridge=self.ridge, uniform=True)

    def _encoder(self, state: State) -> Any:
        return None if self.latent_feature else super().prepare(state)[0]

    def _joined(self, block: FeatureSet, encoder: Any) -> FeatureSet:
        """Join the stages and the means of the latents, in float64."""
        latents = (
            block.feature(self.latent_feature)[:]
            if encoder is None
            else encoder(self.vectors(block).double())
        ).double()
        joined = torch.cat(
            [*(block.feature(name)[:].to(latents) for name in self._stages(block)), latents], 1
        )
        return FeatureSet({"joined": joined}, labels=block.labels)

    def _errors(self, block: FeatureSet) -> Tensor:
        """Mean squared difference between original and reconstruction ``[B]``; ones without these columns."""
        if not self.reconstruction:
            return torch.ones_like(self.vectors(block)[:, 0], dtype=torch.float64)
        original, again = (block.feature(name)[:].double() for name in (self.original, self.reconstruction))
        return (original - again).square().mean(1)
