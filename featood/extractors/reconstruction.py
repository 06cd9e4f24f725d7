"""Features of a stage for images as an autoencoder reconstructs them."""

from __future__ import annotations

__all__ = ["Reconstruction"]

import dataclasses
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import Mismatch, UsageError
from featood.extractors.pooling import pool
from featood.extractors.trace import recording
from featood.extractors.weights import weights_sha256

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The column ``STAGE.reconstruction``: averages of a tapped stage for reconstructed images, for ``vmdls``.

    Parameters
    ----------
    stage : str
        The tapped module.
    sha256 : str
        Digest of the autoencoder's weights.
    folder : str
        Where the autoencoder is, as written by ``featood train autoencoder``.

    References
    ----------
    Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI 2022.
    """

    kind: ClassVar[str] = "reconstruction"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    stage: str
    sha256: str
    folder: str = dataclasses.field(metadata={"is_path": True})

    @classmethod
    def of(cls, folder: str | Path, stage: str) -> Reconstruction:
        """Describe the autoencoder in a folder.

        Raises
        ------
        UsageError
            If there is none.
        """
        place = os.path.abspath(folder)
        return cls(stage, weights_sha256(_load(place).net), place)

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the averages ``[B, C]`` for a batch ``[B, C_in, H, W]``.

        Raises
        ------
        UsageError
            If the stage is not tapped, or the transform of the inputs is unknown.
        Mismatch
            If the autoencoder's weights have changed, or it was trained on images of another size.
        """
        if setting.transform is None:
            raise UsageError(f"the column {self.kind} needs a known transform of the inputs")
        if self.stage not in setting.taps:
            raise UsageError(f"the column {self.kind} compares a tapped stage: add {self.stage} to the taps")
        tap = setting.taps[self.stage]
        with recording(module, {tap.place}) as seen, torch.inference_mode():
            module(self._reconstructed(inputs, setting.transform))
            values = pool(seen[tap.place].float(), "avg", *tap.layout)
        return {f"{self.stage}.{self.kind}": values}

    def _reconstructed(self, inputs: Tensor, outside: Any) -> Tensor:
        """Map inputs to reconstructions, both normalised by the transform `outside`."""
        found = _checked(self.folder, self.sha256)
        inside = found.facts.transform
        if inside.shape != outside.shape:
            sizes = [" x ".join(map(str, one.shape)) for one in (inside, outside)]
            raise Mismatch(f"the autoencoder in {self.folder} takes images of {sizes[0]}, not {sizes[1]}")
        net = found.net.to(inputs.device)
        again = found.facts.model.reconstruct(net, inside.normalised(outside.scaled(inputs)))
        return outside.normalised(inside.scaled(again))


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> Any:
    from featood.extractors.trainer.folder import is_extractor, load_extractor

    found = load_extractor(folder) if is_extractor(folder) else None
    if found is None or not hasattr(found.facts.model, "reconstruct"):
        raise UsageError(
            f"{folder} contains no autoencoder; train one by featood train autoencoder --dataset NAME --arch NAME"
        )
    return found


@functools.lru_cache(maxsize=1)
def _checked(folder: str, sha256: str) -> Any:
    found = _load(folder)
    if weights_sha256(found.net) != sha256:
        raise Mismatch(
            f"the autoencoder in {folder} is not the one with which the cache was made; extract again"
        )
    return found
