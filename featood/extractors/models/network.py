"""A network to train, whole or in two halves, with the modules that a model adds to it."""

from __future__ import annotations

__all__ = ["SplitNet", "TrainableNet", "check_split", "outputs_for"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featood.errors import Mismatch, UsageError
from featood.extractors.backbones.shape import last_layer


class TrainableNet(nn.Module):
    """A network from images to outputs ``[B, C]``, with the modules that a model adds to it.

    Parameters
    ----------
    net : Module
        The network.
    parts : mapping of str to Module
        Modules that a model adds; they are trained with the network.
    outputs : int
        Number of outputs C.
    """

    def __init__(
        self, net: nn.Module, parts: Mapping[str, nn.Module] | None = None, outputs: int = 1
    ) -> None:
        super().__init__()
        self.body, self.outputs = net, outputs
        self.parts = nn.ModuleDict(parts or {})

    @property
    def width(self) -> int:
        """Number of features of the last linear layer; 0 without one."""
        return 0

    def forward(self, images: Tensor) -> Tensor:
        """Map images to outputs."""
        return self.body(images)

    def logits_net(self) -> nn.Module:
        """Return the network without the parts; it shares all weights."""
        return self.body

    def named_tensors(self) -> dict[str, Tensor]:
        """Return all tensors: those of the network under its own names, those of the parts after ``parts.``."""
        return {self._outside(name): value for name, value in self.state_dict().items()}

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Return the parameters under the names of `named_tensors`."""
        return {self._outside(name): value for name, value in self.named_parameters()}

    def load_named(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `named_tensors` returned.

        Raises
        ------
        Mismatch
            If names or shapes differ.
        """
        own = {self._outside(name): name for name in self.state_dict()}
        if differing := sorted(own.keys() ^ tensors.keys()):
            raise Mismatch(f"the weights do not fit the network: {', '.join(differing[:5])}")
        try:
            self.load_state_dict({own[name]: value for name, value in tensors.items()})
        except RuntimeError as error:
            raise Mismatch(f"the weights do not fit the network: {' '.join(str(error).split())}") from None

    def whole(self, shown: Sequence[str] = (), logits: str = "", density: str = "") -> nn.Module:
        """Return the original network to extract with, in which modules have their own names. Call it last.

        Parameters
        ----------
        shown : sequence of str
            Parts that also run on the features, as submodules whose outputs can be tapped under their names.
        logits : str
            Part whose outputs are the logits, instead of the last layer's.
        density : str
            Column of the logsumexp of the logits, if this is a log-density; see `Model.density_column`.
        """
        if density:
            self.body.density_column = density  # type: ignore[assignment]
        return self.body

    def _outside(self, name: str) -> str:
        return name.removeprefix("body.")


class SplitNet(TrainableNet):
    """A network as ``features``, from images to rows ``[B, D]``, and ``classify``, from rows to logits ``[B, C]``.

    Parameters
    ----------
    net : Module
        A classifier that ends in a linear layer, which is taken out of it.
    parts : mapping of str to Module
        Modules that a model adds; they are trained with the network.

    Raises
    ------
    UsageError
        If the network does not end in a linear layer.
    """

    def __init__(self, net: nn.Module, parts: Mapping[str, nn.Module] | None = None) -> None:
        name = "".join(last_layer(net))
        last = net.get_submodule(name) if name else None
        if not isinstance(last, nn.Linear):
            raise UsageError(
                f"{type(net).__name__} does not end in a linear layer, so it cannot be trained here"
            )
        super().__init__(net, parts, last.out_features)
        net.set_submodule(name, nn.Identity())
        self.last: nn.Linear = last
        self._place = name

    @property
    def width(self) -> int:
        """Number of features."""
        return self.last.in_features

    def features(self, images: Tensor) -> Tensor:
        """Map images ``[B, ...]`` to features ``[B, D]``."""
        return self.body(images)

    def classify(self, features: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, C]``."""
        return self.last(features)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to logits."""
        return self.classify(self.features(images))

    def logits_net(self) -> nn.Module:
        """Return the network without the parts; it shares all weights."""
        return nn.Sequential(self.body, self.last)

    def whole(self, shown: Sequence[str] = (), logits: str = "", density: str = "") -> nn.Module:
        """Return the original network to extract with; see :meth:`TrainableNet.whole`."""
        last = self.parts[logits] if logits else self.last
        self.body.set_submodule(self._place, last)
        parts = [self.parts[name] for name in shown]
        for name, part in zip(shown, parts, strict=True):
            self.body.add_module(name, part)

        def run(_: nn.Module, features: tuple[Tensor]) -> None:
            for part in parts:
                part(*features)

        if parts:
            last.register_forward_pre_hook(run)
        if logits:  # declares that the outputs are classes
            self.body.num_classes = self.last.out_features  # type: ignore[assignment]
        return super().whole(density=density)

    def _outside(self, name: str) -> str:
        if name.startswith("last."):
            return f"{self._place}.{name.removeprefix('last.')}"
        return super()._outside(name)


@torch.no_grad()
def outputs_for(net: Callable[[Tensor], Any], images: Tensor) -> Any:
    """Return what a network returns for images, to check that it can take them.

    Raises
    ------
    UsageError
        If it cannot.
    """
    try:
        return net(images)
    except RuntimeError as error:
        height, width = images.shape[2:]
        raise UsageError(
            f"the network cannot take images of {height} x {width} pixels; choose another --image-size "
            f"({' '.join(str(error).split())})"
        ) from None


@torch.no_grad()
def check_split(net: SplitNet, images: Tensor) -> None:
    """Check that the network's output is that of its last linear layer, on some images.

    Raises
    ------
    UsageError
        If the network cannot take such images, or the features are not rows ``[B, D]`` that the last layer takes.
    """
    was = net.training
    features = outputs_for(net.eval().features, images)
    net.train(was)
    if not isinstance(features, Tensor) or features.shape != (len(images), net.width):
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UsageError(
            f"the network's last linear layer takes {net.width} features, but what follows it changes them "
            f"({found}); train another architecture"
        )
