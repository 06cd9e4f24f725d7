"""Decoders of images from codes."""

import pytest
import torch

from featood.errors import UsageError
from featood.nets.decoders import DECODERS


@pytest.mark.parametrize(
    ("name", "shape"), [("conv", (1, 28, 28)), ("conv", (3, 32, 32)), ("resnet18", (3, 32, 32))]
)
def test_decoders_make_images_of_a_shape(name, shape):
    assert DECODERS[name](6, shape)(torch.randn(2, 6)).shape == (2, *shape)


@pytest.mark.parametrize(
    ("name", "shape"), [("conv", (1, 28, 32)), ("conv", (1, 16, 16)), ("resnet18", (3, 28, 28))]
)
def test_decoders_name_the_shapes_that_they_cannot_make(name, shape):
    with pytest.raises(UsageError, match=f"not {shape[1]} x {shape[2]}; take another"):
        DECODERS[name](6, shape)
