"""The density of a second network, which has learned what images have in common besides their content."""

from __future__ import annotations

__all__ = ["Background"]

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.other_network import check_network, network_inputs, open_network
from featood.extractors.outputs import density_of

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


@dataclasses.dataclass(frozen=True)
class Background:
    """The column ``background.log-density`` ``[B, 1]``, or ``background.evidence-bound``: a second network's density.

    The head ``likelihood-ratio`` subtracts it from that of the network. The authors train the background on images in
    which pixels are replaced at random (``featood train ... --augment mutate:0.1``).

    Parameters
    ----------
    sha256 : str
        Digest of the background's weights.
    folder : str
        Where the background is, as written by ``featood train``.

    References
    ----------
    Ren et al., Likelihood Ratios for Out-of-Distribution Detection, NeurIPS 2019.
    """

    kind: ClassVar[str] = "background"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    sha256: str
    folder: str = dataclasses.field(metadata={"is_path": True})

    @classmethod
    def of(cls, folder: str | Path) -> Background:
        """Describe the network in a folder.

        Raises
        ------
        UsageError
            If there is none, or it is not a density.
        """
        place = os.path.abspath(folder)
        found, sha256 = open_network(place)
        if not found.facts.model.density_column:
            raise UsageError(
                f"the network in {place} was trained by {found.facts.model.name}, which is not a density; train the "
                "background like the network, with --augment mutate:0.1"
            )
        return cls(sha256, place)

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch.

        Raises
        ------
        UsageError
            If the transform of the inputs is unknown.
        Mismatch
            If the background's weights have changed, or it was trained on images of another size.
        """
        if setting.transform is None:
            raise UsageError(f"the column {self.kind} needs a known transform of the inputs")
        found = check_network(self.folder, self.sha256)
        column = found.facts.model.density_column
        with torch.inference_mode():
            images = network_inputs(found, self.folder, inputs, setting.transform)
            return {f"{self.kind}.{column}": density_of(found.net.to(inputs.device)(images), column)}
