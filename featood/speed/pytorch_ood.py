"""Detectors of pytorch-ood and the corresponding heads: how to make, fit and score each on cached columns."""

from __future__ import annotations

__all__ = ["ABSENT", "PEERS", "Layer", "Peer", "detectors", "fit_peer", "score_peer"]

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featood.cache.feature_set import FeatureSet
from featood.heads import create_head
from featood.heads.base.head import Head

BATCH = 4096


class Layer:
    """The last linear layer in the forms required by the detectors."""

    def __init__(self, data: FeatureSet) -> None:
        assert data.classifier is not None
        self.weight, self.bias = (torch.tensor(np.asarray(part)).float() for part in data.classifier)
        self.size = self.weight.shape[1]

    def linear(self) -> nn.Linear:
        """Return it as a module."""
        module = nn.Linear(self.size, len(self.bias))
        module.weight.data, module.bias.data = self.weight.clone(), self.bias.clone()
        return module

    def on_maps(self) -> nn.Module:
        """Return it for feature maps of one pixel."""
        return nn.Sequential(nn.Flatten(), self.linear())


@dataclasses.dataclass(frozen=True)
class Peer:
    """A head, the corresponding detector, and the reasons for differences."""

    head: str
    name: str
    view: str
    """Input of the detector: ``logits``, ``features``, ``maps`` (of one pixel), ``layers`` or ``inputs``."""
    make: Callable[[Any, Layer, Head | None], Any]
    """Function of the module of detectors, the layer, and the fitted head."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the head that make it comparable; values may be functions of the training rows."""
    why: str = ""
    """Reason for a difference by design."""
    outliers: bool = False
    """Whether the head needs outliers to fit."""

    def create(self, train: FeatureSet) -> Head:
        """Create the head for training rows."""
        options = {name: value(train) if callable(value) else value for name, value in self.options.items()}
        return create_head(self.head, **options)


