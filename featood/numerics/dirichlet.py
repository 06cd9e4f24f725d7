r"""Uncertainties of a Dirichlet distribution, computed from the logarithms of its concentrations.

With :math:`f(x) = x (\psi(x + 1) - \ln x)`, which increases from 0 to 1/2, and Binet's remainder
:math:`r(x) = \ln\Gamma(x) - (x - 1/2) \ln x + x - \ln(2 \pi) / 2`, which decreases to 0, every quantity is a sum of
terms of its own magnitude. The textbook formulas subtract digamma and log-gamma values, which cancels all digits for
the large concentrations that exponentials of logits often are.
"""

from __future__ import annotations

__all__ = [
    "concentrations",
    "differential_entropy",
    "digamma",
    "divergence",
    "expected_entropy",
    "expected_pairwise_divergence",
    "max_probability",
    "mutual_information",
    "precision",
]

import math

import torch
from jaxtyping import Float
from torch import Tensor

LARGE = 32.0
"""Smallest concentration for which the asymptotic series are exact to 15 digits."""
SMALLEST = -80.0
"""Smallest log-concentration; the differential entropy decreases as ``-1 / alpha``."""
NOTHING = -1e4
"""Logarithm of the sum over no class; its exponential is 0, and differences remain finite."""


def concentrations(logits: Float[Tensor, "B C"], prior: float = 0.0) -> Float[Tensor, "B C"]:
    """Log-concentrations ``log(exp(logits) + prior)``, ``[B, C]`` in float64, clamped to at least -80."""
    logits = logits.double()
    least = math.log(prior) if prior > 0 else -math.inf
    return torch.logaddexp(logits, logits.new_tensor(least)).clamp(min=SMALLEST)


