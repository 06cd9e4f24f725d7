"""Mixed images: mixup and CutMix."""

from __future__ import annotations

__all__ = ["Mixing"]

import numpy as np
import torch
from torch import Tensor


class Mixing:
    """Mixes each image of a batch with another of it.

    Parameters
    ----------
    mixup, cutmix : float
        Parameters of the Beta distributions of the shares; 0 leaves one out. With both, each batch gets one of them
        with equal chance.
    seed : int
        Of all draws.

    References
    ----------
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018; Yun et al., CutMix: Regularization Strategy to
    Train Strong Classifiers with Localizable Features, ICCV 2019.
    """

    def __init__(self, mixup: float, cutmix: float, seed: int) -> None:
        self._parameters = [
            (kind, value) for kind, value in (("mixup", mixup), ("cutmix", cutmix)) if value > 0
        ]
        self._seed = seed

    def __bool__(self) -> bool:
        return bool(self._parameters)

    def __call__(self, images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor, float]:
        """Return mixed images ``[B, C, H, W]``, the labels ``[B]`` mixed in, and the share of the images' own."""
        rng = np.random.default_rng([self._seed, number, 2])
        kind, parameter = self._parameters[rng.integers(len(self._parameters))]
        share = float(rng.beta(parameter, parameter))
        order = torch.from_numpy(rng.permutation(len(images)))
        if kind == "mixup":
            return share * images + (1 - share) * images[order], labels[order], share
        height, width = images.shape[2:]
        side = np.sqrt(1 - share)
        middle = rng.integers(height), rng.integers(width)
        top, bottom = np.clip(
            [middle[0] - side * height / 2, middle[0] + side * height / 2], 0, height
        ).astype(int)
        left, right = np.clip([middle[1] - side * width / 2, middle[1] + side * width / 2], 0, width).astype(
            int
        )
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[order][:, :, top:bottom, left:right]
        return mixed, labels[order], 1 - (bottom - top) * (right - left) / (height * width)
