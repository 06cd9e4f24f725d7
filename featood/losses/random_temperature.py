"""Cross-entropy of logits that are divided by a random temperature."""

from __future__ import annotations

__all__ = ["random_temperature"]

from jaxtyping import Float, Int
from torch import Tensor

from featood.losses.outlier_exposure import cross_entropy
from featood.losses.reductions import mean_over


def random_temperature(
    logits: Float[Tensor, "B C"],
    log_variances: Float[Tensor, "B K"],
    noise: Float[Tensor, "B K"],
    labels: Int[Tensor, "B"],
    weight: float = 0.1,
) -> dict[str, Float[Tensor, ""]]:
    """Return the cross-entropy of ``logits / T`` with ``T = sum_k v_k e_k^2 / (K - 2)``, and a divergence of v.

    Parameters
    ----------
    logits, log_variances : Tensor
        ``[B, C]``, and the logarithms of v ``[B, K]`` with K > 2.
    noise : Tensor
        Standard normal draws e ``[B, K]``.
    labels : Tensor
        ``[B]``; rows with a negative label are ignored.
    weight : float
        Weight of the divergence ``mean (v - log v - 1) / 2``.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and its terms ``classification`` and ``divergence``.
    """
    variances = log_variances.exp()
    temperature = (variances * noise.square()).sum(1, keepdim=True) / (noise.shape[1] - 2)
    named = cross_entropy(logits / temperature, labels)
    divergence = mean_over((variances - log_variances - 1).mean(1) / 2, labels >= 0)
    return {"loss": named + weight * divergence, "classification": named, "divergence": divergence}
