"""Flow-contrastive estimation."""

from __future__ import annotations

__all__ = ["FlowContrastive"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import FlowContrastiveObjective, importance_likelihood
from featood.flows import glow
from featood.heads.energies._energy_head import EnergyHead
from featood.heads.registry import register
from featood.options import option

FLOW_DEPTH = 2


@register(
    "flow-nce",
    title="Energy by flow-contrastive estimation",
    paper="Gao et al., Flow Contrastive Estimation of Energy-Based Models, CVPR",
    year=2020,
    url="https://arxiv.org/abs/1912.00589",
    needs=("features",),
)
class FlowContrastive(FlowContrastiveObjective, EnergyHead):
    """Score the energy of a network trained to distinguish the features from samples of a jointly trained flow.

    Each step updates one of the two: the flow after a batch on which the energy was more accurate than `threshold`,
    otherwise the energy. The validation loss is the negative log-likelihood of held-out rows, with the normalising
    constant estimated from the flow's samples.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        **EnergyHead.testing_options,
        "epochs": 6,
        "lr": 1e-2,
        "flow_lr": 1e-2,
        "flow_layers": 2,
    }

    which: str = option("energy", "the energy, or the flow's -log q", choices=("energy", "flow"))
    flow_lr: float = option(1e-3, "initial learning rate of the flow", low=0)
    flow_layers: int = option(4, "steps of the flow (a Glow), with networks as wide as the energy's", low=1)

    def make_flow(self, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Return a Glow, with networks as wide as the energy's."""
        return glow(shape[0], self.flow_layers, [self.width] * FLOW_DEPTH, generator=generator)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Give energy and flow a learning rate each."""
        net: Any = model.net
        flow: Any = model.flow
        groups = [{"params": net.parameters()}, {"params": flow.parameters(), "lr": self.flow_lr}]
        return torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the negative log-likelihood of the held-out rows under the energy."""
        return importance_likelihood(model.energy, rows, model.flow, generator)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        return model.energy(rows) if self.which == "energy" else -model.flow.log_density(rows)
