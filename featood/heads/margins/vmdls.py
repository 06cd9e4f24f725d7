"""Class densities of features of several stages joined with a latent space that has room between the classes."""

from __future__ import annotations

__all__ = ["VMDLS"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.declaration import option
from featood.heads.base.fit import FitContext, Learned, State
from featood.heads.base.head import WORST
from featood.heads.base.rows import SelectedRows
from featood.heads.densities.gmm import GMM
from featood.heads.margins._latent_head import LatentHead
from featood.heads.registry import register

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
    """Score ``(G + 1 - max_c log N(v; m_c, S_c)) d`` for features of several stages joined with learnt latents.

    v joins the `stages` with the mean of the latents of the classifier's input, and has a Gaussian for each class.
    d is the error of a reconstruction, 1 unless columns to compare are named. The largest log-density G, and the
    largest error, by which d is divided, are those of the *training* rows (the published code takes them from the
    rows that it tests). The class of the largest density is the one predicted.

    What differs from the published code: the classifier's input is not among the stages, for without it the AUROC
    on a DenseNet was 91.8 % and with it 84.6 % (name it in `stages` to have it there); the margin stays at
    `margin_max_distance` at most, where the code lets it go one step beyond; covariances get a ridge of at
    least 1e-6 of the mean variance within classes (`ridge`; 0 for none where none is needed), the same for all, where
    the code adds that multiple of one, twice, whatever the unit of the features; moments are those of all rows of a
    class, not of its last batch; latents are compared as they are, unless `normalize_embeddings` is on; and the
    encoder sees features, not images.

    The presets have the published settings but for the decay of the rate, which is published by a tenth every 100
    epochs; here it is after a half and three quarters of them.
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
    stages: tuple[str, ...] = option((), "feature columns beside the latents (default: every .avg column)")
    original: str = option(
        "", "column with features of the inputs that were also reconstructed (first stage)"
    )
    reconstruction: str = option("", "column with the same features of the inputs' reconstructions")
    covariance: str = option(
        "full",
        "covariance of each class (full), of all (tied), or variances",
        choices=("full", "tied", "diag"),
    )
    ridge: float = option(
        1e-6, "least ridge on the covariances, relative to the mean variance within classes", low=0, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.original) != bool(self.reconstruction):
            raise UsageError(
                f"{self.name}: original and reconstruction go together; name both columns or none"
            )

    def columns(self, source: FeatureSet) -> list[str]:
        """Return the encoder's input, the stages, and the columns to compare."""
        names = [self.feature or source.main, *self._stages(source), self.original, self.reconstruction]
        return [name for name in dict.fromkeys(names) if name]

    def _stages(self, source: FeatureSet) -> list[str]:
        others = {self.feature or source.main, self.reconstruction}
        return list(self.stages) or [
            name for name in source.features if name.endswith(".avg") and name not in others
        ]

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Train the encoder, fit the Gaussians, and measure how large densities and errors become."""
        state, training = super().run_fit(train.only(self.feature or train.main, "labels"), context)
        train = self.in_space(train, state)
        encoder, gaussians = super().prepare(state), self._gaussians()
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
        return Learned(state, training)

    def prepare(self, state: State) -> Any:
        """Rebuild encoder and Gaussians."""
        parts = {name.removeprefix(GAUSSIANS): v for name, v in state.items() if name.startswith(GAUSSIANS)}
        return super().prepare(state), self._gaussians().prepare(parts)

    def classify_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the log-densities of the classes ``[B, C]``."""
        encoder, gaussians = fitted
        densities = self._gaussians().class_densities(self._joined(block, encoder), gaussians)
        return densities.clamp(min=-WORST)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return how far below the largest density that of the best class is, times the reconstruction error."""
        (_, state), _ = fitted
        below = state["largest_density"] + 1 - self.classify_block(block, fitted).max(1).values
        return below * self._errors(block) / state["largest_error"]

    def _gaussians(self) -> GMM:
        return GMM(covariance=self.covariance, ridge=self.ridge, uniform=True)

    def _joined(self, block: FeatureSet, encoder: Any) -> FeatureSet:
        """Join the stages and the means of the latents, in float64."""
        latents = encoder[0](self.vectors(block).double())
        joined = torch.cat(
            [*(block.feature(name)[:].to(latents) for name in self._stages(block)), latents], 1
        )
        return FeatureSet({"joined": joined}, labels=block.labels)

    def _errors(self, block: FeatureSet) -> Tensor:
        """Mean squared difference between original and reconstruction ``[B]``; ones where there are none."""
        if not self.reconstruction:
            return torch.ones(len(block), dtype=torch.float64, device=self.vectors(block).device)
        original, again = (block.feature(name)[:].double() for name in (self.original, self.reconstruction))
        return (original - again).square().mean(1)
