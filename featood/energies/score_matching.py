"""Sliced score matching, which fits the gradient of the log-density without sampling."""

from __future__ import annotations

__all__ = [
    "PROJECTIONS", "ScoreMatchingObjective", "SupervisedScoreMatchingObjective", "sliced_score_matching",
    "warn_if_piecewise_linear",
]  # fmt: skip

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.classifier import classification_loss, free_energy
from featood.energies.objective import EnergyObjective
from featood.energies.perturbation import perturb
from featood.energies.sgld import Energy
from featood.options import option

PROJECTIONS = ("gaussian", "rademacher", "sphere")


def sliced_score_matching(
    energy: Energy,
    rows: Float[Tensor, "B ..."],
    generator: torch.Generator,
    *,
    projections: int = 1,
    variance_reduced: bool = True,
    projection: str = "gaussian",
) -> Float[Tensor, ""]:
    """Return ``mean (1/2) |dE/dx|^2 - v' (d2E/dx2) v`` over random directions v.

    For directions with ``E v v' = I``, its expectation is the score-matching loss ``(1/2) |s|^2 + tr ds/dx`` of the
    score ``s = -dE/dx``. The second derivatives must not vanish; see :func:`warn_if_piecewise_linear`.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``, twice differentiable; each output must depend only on its own input.
    rows : Tensor
        Data ``[B, ...]``.
    generator : torch.Generator
        Generator of the directions.
    projections : int
        Number of directions per row.
    variance_reduced : bool
        If False, the first term is ``(1/2) (v' dE/dx)^2``, the basic form of the paper.
    projection : str
        ``gaussian``, ``rademacher`` (signs), or ``sphere`` (radius ``sqrt(D)``).

    Returns
    -------
    Tensor
        Scalar, differentiable in the parameters of the energy.

    References
    ----------
    Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI 2019.
    """
    rows = rows.detach().repeat_interleave(projections, 0).requires_grad_(True)
    v = torch.randn(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype).to(rows)
    if projection == "rademacher":
        v = v.sign()
    elif projection == "sphere":
        v = v * (v[0].numel() ** 0.5 / v.flatten(1).norm(dim=1)).reshape(-1, *[1] * (v.ndim - 1))
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(energy(rows).sum(), rows, create_graph=True)
        along = (gradient * v).flatten(1).sum(1)
        (curvature,) = torch.autograd.grad(along.sum(), rows, create_graph=True)
        squared = gradient.square().flatten(1).sum(1) if variance_reduced else along.square()
        return (0.5 * squared - (curvature * v).flatten(1).sum(1)).mean()


def warn_if_piecewise_linear(model: nn.Module) -> None:
    """Warn if a network has (leaky) ReLUs, whose second derivatives vanish almost everywhere.

    Warns
    -----
    UserWarning
        Score matching then only shrinks the gradients, and does not lower the energy of the data.
    """
    kinds = {
        type(module).__name__ for module in model.modules() if isinstance(module, nn.ReLU | nn.LeakyReLU)
    }
    if kinds:
        warnings.warn(
            f"score matching needs second derivatives, but those of {', '.join(sorted(kinds))} are zero: "
            "the energy will be close to constant; use a smooth activation (silu, softplus, tanh)",
            stacklevel=2,
        )


@dataclasses.dataclass(kw_only=True, eq=False)
class ScoreMatchingObjective(EnergyObjective):
    """Learn an energy by sliced score matching, of inputs with a little noise."""

    projections: int = option(1, "random directions per input", low=1)
    projection: str = option("gaussian", "distribution of the directions", choices=PROJECTIONS)
    variance_reduced: bool = option(True, "use the full squared gradient norm instead of its projections")
    data_noise: float = option(
        0.2, "standard deviation of the normal noise added to the inputs in training", low=0
    )

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the score-matching loss."""
        if self.data_noise:
            rows = perturb(rows, generator, spread=self.data_noise)
        loss = sliced_score_matching(
            free_energy(net),
            rows,
            generator,
            projections=self.projections,
            variance_reduced=self.variance_reduced,
            projection=self.projection,
        )
        return {"loss": loss}


@dataclasses.dataclass(kw_only=True, eq=False)
class SupervisedScoreMatchingObjective(ScoreMatchingObjective):
    """Learn a classifier, and its free energy by sliced score matching."""

    supervised: ClassVar[bool] = True

    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the score-matching and classification losses."""
        matching = super().energy_losses(net, parts, rows, labels, generator)["loss"]
        named = classification_loss(net, rows, labels)
        return {"loss": matching + self.classification * named, "classification": named}
