r"""Losses of networks whose logits are the concentrations of a Dirichlet distribution over class probabilities.

All losses use logarithms, as concentrations that are exponentials of logits, or densities, exceed the range of floats;
see :mod:`featood.numerics.dirichlet`.
"""

from __future__ import annotations

__all__ = [
    "bayesian_loss",
    "evidence_divergence",
    "prior_network_loss",
    "target_concentrations",
    "uncertain_cross_entropy",
]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featood.numerics.dirichlet import concentrations, differential_entropy, digamma, divergence, precision


def uncertain_cross_entropy(log_alpha: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Return the expected cross-entropy under ``Dir(alpha)``, ``psi(alpha_0) - psi(alpha_y)``, in nats ``[B]``."""
    own = log_alpha.gather(1, labels[:, None]).squeeze(1)
    return digamma(precision(log_alpha)) - digamma(own)


def bayesian_loss(
    log_alpha: Float[Tensor, "B C"], labels: Int[Tensor, "B"], *, entropy: float = 1e-5
) -> dict[str, Float[Tensor, ""]]:
    """Return the mean uncertain cross-entropy minus the weighted mean differential entropy of ``Dir(alpha)``.

    Parameters
    ----------
    log_alpha : Tensor
        Log-concentrations ``[B, C]``.
    labels : Tensor
        Classes ``[B]``.
    entropy : float
        Weight of the entropy, which is maximised.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and its parts ``uce`` and ``entropy``.

    References
    ----------
    Charpentier et al., Posterior Network: Uncertainty Estimation without OOD Samples via Density-Based
    Pseudo-Counts, NeurIPS 2020.
    """
    error = uncertain_cross_entropy(log_alpha, labels).mean()
    spread = differential_entropy(log_alpha).mean()
    return {"loss": error - entropy * spread, "uce": error, "entropy": spread}


def target_concentrations(
    labels: Int[Tensor, "B"], classes: int, target: float = 100.0
) -> Float[Tensor, "B {classes}"]:
    """Return the target log-concentrations ``[B, C]`` of a prior network.

    The concentration is 1 for all classes, plus `target` for the true class; rows with a negative label (outliers)
    have the uniform distribution.
    """
    own = labels[:, None] == torch.arange(classes, device=labels.device)
    return torch.where(own, target, 0.0).double().log1p()


def prior_network_loss(
    logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    *,
    direction: str = "reverse",
    target: float = 100.0,
    prior: float = 1.0,
    outliers: float = 1.0,
) -> dict[str, Float[Tensor, ""]]:
    """Return the KL divergence between the output of a prior network and its target, divided by `target`.

    Parameters
    ----------
    logits : Tensor
        ``[B, C]``; the concentrations are ``exp(l) + prior``.
    labels : Tensor
        Classes ``[B]``; negative for outliers.
    direction : str
        ``reverse``: from the network to the target, whose minimum is unimodal also for overlapping classes;
        ``forward``: from the target to the network.
    target : float
        Concentration of the true class in addition to 1; see :func:`target_concentrations`.
    prior : float
        Added to each concentration.
    outliers : float
        Weight of the mean divergence of outliers, relative to that of inliers.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the mean divergences ``inlier`` and ``outlier``, 0 if there are no such rows.

    References
    ----------
    Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS 2018 (forward); Reverse
    KL-Divergence Training of Prior Networks, NeurIPS 2019 (reverse).
    """
    output = concentrations(logits, prior)
    wanted = target_concentrations(labels, logits.shape[1], target)
    each = divergence(output, wanted) if direction == "reverse" else divergence(wanted, output)
    inlier, outlier = ((each * rows).sum() / rows.sum().clamp(min=1) for rows in (labels >= 0, labels < 0))
    return {"loss": (inlier + outliers * outlier) / target, "inlier": inlier, "outlier": outlier}


def evidence_divergence(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], target: float = 0.0
) -> Float[Tensor, "B"]:
    """Return the KL divergence from ``Dir(exp(l) + 1)`` to evidence for the true class only, in nats ``[B]``.

    Parameters
    ----------
    logits : Tensor
        ``[B, C]``.
    labels : Tensor
        Classes ``[B]``.
    target : float
        Target concentration of the true class; the others have 1. If 0, it is ``sum_c exp(l_c)``, the exponential of
        the negative free energy, so that this loss does not determine the amount of evidence.

    References
    ----------
    Elflein, Out-of-distribution Detection with Energy-based Models, 2023.
    """
    own = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    evidence = logits.double().logsumexp(1, keepdim=True)
    aim = evidence if not target else evidence.new_tensor(target).log()
    return divergence(concentrations(logits, prior=1.0), torch.where(own, aim, 0.0))
