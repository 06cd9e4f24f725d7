"""Group softmax with a class for the other groups."""

from __future__ import annotations

__all__ = ["MOS", "group_log_probabilities", "grouped"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.registry import register
from featood.losses import class_means
from featood.options import option


class GroupSoftmax(nn.Module):
    """A network with one output for each class, then one for the others of each group; buffers have the groups."""

    groups: Tensor
    """Group of each class ``[C]``."""

    def __init__(self, net: nn.Module, groups: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("groups", groups)

    def forward(self, rows: Tensor) -> Tensor:
        """Return log-probabilities of classes within their group, then of the others ``[B, C + G]``."""
        return group_log_probabilities(self.net(rows).to(rows.dtype), self.groups)


@register(
    "mos",
    title="Minimum others score (MOS)",
    paper="Huang and Li, MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space, CVPR",
    year=2021,
    url="https://arxiv.org/abs/2105.01879",
    needs=("features", "labels"),
)
class MOS(PerceptronHead):
    """Score ``min_g p_g(others)``: the smallest probability, among groups of classes, of belonging to another group.

    Each group has a softmax over its classes and one class for the others, and the loss is the sum of their
    cross-entropies. Groups are those of `assignment`, or clusters of the class means by k-means. The authors train the
    last layer of a network, on groups of a taxonomy or by k-means; so does this head, on cached features. Higher means
    more out-of-distribution.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {"epochs": 15, "batch_size": 64, "lr": 2e-2}

    depth: int = option(0, "hidden layers", low=0)
    groups: int = option(8, "number of clusters, at most one for each class", low=1)
    assignment: tuple[str, ...] = option(
        (), "name of the group of each class that has rows, in the order of the class numbers"
    )

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the network; its groups are those of `assignment`, or are determined in `initialize`."""
        names = list(dict.fromkeys(self.assignment))
        if names and len(self.assignment) != classes:
            raise UsageError(
                f"mos: assignment names the groups of {len(self.assignment)} classes, and {classes} classes have rows"
            )
        count = len(names) or min(self.groups, classes)
        given = [names.index(name) for name in self.assignment] or [0] * classes
        return GroupSoftmax(self.mlp(size, classes + count, generator), torch.tensor(given))

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Cluster the class means, unless groups are given."""
        if not self.assignment:
            means, _ = class_means(rows, labels, len(model.groups))
            count = len(model.net[-1].bias) - len(means)
            model.groups.copy_(grouped(means, count, self.seed))

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the sum of the cross-entropies of the groups."""
        log_p, classes = model(rows), len(model.groups)
        own, others = log_p[:, :classes], log_p[:, classes:]
        elsewhere = others.sum(1) - others.gather(1, model.groups[labels][:, None])[:, 0]
        return {"loss": -(own.gather(1, labels[:, None])[:, 0] + elsewhere).mean()}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the smallest log-probability of the others ``[B]``."""
        return model(rows)[:, len(model.groups) :].amin(1).exp()

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the log-probabilities of the classes within their group ``[B, C]``."""
        return model(rows)[:, : len(model.groups)]


def group_log_probabilities(logits: Tensor, groups: Tensor) -> Tensor:
    """Return log-probabilities ``[B, C + G]`` within groups.

    Parameters
    ----------
    logits : Tensor
        Of C classes, then of the others of each group ``[B, C + G]``.
    groups : Tensor
        Group of each class ``[C]``, from 0 to G - 1.
    """
    count = logits.shape[1] - len(groups)
    owner = torch.cat([groups, torch.arange(count, device=groups.device)])
    index = owner.expand_as(logits)
    # the others have a logit in each group, so no group is empty
    largest = logits[:, len(groups) :].detach().scatter_reduce(1, index, logits.detach(), "amax")
    sums = torch.zeros_like(largest).scatter_add(1, index, (logits - largest[:, owner]).exp())
    return logits - (largest + sums.log())[:, owner]


def grouped(means: Tensor, count: int, seed: int) -> Tensor:
    """Return the group ``[C]`` of each class mean ``[C, D]``: one of `count` clusters by k-means."""
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=10, random_state=seed).fit(means.double().cpu().numpy())
    return torch.as_tensor(found.labels_, dtype=torch.long, device=means.device)
