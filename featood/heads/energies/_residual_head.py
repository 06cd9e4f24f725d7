"""Base of the HEAT heads: a residual energy learned by contrast with samples on top of a frozen prior."""

from __future__ import annotations

__all__ = ["ResidualHead", "residual_network"]

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.cache.feature_set import FeatureSet
from featood.energies.contrastive import contrastive_divergence, logistic_contrast
from featood.energies.sgld import SAMPLER_PRECISIONS, Energy, sampler_net, sgld
from featood.heads.base.feature_head import FeatureHead, space_option
from featood.heads.base.fit import FitContext, Learned, State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import stacked
from featood.heads.energies._priors import Prior
from featood.nets.initialise import seeded
from featood.nets.linear import Linear
from featood.nets.mlp import MLP
from featood.options import option
from featood.training import Batches, digest, multi_step
from featood.training.loop import train as run_training


def residual_network(
    size: int, width: int, depth: int, layout: str, generator: torch.Generator | None = None
) -> nn.Sequential:
    """Build the network of the residual energy, ``[B, size]`` to ``[B, 1]``, with leaky ReLUs (slope 0.2).

    Parameters
    ----------
    size, width, depth : int
        Number of features, units of the first layer, and number of hidden layers after it.
    layout : str
        ``tied``: all hidden layers share their weights (as in the published models); ``untied``: separate
        weights; ``halving``: each of `depth` stages has three layers, the last of which halves the width.
    generator : torch.Generator, optional
        Source of the initial weights.
    """
    if layout == "untied":
        return MLP(size, [width] * (depth + 1), 1, generator=generator)
    if layout == "halving":
        stages = [width >> stage for stage in range(depth)]
        hidden = [units for stage in stages for units in (stage, stage, stage // 2)]
        return MLP(size, [width, *hidden], 1, generator=generator)
    with seeded(generator):
        first, hidden_layer, last = Linear(size, width), Linear(width, width), Linear(width, 1)
    return nn.Sequential(first, nn.LeakyReLU(0.2), *[hidden_layer, nn.LeakyReLU(0.2)] * depth, last)


PUBLISHED: Mapping[str, Any] = {"loss": "cd", "width": 1024, "lr": 1e-5}
"""Settings of all published runs (unless a preset replaces one) that differ from the defaults."""
LOSSES = {"nce": logistic_contrast, "cd": contrastive_divergence}


@dataclasses.dataclass(kw_only=True, eq=False)
class ResidualHead(FeatureHead):
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
    sgld_steps: int = option(0, "Langevin steps", low=0)
    step_size: float = option(1e-4, "initial Langevin step size, decayed to a tenth", low=0)
    noise: float = option(5e-3, "initial standard deviation of the Langevin noise, decayed to a tenth", low=0)
    sampler_precision: str = option(
        "float32",
        "precision of the network in the sampler; bfloat16 is faster on processors with matrix units for it",
        choices=SAMPLER_PRECISIONS,
    )
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

    def run_fit(self, train: SelectedRows, context: FitContext) -> Learned:
        """Fit the space and the prior, then train the network."""
        space = self.fit_space(train)
        rows = self.in_space(train, space)
        state = {f"prior.{name}": value for name, value in self.fit_prior(rows).items()}
        network, training = self._train(rows, state, context)
        weights = {f"network.{name}": value.detach() for name, value in network.named_parameters()}
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
    ) -> tuple[nn.Module, dict[str, Any]]:
        known: list[Tensor] = []

        def read() -> Iterator[Tensor]:
            for block in train.blocks():
                rows = self.vectors(block).float()
                known.append(rows.new_zeros(len(rows)).long() if block.labels is None else block.labels[:])
                yield rows

        features = stacked(read(), len(train.source))
        labels = torch.cat(known)
        prior = self.prior(_part(state, "prior."))
        generator = torch.Generator(train.device).manual_seed(self.seed)
        network = residual_network(features.shape[1], self.width, self.depth, self.layout, generator)
        network.to(train.device)
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
            start, prior_gradient = prior.propose(labels[rows], generator)
            negatives = start = project(start)
            if self.sgld_steps:
                with sampler_net(network, self.sampler_precision) as fast:
                    samples = sgld(
                        self._residual(fast),
                        start,
                        steps=self.sgld_steps,
                        step_size=self.step_size,
                        noise=self.noise,
                        generator=generator,
                        project=project,
                        known=lambda z: prior_gradient(z) / self.prior_temperature,
                    )
                negatives = torch.cat([samples, start])
            return LOSSES[self.loss](
                energy,
                features.index_select(0, rows),
                negatives,
                l2=self.l2,
                noise=self.data_noise,
                generator=generator,
            )

        steps = self.updates or max(1, self.epochs * len(batches) // self.accumulate)
        fall = self.milestone * len(batches) // self.accumulate
        if self.updates:
            fall = round(self.updates * self.milestone / self.epochs)
        result = run_training(
            losses,
            network,
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
