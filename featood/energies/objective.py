"""Base of the ways to learn an energy, which heads on features and models of images share."""

from __future__ import annotations

__all__ = ["EnergyObjective"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclasses.dataclass(kw_only=True, eq=False)
class EnergyObjective:
    """A way to learn an energy of inputs of any shape; its fields are options.

    The energy is the free energy of the logits of a network, with one logit, or one for each class.
    """

    supervised: ClassVar[bool] = False
    """Whether it learns a classifier, with one logit for each class."""
    transient: ClassVar[tuple[str, ...]] = ()
    """Added modules that are needed in training only, such as chains."""

    def outputs(self, classes: int) -> int:
        """Return the number of logits: 1, unless it learns a classifier."""
        return classes if self.supervised else 1

    def energy_parts(
        self, shape: tuple[int, ...], classes: int, generator: torch.Generator
    ) -> dict[str, nn.Module]:
        """Return the modules that it adds to the network, by name.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.
        classes : int
            Number of classes of the labels.
        generator : torch.Generator
            Generator of initial values.
        """
        return {}

    def start_parts(
        self,
        parts: Mapping[str, Any],
        batches: Iterable[tuple[Tensor, Tensor]],
        generator: torch.Generator,
    ) -> None:
        """Set what in the added modules depends on the training inputs, before the first update.

        Parameters
        ----------
        parts : mapping of str to Module
            What `energy_parts` returned.
        batches : iterable
            Inputs ``[B, ...]`` and their classes ``[B]``, once.
        generator : torch.Generator
            Generator of all random draws.
        """

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the scalars of a batch by name; ``loss`` is minimised.

        Parameters
        ----------
        net : Module
            From inputs ``[B, ...]`` to logits ``[B, C]``.
        parts : mapping of str to Module
            What `energy_parts` returned.
        rows, labels : Tensor
            Inputs ``[B, ...]`` and their classes ``[B]``.
        generator : torch.Generator
            Generator of all random draws.
        """
        raise NotImplementedError