def precision(log_alpha: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Logarithm of the precision ``alpha_0 = sum_c alpha_c``, ``[B]``."""
    return log_alpha.logsumexp(1)


def max_probability(log_alpha: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Largest expected class probability ``max_c alpha_c / alpha_0``, ``[B]``."""
    return (log_alpha.amax(1) - precision(log_alpha)).exp()


def expected_entropy(log_alpha: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Return the expected entropy of the class probabilities, in nats ``[B]``: the aleatoric uncertainty."""
    log_p = log_alpha.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1) - mutual_information(log_alpha)


def mutual_information(log_alpha: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Mutual information of the class and its probabilities, in nats ``[B]``: the epistemic uncertainty.

    It is the entropy of the expected probabilities minus the expected entropy,
    ``(sum_c f(alpha_c) - f(alpha_0)) / alpha_0``.
    """
    total = precision(log_alpha)
    return (_f(log_alpha).sum(1) - _f(total)) * (-total).exp()


def expected_pairwise_divergence(log_alpha: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Return the expected KL divergence of two draws of the class probabilities, ``(C - 1) / alpha_0`` ``[B]``."""
    return (log_alpha.shape[1] - 1) * (-precision(log_alpha)).exp()


def differential_entropy(log_alpha: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Differential entropy in nats ``[B]``; its maximum ``-ln Gamma(C)`` is reached if all concentrations are 1."""
    classes = log_alpha.shape[1]
    total = precision(log_alpha)
    f, f_total = _f(log_alpha), _f(total)
    # psi(x) = ln x + (f(x) - 1) / x
    tails = (_binet(log_alpha) - f + (f - 1) * (-log_alpha).exp()).sum(1) + classes
    tail = _binet(total) - f_total + classes * (f_total - 1) * (-total).exp() + 1
    leading = log_alpha.sum(1) / 2 - (classes - 0.5) * total + (classes - 1) / 2 * math.log(2 * math.pi)
    return leading + tails - tail


def digamma(log_x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Digamma function of ``exp(log_x)``."""
    return log_x + (_f(log_x) - 1) * (-log_x).exp()


def divergence(log_alpha: Float[Tensor, "B C"], log_beta: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    r"""KL divergence from ``Dir(alpha)`` to ``Dir(beta)``, in nats ``[B]``.

    With the expected probabilities p of the first and q of the second, it is

    .. math:: \beta_0 \, KL(q \| p) + \sum_c s(\alpha_c, \beta_c) - s(\alpha_0, \beta_0), \quad
        s(a, b) = (b / a - 1)(1 - f(a)) - \tfrac{1}{2} \ln(b / a) + r(b) - r(a),

    as the parts of the log-gamma functions that grow faster than linearly cancel.
    """
    log_q = log_beta.log_softmax(1)
    log_ratio = log_q - log_alpha.log_softmax(1)
    # sum q log(q/p) = sum q (p/q - 1 + log(q/p)), in which no term is negative
    between_means = (log_q.exp() * (torch.expm1(-log_ratio) + log_ratio)).sum(1)
    return precision(log_beta).exp() * between_means + _remainders(log_alpha, log_beta)


def _remainders(log_alpha: Float[Tensor, "B C"], log_beta: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Return ``sum_c s(alpha_c, beta_c) - s(alpha_0, beta_0)``.

    If one class has almost all of the concentration, its term and that of the totals are almost equal, and far larger
    than the result. So the difference of the two is computed from the concentrations of the other classes.
    """
    largest = log_alpha.argmax(1, keepdim=True)
    own = torch.arange(log_alpha.shape[1], device=log_alpha.device) == largest
    log_a, log_b = (values.gather(1, largest).squeeze(1) for values in (log_alpha, log_beta))
    rest_a, rest_b = (values.masked_fill(own, NOTHING).logsumexp(1) for values in (log_alpha, log_beta))
    # ln(alpha_0 / alpha_c) and ln(beta_0 / beta_c) of the class
    growth_a = torch.logaddexp(rest_a - log_a, torch.zeros_like(log_a))
    growth_b = torch.logaddexp(rest_b - log_b, torch.zeros_like(log_b))
    total_a, total_b = log_a + growth_a, log_b + growth_b
    ratio = log_b - log_a
    ratios = ((ratio + rest_a - log_a).exp() - (rest_b - log_a).exp()) * (-growth_a).exp()
    difference = ratios * (1 - _f(total_a)) + torch.expm1(ratio) * _f_difference(log_a, growth_a)
    difference = difference + (growth_b - growth_a) / 2
    difference = difference + (_binet(log_b) - _binet(total_b)) - (_binet(log_a) - _binet(total_a))
    return difference + _remainder(log_alpha, log_beta).masked_fill(own, 0.0).sum(1)


def _remainder(log_a: Float[Tensor, "*shape"], log_b: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    ratio = log_b - log_a
    return torch.expm1(ratio) * (1 - _f(log_a)) - ratio / 2 + _binet(log_b) - _binet(log_a)


def _f_difference(log_x: Float[Tensor, "*shape"], growth: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``f(x e^growth) - f(x)``, by the slope at the middle for small growth, with an error of its cube."""
    exact = _f(log_x + growth) - _f(log_x)
    return torch.where(growth < 1e-4, _f_slope(log_x + growth / 2) * growth, exact)


def _f_slope(log_x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the derivative of f with respect to the logarithm of x."""
    small, inverse = _split(log_x)
    x, square = small.exp(), inverse.square()
    series = inverse * (1 / 12 - square * (1 / 40 - square * (5 / 252 - square * 7 / 240)))
    exact = _f(small) + x * (x * torch.special.polygamma(1, x + 1) - 1)
    return torch.where(log_x > math.log(LARGE), series, exact)


def _f(log_x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x (psi(x + 1) - ln x)``, by its asymptotic series for large x."""
    small, inverse = _split(log_x)
    x, square = small.exp(), inverse.square()
    series = 0.5 - inverse * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return torch.where(log_x > math.log(LARGE), series, x * (torch.digamma(x + 1) - small))


def _binet(log_x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Remainder of Stirling's formula, by its asymptotic series for large x."""
    small, inverse = _split(log_x)
    x, square = small.exp(), inverse.square()
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    exact = torch.lgamma(x + 1) - (x + 0.5) * small + x - math.log(2 * math.pi) / 2
    return torch.where(log_x > math.log(LARGE), series, exact)


def _split(log_x: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return log x clamped to at most LARGE, and 1 / x for x clamped to at least LARGE: the range of each branch."""
    return log_x.clamp(max=math.log(LARGE)), (-log_x.clamp(min=math.log(LARGE))).exp()
