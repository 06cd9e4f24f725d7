"""Nearest neighbour guidance of the energy."""

from __future__ import annotations

__all__ = ["NNGuide"]

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import centred_logits, warn_of_centring
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.registry import register
from featood.numerics.banks import Bank
from featood.numerics.neighbours import build_index, search
from featood.numerics.spaces import FITTED, unit
from featood.options import option


@register(
    "nnguide",
    title="Nearest neighbour guidance (NNGuide)",
    paper="Park et al., Nearest Neighbor Guidance for Out-of-Distribution Detection, ICCV",
    year=2023,
    url="https://arxiv.org/abs/2309.14888",
    needs=("features", "logits"),
)
class NNGuide(FeatureHead):
    """Score ``-E(x) G(x)``: E = logsumexp(logits), G = the mean of the k largest ``E_i <z / |z|, z_i / |z_i|>``.

    The training rows i form the bank (a sample is enough: the paper uses 1 % of ImageNet), which is searched
    exactly, like that of `knn`; like there, features of 16 bits are kept as they are. The default k is the authors';
    OpenOOD averages 100 neighbours in the first 1 % of the rows. Higher means more out-of-distribution.

    Adding a constant to all logits leaves the softmax unchanged but changes the score. If the mean E of the bank is
    not positive, the score would be reversed; the logits are then centred over the classes first, with a warning.
    """

    k: int = option(10, "number of neighbours to average, limited to the size of the bank", low=1)
    fraction: float = option(1.0, "share of the training rows to keep as the bank", low=0, high=1)
    seed: int = option(0, "seed for sampling the bank", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the directions of the training rows, scaled by their energies."""
        count = min(max(round(self.fraction * len(train.source)), 1), len(train.source))
        narrow = self.space not in FITTED and self.is_narrow(train)
        source = train.unmapped() if narrow else train
        raw, shifted = [], []

        def rows() -> Iterator[Tensor]:
            for block in sampled_blocks(source, count, self.seed):
                raw.append(_energy(block))
                shifted.append(_energy(block, centred=True))
                yield block.feature(self.feature)[:] if narrow else unit(self.vectors(block))

        bank = stacked(rows(), count)
        energies = torch.cat(raw)
        if centred := float(energies.mean()) <= 0:
            warn_of_centring(self.name, "the mean energy", float(energies.mean()))
            energies = torch.cat(shifted)
        flag = torch.tensor(centred)
        if narrow:
            return {"rows": bank, "energies": energies, "centred": flag}
        return {"bank": bank.mul_(energies[:, None].to(bank.dtype)), "centred": flag}

    def prepare(self, state: State) -> Any:
        """Build the index."""
        bank = state["bank"] if "bank" in state else self._converted(state["rows"], state["energies"])
        return state, build_index(bank, product=True)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated product of energy and guidance ``[B]``."""
        state, index = fitted
        best = search(index, unit(self.vectors(block)), min(self.k, len(index.rows))).values
        energy = _energy(block)
        if "centred" in state:  # absent from artefacts of earlier versions
            energy = torch.where(state["centred"].to(energy.device), _energy(block, centred=True), energy)
        return -energy * best.mean(1)

    def _converted(self, raw: Tensor, energies: Tensor) -> Bank:
        """Return features as stored ``[N, D]`` as directions times energies ``[N]``."""

        def convert(rows: Tensor, numbers: Tensor) -> Tensor:
            directions = unit(self.into_space(rows.float(), {}))
            return directions * energies[numbers, None].to(directions.dtype)

        return Bank(raw, convert)


def _energy(block: FeatureSet, centred: bool = False) -> Tensor:
    assert block.logits is not None
    logits = block.logits[:].double()
    return (centred_logits(logits) if centred else logits).logsumexp(1)
