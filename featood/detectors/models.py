"""Networks with the names and methods of pytorch-ood, and published weights by its names."""

from __future__ import annotations

__all__ = [
    "GRUClassifier",
    "WideResNet",
    "get_model_info",
    "list_models",
    "load_model",
    "load_transform",
]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featood.errors import Mismatch, UsageError
from featood.extractors.backbones.backbone import Request
from featood.extractors.backbones.published import PublishedWeights, build, list_published
from featood.names import find_named
from featood.nets.wide_resnet import WideResNet as Net
from featood.nets.wide_resnet import WideResNetOptions
from featood.reporter import TerminalReporter

EARLIER = {
    "imagenet32": "wrn-40-2/imagenet32/crossentropy",
    "imagenet32-nocifar": "wrn-40-2/imagenet32-nocifar/crossentropy",
    "oe-cifar10-tune": "wrn-40-2/cifar10/oe",
    "oe-cifar100-tune": "wrn-40-2/cifar100/oe",
    "er-cifar10-tune": "wrn-40-2/cifar10/energy/s1",
    "er-cifar100-tune": "wrn-40-2/cifar100/energy/s1",
    "cifar10-pt": "wrn-40-2/cifar10/crossentropy",
    "cifar100-pt": "wrn-40-2/cifar100/crossentropy",
    "cifar10-pixmix": "wrn-40-4/cifar10/pixmix",
    "cifar100-pixmix": "wrn-40-4/cifar100/pixmix",
}
"""Names of weights in earlier versions of pytorch-ood, and the present ones, ARCHITECTURE/DATASET/LOSS[/SEED]."""
MARK = "pytorch-ood-"
RESNETS = {"resnet18": "resnet-18", "resnet50": "resnet-50"}


def _entries() -> dict[str, PublishedWeights]:
    """Return the weights by key: ``wrn-40-2.pytorch-ood-cifar10-oe-s0`` is ``wrn-40-2/cifar10/oe/s0``."""
    found = {}
    for name, entry in list_published().items():
        network, _, tag = name.partition(".")
        if tag.startswith(MARK):
            rest = tag.removeprefix(f"{MARK}{entry.dataset}-").removeprefix(f"{MARK}imagenet1k-")
            dataset = "imagenet1k" if entry.dataset == "imagenet" else entry.dataset
            found["/".join([RESNETS.get(network, network), dataset, *rest.split("-")])] = entry
    return found


def list_models(arch: str | None = None, dataset: str | None = None, loss: str | None = None) -> list[str]:
    """List the keys ARCHITECTURE/DATASET/LOSS[/SEED] of published weights."""
    wanted = arch, dataset, loss
    keys = (
        key for key in _entries() if all(w in (None, k) for w, k in zip(wanted, key.split("/"), strict=False))
    )
    return sorted(keys)


def get_model_info(identifier: str) -> PublishedWeights:
    """Return what is known about published weights.

    Parameters
    ----------
    identifier : str
        A key, its beginning if only one key has it, or a name of an earlier version such as ``er-cifar10-tune``.

    Raises
    ------
    UsageError
        If there are no such weights, or several.
    """
    entries, key = _entries(), EARLIER.get(identifier, identifier)
    found = [key] if key in entries else [name for name in entries if name.startswith(f"{key}/")]
    if len(found) > 1:
        raise UsageError(f"the published weights '{identifier}': this could be {', '.join(found)}")
    known = {**entries, **{name: entries[key] for name, key in EARLIER.items()}}
    return find_named("name of published weights", found[0] if found else identifier, known)


def load_transform(identifier: str) -> Callable[[Any], Tensor]:
    """Return the transform of published weights, from a PIL image to a tensor ``[C, H, W]``."""
    transform = get_model_info(identifier).transform

    def apply(image: Any) -> Tensor:
        return transform([np.asarray(image.convert("RGB"))])[0]

    return apply


