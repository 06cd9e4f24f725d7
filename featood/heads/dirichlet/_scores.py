"""Uncertainty measures of a Dirichlet distribution; higher means more out-of-distribution."""

from __future__ import annotations

__all__ = ["CHOICES", "SCORES", "dirichlet_score"]

from collections.abc import Callable, Mapping

from torch import Tensor

from featood.numerics import dirichlet

SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "alpha0": lambda log_alpha: -dirichlet.precision(log_alpha),
    "max-p": lambda log_alpha: -dirichlet.max_probability(log_alpha),
    "differential-entropy": dirichlet.differential_entropy,
    "mutual-information": dirichlet.mutual_information,
    "expected-entropy": dirichlet.expected_entropy,
    "epkl": dirichlet.expected_pairwise_divergence,
}
"""From log-concentrations ``[B, C]`` to ``[B]``; ``alpha0`` is the negated logarithm of the precision."""

CHOICES = ("p(x)", *SCORES)


def dirichlet_score(which: str, log_evidence: Tensor, prior: float = 1.0) -> Tensor:
    """Score rows by their evidence for each class.

    Parameters
    ----------
    which : str
        One of :data:`CHOICES`. ``p(x)`` is the negated logarithm of the total evidence: the free energy, if the
        evidence is the exponential of a classifier's logits. Unlike ``alpha0``, which the prior bounds, it still
        distinguishes rows with almost no evidence.
    log_evidence : Tensor
        ``[B, C]``; the concentrations are its exponential plus the prior.
    prior : float
        Concentration of a class without evidence.

    Returns
    -------
    Tensor
        ``[B]``.
    """
    if which == "p(x)":
        return -log_evidence.logsumexp(1)
    return SCORES[which](dirichlet.concentrations(log_evidence, prior))
