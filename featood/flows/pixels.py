"""Densities of images with 256 levels, by flows of dequantised pixels on the logit scale."""

from __future__ import annotations

__all__ = ["LEVELS", "PixelDensity", "PixelLogits", "bits_per_dim"]

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featood.flows.density import FlowDensity, standard_normal

LEVELS = 256
MARGIN = 0.05
"""Pixels are mapped to [a, 1 - a] before the logit, which is then at most 2.94 in absolute value."""
HALF_LEVEL = 0.5 / (LEVELS - 1)


def bits_per_dim(log_density: Float[Tensor, "*shape"], size: int) -> Float[Tensor, "*shape"]:
    """Return ``-log p / (D log 2)`` for log-densities in nats of images with D values."""
    return -log_density / (size * math.log(2))


class PixelLogits(nn.Module):
    """The map from normalised images to logits of their dequantised pixels, with its log-determinants.

    A pixel x in [0, 1] becomes ``y = (255 x + u) / 256`` with u in [0, 1), then ``logit(a + (1 - 2 a) y)``. Volumes are
    in units of the 256 levels, so for uniform u, the mean density of an image is its probability, and the mean
    log-density a lower bound of the logarithm.

    Parameters
    ----------
    mean, std : sequence of float
        Normalisation of the images: one value, or one per channel, for pixels in [0, 1].

    References
    ----------
    Theis et al., A note on the evaluation of generative models, ICLR 2016 (dequantisation); Dinh et al., Density
    Estimation Using Real NVP, ICLR 2017 (logits).
    """

    mean: Float[Tensor, "C 1 1"]
    std: Float[Tensor, "C 1 1"]

    def __init__(self, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(
        self, images: Float[Tensor, "B C H W"], noise: Float[Tensor, "B C H W"] | None = None
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B"]]:
        """Map images to logits, with log-determinants ``[B]``; `noise` is u, by default 1/2.

        Pixels outside [0, 1] are mapped as the nearest inside. If one is further than half a level outside, the
        log-determinant is ``-inf``: the density of such an image is zero.
        """
        pixels = images * self.std + self.mean
        inside = pixels.clamp(0, 1)
        y = (255 * inside + (0.5 if noise is None else noise)) / LEVELS
        share = MARGIN + (1 - 2 * MARGIN) * y
        low, high = share.log(), (-share).log1p()
        log_det = (math.log((1 - 2 * MARGIN) / LEVELS) - low - high).flatten(1).sum(1)
        # "not within" also finds NaN
        possible = ((pixels - inside).abs() <= HALF_LEVEL).flatten(1).all(1)
        return torch.nan_to_num(low - high), log_det.masked_fill(~possible, -math.inf)

    def inverse(self, logits: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map logits to normalised images, whose pixels are rounded down to one of the 256 levels."""
        y = (logits.sigmoid() - MARGIN) / (1 - 2 * MARGIN)
        levels = (LEVELS * y).floor().clamp(0, LEVELS - 1)
        return (levels / (LEVELS - 1) - self.mean) / self.std


class PixelDensity(nn.Module):
    """The density of images under a flow, or under a mixture of one flow per class.

    Called with images, it returns log-densities in nats, reproducibly: pixels are dequantised by the middle of their
    level. Images of density zero, such as those with pixels outside of [0, 1] before normalisation, and those whose
    density overflows, have the lowest finite log-density of the number format, never NaN. Everything is computed in the
    precision of the weights, even under autocast, as log-densities are sums of many large numbers.

    Parameters
    ----------
    flows : iterable of FlowDensity
        Flows of images ``[B, C, H, W]`` to latents ``[B, D]``, one for each class.
    mean, std : sequence of float
        See :class:`PixelLogits`.
    """

    feature_layer = "latent"
    log_shares: Float[Tensor, "K"]
    """Logarithms of the frequencies of the classes."""
    initialized: Tensor
    """Whether `initialize` was called, so that weights that are loaded stay as they are."""

    def __init__(
        self, flows: Iterable[FlowDensity], mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__()
        self.pixels = PixelLogits(mean, std)
        self.flows = nn.ModuleList(flows)
        self.latent = nn.Identity()
        self.num_classes = len(self.flows)
        self.register_buffer("log_shares", torch.full((len(self.flows),), -math.log(len(self.flows))))
        self.register_buffer("initialized", torch.tensor(False))

    @property
    def size(self) -> int:
        """Number of values D of an image."""
        return self._flows()[0].size

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Return ``log p(x, y)`` for each class; their logsumexp is ``log p(x)``.

        The latents, those of the most probable class, pass through the submodule `latent`.
        """
        latents, joint = self._joint(images)
        best = joint.argmax(1)
        self.latent(torch.nan_to_num(latents[torch.arange(len(best), device=best.device), best]))
        return joint

    def log_density(
        self,
        images: Float[Tensor, "B C H W"],
        noise: Float[Tensor, "B C H W"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B K"]:
        """Return ``log p(x, y)`` for each class, with pixels dequantised by `noise` in [0, 1).

        With a generator, log-determinants may be estimated; see :class:`featood.flows.density.Chain`.
        """
        return self._joint(images, noise, generator)[1]

    def log_density_of(
        self,
        images: Float[Tensor, "B C H W"],
        labels: Int[Tensor, "B"],
        noise: Float[Tensor, "B C H W"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B"]:
        """Return ``log p(x | y)`` of images of given classes, for which only the flow of its class sees an image."""
        found = images.new_zeros(len(images))
        with torch.autocast(images.device.type, enabled=False):
            maps, log_det = self.pixels(images, noise)
            for number, flow in enumerate(self._flows()):
                own = labels == number
                if own.any():
                    found = found.masked_scatter(own, flow.log_density(maps[own], generator) + log_det[own])
        return _finite(found)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} C H W"]:
        """Draw normalised images of 256 levels, of classes drawn by their frequency."""
        shares = self.log_shares.exp().to(generator.device)
        labels = torch.multinomial(shares, count, replacement=True, generator=generator)
        drawn = [
            flow.sample(own, generator)
            for flow, own in zip(
                self._flows(), torch.bincount(labels, minlength=len(shares)).tolist(), strict=True
            )
            if own
        ]
        # in the order of the labels drawn, so that the first images are of all classes
        return self.pixels.inverse(torch.cat(drawn))[labels.argsort(stable=True).argsort()]

    def latents(self, images: Float[Tensor, "B C H W"], classes: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """Return the latents of images under the flows of some classes."""
        found, _ = self._joint(images)
        return found[torch.arange(len(images), device=images.device), classes]

    @torch.no_grad()
    def images(self, latents: Float[Tensor, "B D"], classes: Int[Tensor, "B"]) -> Float[Tensor, "B C H W"]:
        """Return the normalised images of 256 levels that latents stand for, under the flows of some classes."""
        order = classes.argsort(stable=True)
        parts = latents[order].split(torch.bincount(classes, minlength=len(self.flows)).tolist())
        made = [flow.inverse(part) for flow, part in zip(self._flows(), parts, strict=True) if len(part)]
        return self.pixels.inverse(torch.cat(made))[order.argsort()]

    @torch.no_grad()
    def initialize(
        self, images: Float[Tensor, "B C H W"], noise: Float[Tensor, "B C H W"] | None = None
    ) -> None:
        """Initialise the flows that need data, with images of all classes."""
        self.initialized.fill_(True)
        maps, _ = self.pixels(images, noise)
        for flow in self._flows():
            flow.initialize(maps)

    @torch.no_grad()
    def count(self, labels: Int[Tensor, "N"]) -> None:
        """Set the frequencies of the classes to those of labels."""
        counts = torch.bincount(labels, minlength=len(self.log_shares)).to(self.log_shares)
        self.log_shares.copy_((counts / counts.sum()).log())

    def _joint(
        self,
        images: Float[Tensor, "B C H W"],
        noise: Float[Tensor, "B C H W"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K"]]:
        with torch.autocast(images.device.type, enabled=False):
            maps, log_det = self.pixels(images, noise)
            found = [flow(maps, generator) for flow in self._flows()]
            latents = torch.stack([latent for latent, _ in found], 1)
            densities = [standard_normal(latent) + part + log_det for latent, part in found]
            return latents, _finite(torch.stack(densities, 1) + self.log_shares)

    def _flows(self) -> list[FlowDensity]:
        return list(self.flows)  # type: ignore[arg-type]


def _finite(log_density: Tensor) -> Tensor:
    lowest = torch.finfo(log_density.dtype).min
    return torch.nan_to_num(log_density, nan=lowest, posinf=lowest, neginf=lowest)
