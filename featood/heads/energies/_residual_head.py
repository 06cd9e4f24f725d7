"""Base of the HEAT heads: a residual energy learned by contrast with samples on top of a frozen prior."""

from __future__ import annotations

__all__ = ["LOSSES", "PUBLISHED", "ResidualHead"]

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.cache.feature_set import FeatureSet
from featood.energies.contrastive import contrastive_divergence, logistic_contrast
from featood.energies.sgld import Energy
from featood.heads.base.feature_head import space_option
from featood.heads.base.fit import FitContext, Learned, State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import stacked
from featood.heads.energies._clipped_features import ClippedFeatures
from featood.heads.energies._priors import Prior
from featood.heads.energies._residual_network import residual_network, without_limits
from featood.heads.energies._sampling import SampledNegatives
from featood.options import option
from featood.training import Batches, digest, multi_step
from featood.training.loop import train as run_training

PUBLISHED: Mapping[str, Any] = {"loss": "cd", "width": 1024, "lr": 1e-5}
"""Settings of all published runs (unless a preset replaces one) that differ from the defaults."""
LOSSES = {"nce": logistic_contrast, "cd": contrastive_divergence}


@dataclasses.dataclass(kw_only=True, eq=False)
class ResidualHead(SampledNegatives, ClippedFeatures):
    """Score ``E_nn(z) / T + E_prior(z) / T_prior``; a subclass defines the prior.

    The prior is fitted first and then frozen. The network is then trained to lower the energy of the training rows
    relative to proposals of the prior, which may first move by Langevin dynamics on the sum of both energies; both
    their start and end points are used as negatives.

    In the published settings (the presets) the loss is contrastive divergence, whose squared energies bound the
    residual by ``1 / (2 l2)``, and the prior is divided by a temperature of 1000 or more. The scale of the two energies
    is then arbitrary, and the residual outweighs the prior on some networks. By default, the residual is the log
    ratio of the densities of proposals and data (``loss=nce``), and a prior that is a density is added unscaled.

    References
    ----------
    Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML 2023.
    """

    trains: ClassVar[bool] = True
    testing_options: ClassVar[Mapping[str, Any]] = {"epochs": 2, "width": 32, "depth": 2, "sgld_steps": 4}

    space: str = space_option("l2")
    relu: bool = option(True, "keep samples non-negative, as the features of ReLU networks are")
    temperature: float = option(1.0, "temperature of the residual energy", low=1e-6)
    prior_temperature: float = option(1.0, "temperature of the prior energy", low=1e-6)
    loss: str = option(
        "nce",
        "noise-contrastive estimation, or contrastive divergence (which needs l2)",
        choices=tuple(LOSSES),
    )
    layout: str = option("tied", "hidden layers of the network", choices=("tied", "untied", "halving"))
    depth: int = option(4, "hidden layers (stages, where they halve)", low=0)
    width: int = option(256, "units of the first layer", low=1)
    lipschitz: float = option(0.0, "largest spectral norm of each layer; 0 for no limit", low=0)
    data_noise: float = option(
        1e-4, "standard deviation of the noise added to rows and samples in the loss", low=0
    )
    l2: float = option(0.0, "weight of the squared energies in the loss", low=0)
    lr: float = option(1e-4, "learning rate", low=0)
    epochs: int = option(10, "passes over the training rows", low=1)
    updates: int = option(
        1000, "number of updates, in place of `epochs` (0: the updates of `epochs` passes)", low=0
    )
    milestone: int = option(
        10,
        "epoch after which the learning rate falls to a tenth; with `updates`, the same fraction of them",
        low=1,
    )
    batch_size: int = option(256, "rows in a batch", low=1)
    accumulate: int = option(1, "batches per update (gradient accumulation)", low=1)
    seed: int = option(0, "seed of the weights, the batches and the sampler", low=0, high=2**32 - 1)

    def fit_prior(self, train: SelectedRows) -> State:
        """Fit the prior to the training rows."""
        raise NotImplementedError

    def prior(self, state: State) -> Prior:
        """Build the prior in float32 from the state returned by `fit_prior`."""
        raise NotImplementedError

    def assigned(self, block: FeatureSet, state: State) -> Tensor:
        """Return the component of the prior ``[B]`` of each row of a block; by default its class."""
        return self.vectors(block).new_zeros(len(block)).long() if block.labels is None else block.labels[:]

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Fit the space and the prior, then train the network."""
        space = self.fit_space(train)
        rows = self.in_space(train, space)
        state = {f"prior.{name}": value for name, value in self.fit_prior(rows).items()}
        network, training = self._train(rows, state, context)
        weights = {
            f"network.{name}": value.detach()
            for name, value in without_limits(network.eval()).named_parameters()
        }
        return Learned(space | state | weights, training)

    def prepare(self, state: State) -> Any:
        """Rebuild the network and the prior."""
        weights = _part(state, "network.")
        first = next(iter(weights.values()))
        network = residual_network(weights["0.weight"].shape[1], self.width, self.depth, self.layout)
        network.to(first.device).requires_grad_(False)
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
        return network, self.prior(_part(state, "prior."))

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the sum of both energies ``[B]``."""
        network, prior = fitted
        rows = self.vectors(block).float()
        return self._residual(network)(rows) + prior.energy(rows) / self.prior_temperature

    def _residual(self, network: nn.Module) -> Energy:
        return lambda rows: network(rows).squeeze(1) / self.temperature

    def _train(
        self, train: SelectedRows, state: State, context: FitContext
    ) -> tuple[nn.Sequential, dict[str, Any]]:
        known: list[Tensor] = []
        fitted = _part(state, "prior.")

        def read() -> Iterator[Tensor]:
            for block in train.blocks():
                known.append(self.assigned(block, fitted))
                yield self.vectors(block).float()

        features = stacked(read(), len(train.source))
        labels = torch.cat(known)
        prior = self.prior(fitted)
        generator = torch.Generator(train.device).manual_seed(self.seed)
        size = features.shape[1]
        network = residual_network(size, self.width, self.depth, self.layout, generator, self.lipschitz)
        kept = self.make_buffer(size)
        parts = nn.ModuleDict({"network": network} | ({} if kept is None else {"kept": kept}))
        parts.to(train.device)
        energy = self._residual(network)
        batches = Batches(len(features), self.batch_size, self.seed)
        relu = self.relu
        if relu and float(features.min()) < 0:
            where = "" if self.space == "none" else f" in the space {self.space}"
            warnings.warn(
                f"{self.name}: the features have negative values{where}, so samples were not kept non-negative (relu)",
                stacklevel=2,
            )
            relu = False

        def project(rows: Tensor) -> Tensor:
            rows = F.relu(rows) if relu else rows
            return F.normalize(rows) if self.space == "l2" else rows

        def losses(number: int) -> dict[str, Tensor]:
            rows = batches(number).to(train.device)
            positives = features.index_select(0, rows)
            start, gradient = prior.propose(positives, labels[rows], generator)
            negatives = self.negatives(
                network,
                project(start),
                temperature=self.temperature,
                known=lambda z: gradient(z) / self.prior_temperature,
                project=project,
                kept=kept,
                generator=generator,
            )
            return LOSSES[self.loss](
                energy, positives, negatives, l2=self.l2, noise=self.data_noise, generator=generator
            )

        steps = self.updates or max(1, self.epochs * len(batches) // self.accumulate)
        fall = self.milestone * len(batches) // self.accumulate
        if self.updates:
            fall = round(self.updates * self.milestone / self.epochs)
        result = run_training(
            losses,
            parts,
            torch.optim.Adam(network.parameters(), lr=self.lr, betas=(0.0, 0.999), fused=True),
            steps,
            schedule=multi_step([max(1, fall)]),
            accumulate=self.accumulate,
            generators=[generator],
            progress=context.progress,
            checkpoint=context.checkpoint,
            settings={**self.options, "data": digest(features, labels, *state.values())},
            every=max(1, len(batches) // self.accumulate),
        )
        return network, result.summary


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
