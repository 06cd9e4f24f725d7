"""Logits of a classifier under repeated random perturbations of its weights."""

from __future__ import annotations

__all__ = ["WeiPer"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.memory import require_memory
from featood.numerics.softmax import largest_probability
from featood.numerics.spaces import unit
from featood.options import option


@register(
    "weiper",
    title="Weight perturbations (WeiPer+KLD, WeiPer+MSP)",
    paper="Granz et al., WeiPer: OOD Detection using Weight Perturbations of Class Projections, NeurIPS",
    year=2024,
    url="https://arxiv.org/abs/2405.17164",
    needs=("features", "classifier"),
)
class WeiPer(RawFeatures, FeatureHead):
    """Score ``KL(z) + l1 KL(W' z) - l2 MSP(W' z)`` with r perturbed weights W'.

    Each perturbed row is ``w_c + delta |w_c| e`` with a random direction e. Histograms are computed over the entries
    of a feature vector and over its perturbed logits; KL is the symmetric divergence of the smoothed histogram from the
    mean histogram of the training rows, MSP the mean largest softmax probability over the perturbations.
    Without the divergences the score is WeiPer+MSP. The authors tune delta, the widths, the bins and both weights for
    each network on validation outliers (delta from 1.8 to 2.4, the weights from 0.1 to 5). Higher means more
    out-of-distribution. The perturbed weights take ``4 r C D`` bytes: 0.8 GB for ImageNet-1k on ResNet-50.
    """

    divergence: bool = option(True, "include the divergences; without them the score is WeiPer+MSP")
    delta: float = option(2.1, "norm of a perturbation relative to the norm of the weight", low=0)
    repeats: int = option(100, "perturbations r of every weight", low=1)
    bins: int = option(100, "bins of the histograms", low=2)
    smooth: int = option(20, "width of the smoothing kernel on the feature's histogram, in bins", low=1)
    smooth_perturbed: int = option(
        20, "width of the smoothing kernel on the perturbed logits' histogram", low=1
    )
    lambda1: float = option(1.0, "weight of the perturbed logits' divergence", low=0)
    lambda2: float = option(1.0, "weight of the mean largest probability", low=0)
    seed: int = option(0, "seed of the perturbations", low=0, high=2**32 - 1)

    testing_options: ClassVar[Mapping[str, Any]] = {"repeats": 5}

    def fit_state(self, train: SelectedRows) -> State:
        """Compute the ranges of the histograms in a first pass and their means in a second."""
        state = classifier_state(train, self.feature)
        if not self.divergence:
            return state
        weights = self._perturbed(state)
        low, high = [torch.inf, torch.inf], [-torch.inf, -torch.inf]
        for block in train.blocks():
            rows = self.vectors(block)
            for space, values in [(0, rows), *((1, _logits(rows, weight, state)) for weight in weights)]:
                low[space] = min(low[space], float(values.min()))
                high[space] = max(high[space], float(values.max()))
        ranges = torch.tensor([low, high], dtype=torch.float64).T.contiguous()
        sums = torch.zeros(2, self.bins, dtype=torch.float64, device=weights.device)
        count = 0
        for block in train.blocks():
            histograms, _ = self._read(self.vectors(block), weights, {**state, "ranges": ranges})
            sums += histograms.sum(1)
            count += len(block)
        return {**state, "ranges": ranges, "histograms": sums / max(count, 1)}

    def prepare(self, state: State) -> Any:
        """Draw the perturbed weights ``[r, C, D]`` again."""
        return state, self._perturbed(state)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the divergences minus the mean largest probability ``[B]``."""
        state, weights = fitted
        histograms, msp = self._read(self.vectors(block), weights, state)
        if not self.divergence:
            return -msp
        plain = _divergence(histograms[0], state["histograms"][0], self.smooth, 0.01)
        perturbed = _divergence(histograms[1], state["histograms"][1], self.smooth_perturbed, 0.025)
        return plain + self.lambda1 * perturbed - self.lambda2 * msp

    def _perturbed(self, state: State) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        weight, device = state["weight"].cpu(), state["weight"].device
        require_memory(
            4 * self.repeats * weight.numel(),
            f"{self.name}: {self.repeats} perturbations of {len(weight)} classes in {weight.shape[1]} features",
            "lower --repeats",
            device,
        )
        length = self.delta * weight.norm(dim=1, keepdim=True)
        perturbed = torch.empty(self.repeats, *weight.shape, device=device)
        for place in perturbed:
            place.copy_(weight + length * unit(torch.randn(weight.shape, generator=generator)))
        return perturbed

    def _read(self, rows: Tensor, weights: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Return both histograms ``[2, B, bins]`` and the mean largest probability ``[B]`` of rows, in float64."""
        counts = rows.new_zeros(2, rows.shape[0], self.bins, dtype=torch.float64)
        largest = rows.new_zeros(rows.shape[0], dtype=torch.float64)
        if self.divergence:
            self._count(counts[0], rows, state["ranges"][0])
        for weight in weights:
            logits = _logits(rows, weight, state)
            largest += largest_probability(logits)
            if self.divergence:
                self._count(counts[1], logits, state["ranges"][1])
        return counts / counts.sum(2, keepdim=True).clamp(min=1), largest / len(weights)

    def _count(self, counts: Tensor, values: Tensor, ends: Tensor) -> None:
        """Count values ``[B, n]`` into bins ``[B, bins]``, ignoring those outside the range."""
        low, high = ends
        width = torch.where(high > low, high - low, 1)
        bins = ((values - low) / width * self.bins).clamp(0, self.bins - 1).long()
        counts.scatter_add_(1, bins, ((values >= low) & (values <= high)).to(counts.dtype))


def _logits(rows: Tensor, weight: Tensor, state: State) -> Tensor:
    return torch.addmm(state["bias"].to(rows), rows, weight.to(rows).T)


def _divergence(histograms: Tensor, reference: Tensor, width: int, floor: float) -> Tensor:
    """Symmetric divergence ``[B]`` of smoothed histograms ``[B, bins]`` from one ``[bins]``."""
    widened = pad(histograms[:, None], ((width - 1) // 2, width // 2), mode="replicate")
    q = widened[:, 0].unfold(1, width, 1).mean(2) + floor
    p = reference + floor
    q, p = q / q.sum(1, keepdim=True), p / p.sum()
    return ((p - q) * (p.log() - q.log())).sum(1)
