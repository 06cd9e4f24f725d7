"""Input perturbation by the Mahalanobis distance: features of images moved towards the nearest class mean."""

from __future__ import annotations

__all__ = ["MahalanobisOdin"]

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.gaussian import check_gaussian, check_network, open_gaussian
from featood.extractors.gradients import input_gradient, pixel_step

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


@dataclasses.dataclass(frozen=True)
class MahalanobisOdin:
    """The column ``mahalanobis-odin``: features of ``x - step * sign(grad_x d(x)^2)``, for the head of this name.

    d is the Mahalanobis distance of a fitted head to the nearest mean.

    Parameters
    ----------
    sha256 : str
        Digest of the fitted head's tensors.
    folder : str
        Where the fitted ``mahalanobis`` head is.
    epsilon : float
        Step size for pixels in [0, 1]; for normalised images, it is divided by the standard deviation of each channel
        in the transform, as in the authors' code, which chooses it from 0 to 0.01 on validation outliers.

    References
    ----------
    Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
    NeurIPS 2018.
    """

    kind: ClassVar[str] = "mahalanobis-odin"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    sha256: str
    folder: str = dataclasses.field(metadata={"is_path": True})
    epsilon: float = 0.002

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < float("inf"):
            raise UsageError(f"{self.kind} needs a step of at least 0, not {self.epsilon}")

    @classmethod
    def of(cls, folder: str | Path, epsilon: float = epsilon) -> MahalanobisOdin:
        """Describe the fitted head in a folder.

        Raises
        ------
        UsageError
            If there is no ``mahalanobis`` head on untransformed features.
        """
        place = os.path.abspath(folder)
        return cls(open_gaussian(place).sha256, place, epsilon)

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column ``[B, D]`` of a batch.

        Raises
        ------
        UsageError
            If the transform of the inputs is unknown.
        Mismatch
            If the head has changed, or was fitted to features of another network.
        """
        step = pixel_step(self.kind, self.epsilon, inputs, setting).view(-1, 1, 1)
        gaussian = check_gaussian(self.folder, self.sha256)
        check_network(gaussian, self.folder, module, setting)
        assert setting.plan is not None
        with setting.plan.only(gaussian.feature).recording(module) as forward:
            gradient = input_gradient(
                self.kind, lambda moved: gaussian.nearest(forward(moved)[gaussian.feature]), inputs
            )
            with torch.inference_mode():
                return {self.kind: forward(inputs - step * gradient.sign())[gaussian.feature]}
