"""Detectors of pytorch-ood without the suspected cause of a difference: if it is the cause, scores equal featood's."""

from __future__ import annotations

__all__ = ["CAUSES", "Cause"]

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import weibull_min
from torch import Tensor

from featood import FeatureSet
from featood.heads.base.head import Head

Cause = Callable[[Any, Head, FeatureSet], Callable[[FeatureSet], np.ndarray]]
"""Function of a fitted detector, featood's fitted head and the training rows; returns a function that scores rows."""


def in_float64(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Score the same logits in float64."""
    return lambda rows: detector.predict_logits(_logits(rows)).detach().numpy()


def unclamped(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Compute GEN in float64 without clamping; ``1 - p`` is the sum of the other probabilities."""

    def score(rows: FeatureSet) -> np.ndarray:
        log_p = _logits(rows).log_softmax(1)
        return (detector.gamma * (log_p + _log_others(log_p))).exp().mean(1).numpy()

    return score


def at_our_temperature(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Score in log space at featood's temperature, after checking that the labels are likelier there."""

    def loss(temperature: float) -> float:
        labels = torch.as_tensor(np.asarray(train.labels))
        return float(torch.nn.functional.cross_entropy(_logits(train) / temperature, labels))

    ours = float(head.state["temperature"])
    if not loss(ours) <= loss(float(detector.t)):
        raise AssertionError("the labels are likelier at the temperature of the detector")
    return lambda rows: _log_others((_logits(rows) / ours).log_softmax(1)).amin(1).numpy()


def from_right_rows(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Fit OpenMax to correctly classified rows only, and to distances without a shift."""
    labels = torch.as_tensor(np.asarray(train.labels))
    right = _logits(train).argmax(1) == labels
    detector.fit_logits(_logits(train)[right], labels[right])
    for label, tail in detector._openmax.distributions.items():
        distances = detector._openmax._get_dists_to_center(
            label, _logits(train)[right & (labels == label)].numpy()
        )
        tail.translation = tail.min_val = 0
        tail.c, _, tail.scale = weibull_min.fit(np.sort(distances)[-tail.tailsize :], floc=0)
    return lambda rows: detector.predict_logits(_logits(rows)).detach().numpy()


def zeroed_below(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Make VRA set values below the lower quantile to zero, as in its paper, instead of raising them to it."""
    low, high = detector._lower_threshold, detector._upper_threshold
    detector._clip = lambda maps: torch.where(maps < low, 0.0, maps.minimum(high))
    return lambda rows: detector.predict_feature_maps(_features(rows)[:, :, None, None]).double().numpy()


def without_floor(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Differentiate the loss through the log-softmax in float64, without a lower bound."""
    weight, bias = (parameter.detach().double() for parameter in detector.model.parameters())

    def score(rows: FeatureSet) -> np.ndarray:
        features = _features(rows).double()
        logits = (features @ weight.T + bias).requires_grad_()
        (gradient,) = torch.autograd.grad(-logits.log_softmax(1).sum(), logits)
        return -(gradient.square().sum(1) * (1 + features.square().sum(1))).numpy()

    return score


def with_authors_bins(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Count states in the authors' bins with featood's scale and share, neuron by neuron."""
    options: Any = head
    linear = detector.model[1]
    inner = np.log(np.linspace(1, np.sqrt(1000), options.bins // 2))[1:-1] / np.log(1000)
    edges = np.concatenate([inner, [0.5], 1 - inner[::-1]])
    scale = float(head.state[f"{train.main}/scale"])

    def states(rows: FeatureSet) -> np.ndarray:
        z = _features(rows).double().requires_grad_()
        log_p = (z @ linear.weight.double().T + linear.bias.double()).log_softmax(1)
        (gradient,) = torch.autograd.grad(-log_p.mean(1).sum(), z)
        return torch.sigmoid(options.alpha * z * gradient / scale).detach().numpy()

    known = states(train)

    def score(rows: FeatureSet) -> np.ndarray:
        total = np.zeros(len(rows))
        for neuron, values in enumerate(states(rows).T):
            count = np.bincount(np.searchsorted(edges, known[:, neuron], "right"), minlength=len(edges) + 1)
            share = count[np.searchsorted(edges, values, "right")] / (options.full * len(known))
            total -= np.minimum(share, 1)
        return total

    return score


def decomposed_in_float64(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Decompose the features of ViM in float64, and score in it."""
    weight, bias = detector.w.double(), detector.b.double()
    origin = -torch.linalg.pinv(weight) @ bias
    rows = _features(train).double() - origin
    vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors
    minor = vectors[:, : vectors.shape[1] - detector.d]
    alpha = _logits(train).amax(1).mean() / (rows @ minor).norm(dim=1).mean()

    def score(rows: FeatureSet) -> np.ndarray:
        features = _features(rows).double()
        energy = (features @ weight.T + bias).logsumexp(1)
        return (alpha * ((features - origin) @ minor).norm(dim=1) - energy).numpy()

    return score


def inverted_in_float64(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Invert the Gram matrix of pNML in float64, whose cut-off keeps directions that float32 takes for zero."""
    linear = detector.head.double()

    def at_unit_length(rows: FeatureSet) -> Tensor:
        return torch.nn.functional.normalize(_features(rows).double(), dim=1)

    inverse = torch.linalg.pinv(at_unit_length(train).T @ at_unit_length(train), rtol=1e-12, hermitian=True)

    def score(rows: FeatureSet) -> np.ndarray:
        unit = at_unit_length(rows)
        support = torch.einsum("nd,de,ne->n", unit, inverse, unit)
        p = linear(unit).detach().softmax(1)
        power = p ** (support / (1 + support))[:, None]
        return (p / (p + (1 - p) * power)).sum(1).log().numpy()

    return score


def with_our_ridge(detector: Any, head: Head, train: FeatureSet) -> Callable[[FeatureSet], np.ndarray]:
    """Normalise the class covariances of the mixture by n_c - 1, and add the ridge that ours names in its notes."""
    labels = torch.as_tensor(np.asarray(train.labels))
    parts = [_features(train)[labels == label].double() for label in labels.unique()]
    within = sum(part.var(0, correction=0) * len(part) for part in parts) / len(labels)
    named = re.search(r"a ridge of (\S+) of", " ".join(head.record.notes))
    ridge = (float(named[1]) if named else 0.0) * float(within.mean())
    spaces = [torch.linalg.eigh(part.T.cov()) for part in parts]

    def score(rows: FeatureSet) -> np.ndarray:
        densities = []
        for part, (values, vectors) in zip(parts, spaces, strict=True):
            variance = values.clamp(min=0) + ridge
            squares = ((_features(rows).double() - part.mean(0)) @ vectors).square()
            log_share = np.log(len(part) / len(labels))
            densities.append(log_share - (squares / variance + variance.log()).sum(1) / 2)
        return -torch.stack(densities).logsumexp(0).numpy()

    return score


CAUSES: Mapping[str, Cause] = {
    "msp": in_float64,
    "entropy": in_float64,
    "kl-matching": in_float64,
    "gen": unclamped,
    "temperature-scaling": at_our_temperature,
    "openmax": from_right_rows,
    "vra": zeroed_below,
    "gradient-uncertainty": without_floor,
    "nac": with_authors_bins,
    "gmm": with_our_ridge,
    "vim": decomposed_in_float64,
    "pnml": inverted_in_float64,
}
"""The cause for each head."""


def _logits(rows: FeatureSet) -> Tensor:
    return torch.as_tensor(np.asarray(rows.logits)).double()


def _log_others(log_p: Tensor) -> Tensor:
    """Return the logarithm of the sum of the other probabilities for each class ``[B, C]``."""
    own = torch.eye(log_p.shape[1], dtype=torch.bool)
    return log_p[:, None, :].masked_fill(own, -torch.inf).logsumexp(2)


def _features(rows: FeatureSet) -> Tensor:
    return torch.as_tensor(np.asarray(rows.feature()))
