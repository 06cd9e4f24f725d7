"""Monte-Carlo dropout: logits of several passes with random dropout."""

from __future__ import annotations

__all__ = ["MonteCarloDropout", "dropout_logits", "dropping", "drops", "seeded"]

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.outputs import class_outputs

if TYPE_CHECKING:
    from featood.extractors.extras import Setting

LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def drops(module: nn.Module) -> bool:
    """Return whether a network has a dropout layer with a positive rate."""
    return any(isinstance(layer, LAYERS) and layer.p > 0 for layer in module.modules())


@contextlib.contextmanager
def dropping(module: nn.Module, rate: float) -> Iterator[None]:
    """Activate only the dropout layers: batch normalisation keeps its statistics."""
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS)]
    before = [(layer.p, layer.training) for layer in layers]
    for layer in layers:
        layer.p = rate or layer.p
        layer.training = True
    try:
        if not any(layer.p for layer in layers):
            have = (
                "dropout layers, all with rate 0: set it with --dropout-rate"
                if layers
                else "no dropout layer"
            )
            raise UsageError(f"Monte-Carlo dropout is impossible for this backbone: it has {have}")
        yield
    finally:
        for layer, (p, training) in zip(layers, before, strict=True):
            layer.p, layer.training = p, training


@contextlib.contextmanager
def seeded(device: torch.device, *entropy: int) -> Iterator[None]:
    """Seed the global generator of the device, the only one that dropout uses, and restore it."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        # torch.manual_seed would also reseed other accelerators, which the fork does not restore
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield


def dropout_logits(
    module: nn.Module, images: Tensor, draws: int, rate: float = 0.0, seed: tuple[int, ...] = (0,)
) -> Tensor:
    """Compute the logits of several passes with dropout ``[B, draws * K]``, in the order of the passes.

    Parameters
    ----------
    module : Module
        A network in evaluation mode, in which it remains.
    images : Tensor
        ``[B, C, H, W]``.
    draws : int
        Number of passes.
    rate : float
        Dropout rate; 0 for the rates of the layers.
    seed : tuple of int
        Seed of the draws; the global random state is not affected.

    Raises
    ------
    UsageError
        If no layer has a positive rate.
    """
    with torch.inference_mode(), dropping(module, rate), seeded(images.device, *seed):
        return torch.cat([class_outputs(module(images)).float() for _ in range(draws)], 1)


@dataclasses.dataclass(frozen=True)
class MonteCarloDropout:
    """The column ``mc.logits``: concatenated logits of `draws` passes with dropout.

    Dropout is determined by the seed and the number of the first row of the batch, so an interrupted extraction resumes
    with the same values.

    Parameters
    ----------
    draws : int
        Number of passes, at least 2.
    rate : float
        Dropout rate; 0 for the rates of the layers.
    seed : int
        Seed of the draws.

    References
    ----------
    Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016.
    """

    kind: ClassVar[str] = "mc.logits"
    by_batch: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    draws: int
    rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 2 or not 0 <= self.rate < 1 or self.seed < 0:
            raise UsageError(
                "Monte-Carlo dropout needs at least 2 passes, a rate in [0, 1) and a seed of at least 0, "
                f"not {self.draws}, {self.rate} and {self.seed}"
            )

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the values ``[B, draws * K]`` for the batch that begins at row `row`."""
        return {self.kind: dropout_logits(module, inputs, self.draws, self.rate, (self.seed, row))}
