"""Normal noise with a fixed or a random standard deviation."""

from __future__ import annotations

__all__ = ["perturb"]

import torch
from jaxtyping import Float
from torch import Tensor


def perturb(
    rows: Float[Tensor, "B *shape"], generator: torch.Generator, *, spread: float, widest: float = 0.0
) -> Float[Tensor, "B *shape"]:
    """Add normal noise to rows.

    Parameters
    ----------
    rows : Tensor
        ``[B, ...]``.
    generator : torch.Generator
        Generator of the noise, on any device.
    spread : float
        Standard deviation of the noise.
    widest : float
        If larger than `spread`, the standard deviation of each row is drawn log-uniformly between the two.

    Returns
    -------
    Tensor
        ``[B, ...]``.
    """
    device = generator.device
    noise = torch.randn(rows.shape, generator=generator, device=device, dtype=rows.dtype).to(rows.device)
    if widest <= spread:
        return rows + spread * noise
    level = torch.rand(len(rows), generator=generator, device=device, dtype=rows.dtype).to(rows.device)
    return rows + (spread * (widest / spread) ** level).reshape(-1, *[1] * (rows.ndim - 1)) * noise