class _Source(nn.Module):
    """Identity with a parameter, so that gradients with respect to the features can be computed."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.zero


def _coverage(d: Any, layer: Layer, _: Head | None) -> Any:
    source = _Source()
    return d.NACUE(nn.Sequential(source, layer.linear()), [source])


def _weighted(d: Any, layer: Layer, head: Head | None) -> Any:
    assert head is not None
    return d.WeightedEBO(None, head.state["log_weights"].exp().float())


FLOAT32 = "the softmax of confident rows rounds to 1 in theirs (float32), and they tie"
NEGATIVE = "with negative activations (GELU), theirs sums all, ours only positive ones"
RIDGE = "theirs adds 1e-6 to a scatter matrix not divided by N, ours nothing to a covariance that can be factorised"
RIDGES = "theirs adds 1e-6 to covariances over n_c; ours nothing to covariances over n_c - 1 that can be factorised"
PEERS = (
    Peer("msp", "MaxSoftmax", "logits", lambda d, layer, head: d.MaxSoftmax(None), why=FLOAT32),
    Peer("max-logit", "MaxLogit", "logits", lambda d, layer, head: d.MaxLogit(None)),
    Peer("energy", "EnergyBased", "logits", lambda d, layer, head: d.EnergyBased(None)),
    Peer("entropy", "Entropy", "logits", lambda d, layer, head: d.Entropy(None), why=FLOAT32),
    Peer("gen", "GEN", "logits", lambda d, layer, head: d.GEN(None),
         why="theirs clamps probabilities at 1e-7 in float32, ours stays in log space"),
    Peer("kl-matching", "KLMatching", "logits", lambda d, layer, head: d.KLMatching(None),
         why=FLOAT32),
    Peer("temperature-scaling", "TemperatureScaling", "logits", lambda d, layer, head: d.TemperatureScaling(None),
         why="theirs stops after 50 small steps of L-BFGS, ours at the minimum, which overfitted rows do not have"),
    Peer("openmax", "OpenMax", "logits", lambda d, layer, head: d.OpenMax(None),
         why="theirs is fitted to all rows of a class, and to distances shifted to start at 10,000; the paper and ours "
         "to correctly classified rows, and ours to unshifted distances"),
    Peer("weighted-energy", "WeightedEBO", "logits", _weighted, outliers=True),
    Peer("mahalanobis", "Mahalanobis", "features", lambda d, layer, head: d.Mahalanobis(None), why=RIDGE),
    Peer("relative-mahalanobis", "RMD", "features", lambda d, layer, head: d.RMD(None), why=RIDGE),
    Peer("multi-mahalanobis", "MultiMahalanobis", "layers",
         lambda d, layer, head: d.MultiMahalanobis([nn.Identity()] * 2),
         {"weights": "equal", "features": lambda train: tuple(train.features)[:2]}, why=RIDGE),
    Peer("gmm", "GMM", "features", lambda d, layer, head: d.GMM(None), why=RIDGES),
    Peer("knn", "KNN", "features", lambda d, layer, head: d.KNN(None)),
    Peer("she", "SHE", "features", lambda d, layer, head: d.SHE(None, layer.linear())),
    Peer("nnguide", "NNGuide", "features", lambda d, layer, head: d.NNGuide(None, layer.linear())),
    Peer("fdbd", "fDBD", "features", lambda d, layer, head: d.fDBD(None, layer.linear())),
    Peer("nci", "NCI", "features", lambda d, layer, head: d.NCI(None, layer.linear())),
    Peer("pnml", "PNML", "features", lambda d, layer, head: d.PNML(None, layer.linear()),
         why="theirs drops, by pinv in float32, directions below about 4e-5 of the largest eigenvalue"),
    Peer("mcm", "MCM", "features", lambda d, layer, head: d.MCM(None, layer.weight)),
    Peer("vim", "ViM", "features", lambda d, layer, head: d.ViM(None, layer.size // 2, layer.weight, layer.bias),
         {"dim": lambda train: train.feature().shape[1] // 2},
         "theirs takes eigenvectors in float32, where those of small eigenvalues are noise"),
    Peer("dice", "DICE", "features", lambda d, layer, head: d.DICE(None, layer.weight, layer.bias, p=0.9)),
    Peer("lts", "LTS", "features", lambda d, layer, head: d.LTS(None, layer.linear())),
    Peer("react", "ReAct", "maps", lambda d, layer, head: d.ReAct(None, layer.on_maps())),
    Peer("ash-p", "ASH", "maps", lambda d, layer, head: d.ASH(None, layer.on_maps(), variant="ash-p"),
         {"percentile": 0.65}),
    Peer("ash-b", "ASH", "maps", lambda d, layer, head: d.ASH(None, layer.on_maps(), variant="ash-b"),
         why="if fewer activations are positive than are kept, theirs raises arbitrary zeros"),
    Peer("ash-s", "ASH", "maps", lambda d, layer, head: d.ASH(None, layer.on_maps(), variant="ash-s"),
         {"percentile": 0.65}, NEGATIVE),
    Peer("scale", "SCALE", "maps", lambda d, layer, head: d.SCALE(None, layer.on_maps()),
         {"percentile": 0.65}, NEGATIVE),
    Peer("vra", "VRA", "maps", lambda d, layer, head: d.VRA(None, layer.on_maps(), 0.6, 0.9),
         why="theirs raises values below the lower quantile to it, the authors and ours set them to zero"),
    Peer("gradnorm", "GradNorm", "inputs",
         lambda d, layer, head: d.GradNorm(layer.linear(), lambda name: name == "weight", BATCH)),
    Peer("gradient-uncertainty", "GradUncertainty", "inputs",
         lambda d, layer, head: d.GradUncertainty(layer.linear()),
         why="theirs differentiates PyTorch's binary cross-entropy, which bounds p (1 - p) from below by 1e-12"),
    Peer("nac", "NACUE", "inputs", _coverage,
         why="theirs has narrow bins near 0 and 1 and one steepness; the authors' and ours are narrow near 1/2"),
)  # fmt: skip

ABSENT = {
    "Gram": "needs feature maps of several layers; a column computed at extraction in featood",
    "RankFeat": "needs feature maps; a column computed at extraction in featood",
    "MCD": "needs the model with dropout; columns computed at extraction in featood",
    "ODIN": "needs gradients with respect to the image; a column computed at extraction in featood",
    "MahalanobisODIN": "needs gradients with respect to the image",
}


def detectors() -> ModuleType | None:
    """Return the detectors of pytorch-ood; None if it is not installed (``pip install 'featood[peers]'``)."""
    from featood.extractors.vision import torchvision  # noqa: F401  (makes torchvision importable for pytorch-ood)

    try:
        import pytorch_ood.detector
    except ImportError:
        return None
    return pytorch_ood.detector


def fit_peer(detector: Any, view: str, data: FeatureSet) -> None:
    """Fit a detector, if it needs a fit, by its method for these columns."""
    if not detector.requires_fit:
        return
    labels = torch.as_tensor(np.asarray(data.labels))
    if view == "inputs":
        detector.fit(list(zip(_columns(data, view).split(BATCH), labels.split(BATCH), strict=True)))
    elif view == "layers":
        detector.fit_structured(_layers(data), labels)
    else:
        getattr(detector, f"fit_{METHODS[view]}")(_columns(data, view), labels)


def score_peer(detector: Any, view: str, data: FeatureSet) -> np.ndarray:
    """Score rows ``[N]`` in batches."""
    if view == "layers":
        batches = zip(*(values.split(BATCH) for values in _layers(data)), strict=True)
        parts = [detector.predict_structured(list(batch)) for batch in batches]
    elif view == "inputs":  # one gradient per row needs memory
        parts = [detector.predict(batch) for batch in _columns(data, view).split(BATCH // 16)]
    else:
        predict = getattr(detector, f"predict_{METHODS[view]}")
        parts = [predict(batch) for batch in _columns(data, view).split(BATCH)]
    return np.concatenate([part.detach().cpu().double().numpy() for part in parts])


METHODS = {"logits": "logits", "features": "features", "maps": "feature_maps"}


def _columns(data: FeatureSet, view: str) -> Tensor:
    if view == "logits":
        return torch.as_tensor(np.asarray(data.logits))
    rows = torch.as_tensor(np.asarray(data.feature()))
    return rows[:, :, None, None] if view == "maps" else rows


def _layers(data: FeatureSet) -> list[Tensor]:
    return [torch.as_tensor(np.asarray(values)) for values in list(data.features.values())[:2]]
