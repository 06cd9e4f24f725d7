"""RealNVP of images."""

from __future__ import annotations

__all__ = ["RealNVP"]

from collections import deque
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.models.flow_model import FlowModel, density_of, random_noise
from featood.extractors.models.model import ImageBatch
from featood.extractors.models.registry import register
from featood.flows import FlowDensity, bits_per_dim, image_realnvp
from featood.options import option
from featood.training.loop import Losses


@register(
    "realnvp",
    title="RealNVP",
    paper="Dinh et al., Density Estimation Using Real NVP, ICLR",
    year=2017,
    url="https://arxiv.org/abs/1605.08803",
    needs=(),
)
class RealNVP(FlowModel):
    """Learn the density of images by couplings of checkerboards and channels.

    With `class_conditional`, it has one flow for each class, and the outputs are ``log p(x, y)``: their logsumexp is
    ``log p(x)``, and their softmax classifies. The thesis (Elflein 2023) trains such flows by the cross-entropy alone
    (``--likelihood 0 --classification 1``).
    """

    scales: int = option(2, "scales; after each but the last, images are halved", low=1)
    blocks: int = option(2, "residual blocks of the network of a coupling", low=1)
    width: int = option(32, "channels of the network of a coupling", low=1)
    class_conditional: bool = option(False, "learn one flow for each class")
    likelihood: float = option(1.0, "weight of the bits per dimension in the loss", low=0)
    classification: float = option(0.0, "weight of the cross-entropy, with one flow for each class", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classification and not self.class_conditional:
            raise UsageError("realnvp: classification needs one flow for each class: add --class-conditional")
        if not self.likelihood + self.classification:
            raise UsageError("realnvp: likelihood and classification are both 0, so there is no loss")

    @property
    def needs(self) -> tuple[str, ...]:
        """Labels, if there is one flow for each class."""
        return ("labels",) if self.class_conditional else ()

    def outputs(self, classes: int) -> int:
        """Return the number of flows."""
        return classes if self.class_conditional else 1

    def flow(self, shape: tuple[int, int, int]) -> FlowDensity:
        """Return the flow."""
        return image_realnvp(shape, self.scales, self.width, self.blocks, torch.default_generator)

    def prepare(self, net: nn.Module, batches: Iterable[ImageBatch]) -> None:
        """Initialise the normalisations by the first images, and set the frequencies of the classes."""
        labels: list[Tensor] = []

        def counted() -> Iterator[ImageBatch]:
            for batch in batches:
                labels.append(batch.labels)
                yield batch

        passing = counted()
        super().prepare(net, passing)
        if self.class_conditional:
            deque(passing, maxlen=0)
            density_of(net).count(torch.cat(labels))

    def losses(self, net: nn.Module, batch: ImageBatch) -> Losses:
        """Return the weighted sum of bits per dimension given the class, and cross-entropy."""
        if not self.classification:
            bits = super().losses(net, batch)["loss"]
            return {"loss": self.likelihood * bits, "bits_per_dim": bits}
        density = density_of(net)
        joint = density.log_density(batch.images, random_noise(batch))
        own = joint.gather(1, batch.labels[:, None])[:, 0] - density.log_shares[batch.labels]
        bits = bits_per_dim(own, density.size).mean()
        entropy = F.cross_entropy(joint, batch.labels)
        loss = self.likelihood * bits + self.classification * entropy
        return {"loss": loss, "bits_per_dim": bits, "classification": entropy}