def load_model(identifier: str, map_location: str | torch.device = "cpu") -> nn.Module:
    """Return a network with published weights, in evaluation mode.

    They are downloaded to the folder FEATOOD_WEIGHTS if they are not there.

    Raises
    ------
    UsageError
        If there are no such weights, or several.
    DataError
        If they cannot be downloaded.
    """
    from featood.detectors.resnets import ResNet18, ResNet50

    entry = get_model_info(identifier)
    if entry.network.startswith("wrn"):
        net: nn.Module = WideResNet(pretrained=identifier, widen_factor=int(entry.network.rpartition("-")[2]))
    else:
        built: Any = _built(entry)
        net = {"tv:resnet18": ResNet18, "tv:resnet50": ResNet50}[entry.network](built.fc.out_features)
        net.load_state_dict(built.state_dict())
    return net.eval().to(map_location)


def _built(entry: PublishedWeights) -> nn.Module:
    with TerminalReporter() as reporter:
        return build(entry.name, Request(reporter=reporter)).module


class WideResNet(Net):
    """Wide residual network for images of 32 x 32 pixels.

    Parameters
    ----------
    num_classes : int, optional
        Width of the logits; by default that of the weights.
    depth, widen_factor : int
        ``6n + 4``, and the width.
    drop_rate : float
        Rate of dropout in the blocks.
    in_channels : int
        Channels of the images.
    pretrained : str, optional
        Published weights, see :func:`get_model_info`; ``featood backbones wrn-40-2`` lists them.

    Raises
    ------
    UsageError
        If there are no such weights.
    Mismatch
        If they are of another shape.
    DataError
        If they cannot be downloaded.
    """

    def __init__(
        self, num_classes: int | None = None, depth: int = 40, widen_factor: int = 2, drop_rate: float = 0.3,
        in_channels: int = 3, pretrained: str | None = None,
    ) -> None:  # fmt: skip
        weights = None if pretrained is None else _built(get_model_info(pretrained)).state_dict()
        if num_classes is None:
            if weights is None:
                raise UsageError("WideResNet needs num_classes, or pretrained weights")
            num_classes = len(weights["fc.bias"])
        super().__init__(depth, widen_factor, num_classes, in_channels, WideResNetOptions(dropout=drop_rate))
        if weights is not None:
            try:
                self.load_state_dict(weights)
            except RuntimeError as error:
                shape = f"wrn-{depth}-{widen_factor} with {num_classes} classes"
                raise Mismatch(f"the weights '{pretrained}' do not fit {shape}") from error

    def feature_maps(self, x: Tensor) -> Tensor:
        """Return the last maps ``[B, D, H, W]`` of images ``[B, C, H, W]``."""
        return self.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))

    def forward_feature_maps(self, maps: Tensor) -> Tensor:
        """Return the logits ``[B, K]`` of maps."""
        return self.fc(self.avgpool(maps).flatten(1))

    features_before_pool, forward_from_before_pool = (
        feature_maps,
        forward_feature_maps,
    )  # names of earlier versions

    def features(self, x: Tensor) -> Tensor:
        """Return the averages of the last maps ``[B, D]``."""
        return self.avgpool(self.feature_maps(x)).flatten(1)

    def feature_list(self, x: Tensor) -> list[Tensor]:
        """Return maps, averages ``[B, D, 1, 1]`` and logits."""
        maps = self.feature_maps(x)
        averages = self.avgpool(maps)
        return [maps, averages, self.fc(averages.flatten(1))]

    @staticmethod
    def transform_for(pretrained: str) -> Callable[[Any], Tensor]:
        """Return :func:`load_transform`."""
        return load_transform(pretrained)

    @staticmethod
    def norm_std_for(pretrained: str) -> list[float]:
        """Return the standard deviation of each channel by which inputs are divided."""
        return list(get_model_info(pretrained).transform.std)


class GRUClassifier(nn.Module):
    """Classifier of token indices ``[B, L]`` by the last state of a GRU of two layers; token 1 is padding.

    References
    ----------
    Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019.
    """

    def __init__(self, num_classes: int, n_vocab: int, embedding_dim: int = 50) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_vocab, embedding_dim, padding_idx=1)
        self.gru = nn.GRU(embedding_dim, 128, num_layers=2, batch_first=True)
        self.fc = nn.Linear(128, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the state ``[B, 128]``."""
        return self.gru(self.embedding(x))[1][-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``[B, K]``."""
        return self.fc(self.features(x))
