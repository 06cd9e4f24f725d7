"""Features of a stage for images as an autoencoder reconstructs them."""

from __future__ import annotations

__all__ = ["Reconstruction"]

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.inputs import image_transform
from featood.extractors.other_network import check_network, network_inputs, open_network
from featood.extractors.pooling import pool
from featood.extractors.trace import recording
from featood.extractors.transform import Transform

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
            If there is none, or it is no autoencoder.
        """
        place = os.path.abspath(folder)
        found, sha256 = open_network(place)
        if not hasattr(found.facts.model, "reconstruct"):
            raise UsageError(
                f"the network in {place} was trained by {found.facts.model.name}, which is no autoencoder; train one "
                "by featood train autoencoder --dataset NAME --arch NAME"
            )
        return cls(stage, sha256, place)

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

    def _reconstructed(self, inputs: Tensor, outside: Transform) -> Tensor:
        """Map inputs to reconstructions, both normalised by the transform `outside`."""
        found = check_network(self.folder, self.sha256)
        images = network_inputs(found, self.folder, inputs, outside)
        model: Any = found.facts.model
        again = model.reconstruct(found.net.to(inputs.device), images)
        return outside.normalised(image_transform(found.facts.transform, self.folder).scaled(again))
