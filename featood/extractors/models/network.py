"""A network in two halves, with the modules that a model adds to it."""

from __future__ import annotations

__all__ = ["SplitNet", "check_split"]

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from featood.errors import Mismatch, UsageError
from featood.extractors.backbones.shape import last_layer


class SplitNet(nn.Module):
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
        super().__init__()
        name = "".join(last_layer(net))
        last = net.get_submodule(name) if name else None
        if not isinstance(last, nn.Linear):
            raise UsageError(
                f"{type(net).__name__} does not end in a linear layer, so it cannot be trained here"
            )
        self.last: nn.Linear = last
        self._place = name
        net.set_submodule(name, nn.Identity())
        self.body = net
        self.parts = nn.ModuleDict(parts or {})

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

    def whole(self, shown: Sequence[str] = (), logits: str = "") -> nn.Module:
        """Return the network to extract with: the original one, or one that also runs some parts. Call it last.

        Parameters
        ----------
        shown : sequence of str
            Parts to run, so that their outputs can be tapped.
        logits : str
            Part whose outputs are the logits, instead of the last layer's.
        """
        if shown or logits:
            return _Branched(self, shown, logits)
        self.body.set_submodule(self._place, self.last)
        return self.body

    def _outside(self, name: str) -> str:
        if name.startswith("body."):
            return name.removeprefix("body.")
        return f"{self._place}.{name.removeprefix('last.')}" if name.startswith("last.") else name


class _Branched(nn.Module):
    """A network that passes its features through parts too, whose outputs can be tapped under their names."""

    def __init__(self, net: SplitNet, shown: Sequence[str], logits: str) -> None:
        super().__init__()
        self.body = net.body
        self.last = net.parts[logits] if logits else net.last
        self._shown = tuple(shown)
        for name in shown:
            self.add_module(name, net.parts[name])
        if logits:
            self.num_classes = net.last.out_features  # declares that the outputs are logits

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        for name in self._shown:
            self.get_submodule(name)(features)
        return self.last(features)


@torch.no_grad()
def check_split(net: SplitNet, images: Tensor) -> None:
    """Check that the network's output is that of its last linear layer, on some images.

    Raises
    ------
    UsageError
        If the network cannot take such images, or the features are not rows ``[B, D]`` that the last layer takes.
    """
    was = net.training
    try:
        features = net.eval().features(images)
    except RuntimeError as error:
        height, width = images.shape[2:]
        raise UsageError(
            f"the network cannot take images of {height} x {width} pixels; choose another --image-size "
            f"({' '.join(str(error).split())})"
        ) from None
    net.train(was)
    if not isinstance(features, Tensor) or features.shape != (len(images), net.width):
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UsageError(
            f"the network's last linear layer takes {net.width} features, but what follows it changes them "
            f"({found}); train another architecture"
        )
