"""Base of the models that are normalising flows of images."""

from __future__ import annotations

__all__ = ["FlowModel", "density_of", "fixed_noise", "random_noise"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.between import PAIRS, SAMPLES, between
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.flows import FlowDensity, PixelDensity, bits_per_dim
from featood.training.loop import Losses

INITIAL_IMAGES = 512
"""Images by which normalisations are initialised."""


@dataclasses.dataclass(kw_only=True, eq=False)
class FlowModel(Model):
    """A model whose network is a density of images; the loss is ``-log2 p(x)`` per value, in bits.

    The column ``log-density`` is ``log p(x)`` in nats, and the main column has the latents. Pixels are dequantised by
    uniform noise in training and validation, and by the middle of their level when images are scored.
    """

    own_network: ClassVar[bool] = True
    classifies: ClassVar[bool] = False
    error_name: ClassVar[str] = "validation_bits_per_dim"
    density_column: ClassVar[str] = "log-density"
    colours: ClassVar[tuple[float, float] | None] = (0.5, 0.5)
    training: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 64, "schedule": "constant", "clip": 100.0,
    }  # fmt: skip

    def flow(self, shape: tuple[int, int, int]) -> FlowDensity:
        """Return a flow of images ``(C, H, W)``, with initial weights from the global generator."""
        raise NotImplementedError

    def outputs(self, classes: int) -> int:
        """Return the number of flows."""
        return 1

    def network(self, setup: Setup) -> PixelDensity:
        """Return the density."""
        flows = [self.flow(setup.shape) for _ in range(self.outputs(setup.classes))]
        return PixelDensity(flows, setup.mean, setup.std)

    def prepare(self, net: nn.Module, batches: Iterable[ImageBatch]) -> None:
        """Initialise the normalisations by the first images, unless weights were loaded."""
        if density_of(net).initialized:
            return
        found: list[Tensor] = []
        for batch in batches:
            found.append(batch.images)
            if sum(map(len, found)) >= INITIAL_IMAGES:
                break
        images = torch.cat(found)
        density_of(net).initialize(images, fixed_noise(images))

    def errors(self, net: nn.Module, batch: ImageBatch) -> Tensor:
        """Return the bits per dimension ``[B]``, with noise from a fixed seed."""
        density = density_of(net)
        joint = density.log_density(batch.images, fixed_noise(batch.images))
        return bits_per_dim(joint.logsumexp(1), density.size)

    def losses(self, net: nn.Module, batch: ImageBatch) -> Losses:
        """Return the mean bits per dimension of images given their class."""
        density = density_of(net)
        found = density.log_density_of(batch.images, batch.labels, random_noise(batch), batch.generator)
        return {"loss": bits_per_dim(found, density.size).mean()}

    def pictures(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return draws, and images of latents between those of the images."""
        density, pairs = density_of(net), len(images) // 2
        flows = density(images[:pairs]).argmax(1)
        points = between(density.latents(images, flows.repeat(2)))
        return {
            "samples": density.sample(SAMPLES, generator),
            "interpolations": density.images(points, flows.repeat_interleave(PAIRS)),
        }


def density_of(net: Any) -> PixelDensity:
    """Return the network of a :class:`~featood.extractors.models.network.TrainableNet`."""
    return net.body


def random_noise(batch: ImageBatch) -> Tensor:
    """Return uniform noise for the images of a batch."""
    return torch.rand(batch.images.shape, generator=batch.generator).to(batch.images)


def fixed_noise(images: Tensor) -> Tensor:
    """Return uniform noise that depends on the shape of images only."""
    return torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
