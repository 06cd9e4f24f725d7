"""Dense flows: linear layers and leaky rectifiers, with determinants from the parametrisation of the matrices.

A matrix is an orthogonal matrix, or ``U diag(s) V'`` with two orthogonal matrices. Two of the four kinds have exactly
orthogonal matrices, as products of Householder reflections or exponentials of skew-symmetric matrices. The other two
have free matrices with a penalty; in training, their determinant is that of orthogonal matrices, so the log-density is
an approximation. In evaluation, the exact determinant is computed, once for all rows, so densities of all kinds
integrate to one.
"""

from __future__ import annotations

__all__ = ["KINDS", "ApproximateFlow", "DenseLayer", "LeakyRectifier", "householder"]

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.flows.density import FlowDensity
from featood.nets.initialise import seeded


def householder(vectors: Float[Tensor, "D K"]) -> Float[Tensor, "D D"]:
    """Return the product ``[D, D]`` of the reflections along the columns of ``[D, K]``, the first leftmost.

    The product is ``I - V T V'``, where ``T`` is the inverse of a triangular matrix, so one solve is sufficient for any
    number of reflections.

    References
    ----------
    Joffrain et al., Accumulating Householder transformations, revisited, ACM TOMS 2006.
    """
    # the solve is not implemented in reduced precision
    with torch.autocast(vectors.device.type, enabled=False):
        gram = vectors.T @ vectors
        triangle = gram.triu(1) + torch.diag(gram.diagonal() / 2)
        eye = torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device)
        return eye - vectors @ torch.linalg.solve_triangular(triangle, vectors.T, upper=True)


def _exponential(raw: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    return torch.linalg.matrix_exp(raw - raw.T)


FACTORS: dict[str, Callable[[Tensor], Tensor]] = {"svd": householder, "matrix-exponential": _exponential}
"""Maps from free parameters ``[D, D]`` to an orthogonal matrix, for the kinds with exactly orthogonal matrices."""
KINDS = ("orthogonal", "reparameterized", *FACTORS)


class DenseLayer(nn.Module):
    """The map ``W x + b`` with a matrix of one of the :data:`KINDS`.

    Parameters
    ----------
    size : int
        Number of features.
    kind : str
        ``orthogonal`` (W, with a penalty), ``reparameterized`` (``U diag(s) V'``, with a penalty on U and V), or
        ``svd`` and ``matrix-exponential``, whose U and V are exactly orthogonal.
    """

    def __init__(self, size: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.left = nn.Parameter(self._start(size))
        if kind != "orthogonal":
            self.right = nn.Parameter(self._start(size))
            self.log_scale = nn.Parameter(torch.empty(size).uniform_(0.99, 1.01).log())
        self.bias = nn.Parameter(torch.zeros(size))

    def _start(self, size: int) -> Float[Tensor, "{size} {size}"]:
        values = torch.randn(size, size)
        if self.kind in FACTORS:  # for reflections, only the directions of the vectors matter
            return values if self.kind == "svd" else values / size**0.5
        return torch.linalg.qr(values).Q

    def factors(self) -> list[Float[Tensor, "D D"]]:
        """Return the matrices ``[D, D]`` that are exactly or approximately orthogonal."""
        raw: list[Tensor] = [self.left] if self.kind == "orthogonal" else [self.left, self.right]
        return [FACTORS[self.kind](values) for values in raw] if self.kind in FACTORS else raw

    def matrix(self) -> Float[Tensor, "D D"]:
        """Return W ``[D, D]``."""
        left, *right = self.factors()
        return (left * self.log_scale.exp()) @ right[0].T if right else left

    def log_det(self) -> Float[Tensor, ""]:
        """Return ``log |det W|`` for orthogonal factors."""
        return self.bias.new_zeros(()) if self.kind == "orthogonal" else self.log_scale.sum()

    def penalty(self) -> Float[Tensor, ""]:
        """Return ``sqrt(D) |I - Q'Q|`` (Frobenius norm), summed over factors that are not exactly orthogonal.

        To first order, half of it bounds the error of `log_det`. Without the square root, the approximate likelihood
        would gain more from shrinking the factors than the penalty costs.
        """
        if self.kind in FACTORS:
            return self.bias.new_zeros(())
        eye = torch.eye(len(self.bias), dtype=self.bias.dtype, device=self.bias.device)
        norms = [torch.linalg.matrix_norm(eye - factor.T @ factor) for factor in self.factors()]
        return len(self.bias) ** 0.5 * torch.stack(norms).sum()

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` towards the base, with log-determinants ``[B]``.

        The determinant is that of orthogonal factors in training, and exact in evaluation.
        """
        matrix = self.matrix()
        exact = not self.training and self.kind not in FACTORS
        log_det = torch.linalg.slogdet(matrix).logabsdet if exact else self.log_det()
        return rows @ matrix.T + self.bias, log_det.expand(rows.shape[0])

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` back, by transposes if the factors are exactly orthogonal."""
        offset = latent - self.bias
        if self.kind in FACTORS:
            left, right = self.factors()
            return (offset @ left * (-self.log_scale).exp()) @ right.T
        return torch.linalg.solve(self.matrix(), offset.T).T


class LeakyRectifier(nn.Module):
    """Leaky ReLU with a learned positive slope for each feature, initially 1.

    (The range of an ELU has a lower bound of -1, so densities would not integrate to one.)
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_slope = nn.Parameter(torch.zeros(size))

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` towards the base, with log-determinants ``[B]``."""
        return self._apply_slope(rows, self.log_slope), (rows < 0).to(rows) @ self.log_slope

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` back."""
        return self._apply_slope(latent, -self.log_slope)

    def _apply_slope(self, rows: Float[Tensor, "B D"], log_slope: Float[Tensor, "D"]) -> Float[Tensor, "B D"]:
        return torch.where(rows < 0, rows * log_slope.exp(), rows)


class ApproximateFlow(FlowDensity):
    """Dense layers with leaky rectifiers between them.

    Parameters
    ----------
    size, layers : int
        Number of features and dense layers.
    kind : str
        One of :data:`KINDS`.
    generator : torch.Generator, optional
        Generator of the initial weights.

    References
    ----------
    Gresele et al., Relative gradient optimization of the Jacobian term in unsupervised deep learning, NeurIPS 2020
    (dense layers); Zhang et al., Stabilizing Gradients for Deep Neural Networks via Efficient SVD
    Parameterization, ICML 2018 (Householder factors); Xiao and Liu, Generative Flows with Matrix Exponential,
    ICML 2020.
    """

    def __init__(self, size: int, layers: int, kind: str, generator: torch.Generator | None = None) -> None:
        with seeded(generator):
            flows: list[nn.Module] = [DenseLayer(size, kind)]
            for _ in range(layers - 1):
                flows += [LeakyRectifier(size), DenseLayer(size, kind)]
        super().__init__(size, flows)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the sum of the layers' penalties; zero for the kinds without a penalty."""
        return torch.stack([flow.penalty() for flow in self.flows if isinstance(flow, DenseLayer)]).sum()
