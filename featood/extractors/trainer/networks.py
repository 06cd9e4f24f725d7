"""The network of a training: an architecture in two halves, or a model's own network."""

from __future__ import annotations

__all__ = ["MakeNet", "drop_parts", "trainable_net"]

from collections.abc import Callable, Iterable

import torch
from torch import nn

from featood.extractors.inputs import InputTransform
from featood.extractors.models.model import Model, Setup
from featood.extractors.models.network import SplitNet, TrainableNet
from featood.extractors.transform import Transform

MakeNet = Callable[[int, int, torch.Generator], nn.Module]
"""From the numbers of classes and of channels, or tokens, and a generator to a network."""


def trainable_net(
    model: Model,
    make: MakeNet,
    classes: int,
    transform: InputTransform,
    seed: int = 0,
    initial: Callable[[nn.Module], object] | None = None,
    outputs: int = 0,
) -> TrainableNet:
    """Return an untrained network with the parts of a model.

    Parameters
    ----------
    model : Model
        It adds parts, or makes the network.
    make : callable
        Makes the network of other models.
    classes : int
        Number of classes of the labels.
    transform : InputTransform
        Of the images, or texts.
    seed : int
        Of the initial weights.
    initial : callable, optional
        Loads weights into the network.
    outputs : int
        Number of the network's logits, if it is not the model's for these classes.
    """
    setup = Setup(classes, 0)
    if isinstance(transform, Transform):
        setup = Setup(classes, 0, transform.shape, transform.mean, transform.std)
    with torch.random.fork_rng(devices=[]):
        if model.own_network:
            torch.default_generator.manual_seed(seed)
            made = model.network(setup)
        else:
            generator = torch.Generator().manual_seed(seed)
            made = make(outputs or model.outputs(classes), transform.channels, generator)
        if initial is not None:
            initial(made)
        outputs = outputs or model.outputs(classes)
        torch.default_generator.manual_seed(seed)
        whole = made if model.own_network else model.around(made, setup)
        net = SplitNet(made) if whole is None else TrainableNet(whole, outputs=outputs)
        net.parts.update(model.parts(setup._replace(width=net.width)))
    return net


def drop_parts(net: TrainableNet, names: Iterable[str]) -> None:
    """Remove parts of a network, if it has them."""
    for name in names:
        if name in net.parts:
            del net.parts[name]
