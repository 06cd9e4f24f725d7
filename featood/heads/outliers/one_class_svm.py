"""One-class support vector machine."""

from __future__ import annotations

__all__ = ["OneClassSVM"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks
from featood.heads.registry import register
from featood.numerics.gaussian import squared_distances
from featood.options import option

TOLERANCE = 1e-6
"""Of the solution, a thousandth of scikit-learn's default, so that rounding of the kernel does not show."""


@register(
    "one-class-svm",
    title="One-class support vector machine",
    paper="Schölkopf et al., Estimating the Support of a High-Dimensional Distribution, Neural Computation",
    year=2001,
    url="https://doi.org/10.1162/089976601750264965",
    needs=("features",),
)
class OneClassSVM(FeatureHead):
    """Score ``rho - sum_i a_i exp(-gamma ||z - z_i||^2)`` over the support vectors z_i.

    The score is above 0 outside the region that contains all but a share `nu` of the training rows. Far from all
    support vectors it is rho, whatever the distance. Training time grows with the square of `rows`.
    """

    nu: float = option(0.5, "share of the training rows that may lie outside", low=1e-6, high=1)
    gamma: float = option(0.0, "inverse squared width of the kernel; 0 for 1 / (D times the variance)", low=0)
    rows: int = option(5_000, "number of training rows to use, drawn at random", low=1)
    seed: int = option(0, "seed of the draw", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Find the support vectors."""
        from sklearn import svm

        rows = torch.cat(
            [self.vectors(block) for block in sampled_blocks(train, self.rows, self.seed)]
        ).double()
        center = rows.mean(0)
        rows = rows - center
        variance = float(rows.var(correction=0))
        gamma = self.gamma or 1 / (rows.shape[1] * (variance or 1.0))
        # libsvm would compute each entry of the kernel alone
        kernel = (-gamma * squared_distances(rows, rows)).exp()
        machine = svm.OneClassSVM(nu=self.nu, kernel="precomputed", tol=TOLERANCE).fit(kernel.cpu().numpy())
        return {
            "center": center,
            "vectors": rows[torch.from_numpy(machine.support_).long()].float(),
            "weights": torch.from_numpy(machine.dual_coef_[0].copy()),
            "offset": torch.tensor(float(machine.offset_[0]), dtype=torch.float64),
            "gamma": torch.tensor(gamma, dtype=torch.float64),
        }

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return minus the decision function ``[B]``."""
        device = block.feature(self.feature)[:].device
        fitted = {name: values.to(device) for name, values in fitted.items()}
        rows = self.vectors(block).double() - fitted["center"]
        kernel = (-fitted["gamma"] * squared_distances(rows, fitted["vectors"])).exp()
        return fitted["offset"] - kernel @ fitted["weights"]
