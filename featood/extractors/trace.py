"""One forward pass, looked at: what every module takes and gives, and what comes of it when that is replaced."""

from __future__ import annotations

__all__ = [
    "OUTPUT", "Event", "Place", "Trace", "first_tensor", "noise_like", "recording", "rerun", "trace_forward",
]  # fmt: skip

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from featood.errors import UsageError


class Place(NamedTuple):
    """The input or the output of a named module, in the last call of it."""

    module: str
    side: str
    """``input`` or ``output``."""


OUTPUT = Place("", "output")
"""What the network returns."""


class Event(NamedTuple):
    """What passed a place."""

    place: Place
    value: Tensor


@dataclasses.dataclass(frozen=True)
class Trace:
    """All that passed in a forward pass, in order; of a module that is called several times, the last call."""

    module: nn.Module
    images: Tensor
    events: list[Event]
    values: Mapping[Place, Tensor]
    """What passed, by place."""
    several: frozenset[Place]
    """Places that were passed by more than a tensor: a tuple, or the like."""
    calls: Mapping[str, int]
    returned: Any
    """What the network returned, as it is."""

    def layer(self, event: Event) -> nn.Module:
        """Return the module at whose input or output an event was."""
        return self.module.get_submodule(event.place.module)

    def makers(self) -> list[nn.Module]:
        """List the network, and the modules in it that made what it returned: a wrapped network is one."""
        inner = [self.layer(event) for event in reversed(self.events) if event.value is self.returned]
        return [self.module, *inner]

    def index(self, place: Place) -> int:
        """Return where in the order of events a place was passed."""
        return next(index for index, event in enumerate(self.events) if event.place == place)


def first_tensor(value: Any) -> Tensor | None:
    """Return a tensor as it is, the first tensor of a tuple, list or mapping, and else None."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        value = next((part for part in value if isinstance(part, Tensor)), None)
    return value if isinstance(value, Tensor) else None


def noise_like(images: Tensor) -> Tensor:
    """Return fixed noise of the shape of some images ``[B, C, H, W]``, each row stronger than the one before.

    Inputs that are not floating-point, such as numbers of words, stay what they are.
    """
    if not images.is_floating_point():
        return images
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noise *= torch.arange(1, len(images) + 1).view(-1, *[1] * (images.ndim - 1)).sqrt()
    return torch.empty_like(images).copy_(noise)


def trace_forward(module: nn.Module, images: Tensor) -> Trace:
    """Record every module's tensor input and output in the order of a forward pass.

    Raises
    ------
    UsageError
        When the network does not take the images.
    """
    events: list[Event] = []
    calls: Counter[str] = Counter()
    several: set[Place] = set()
    with contextlib.ExitStack() as hooks:
        for name, layer in module.named_modules():
            if isinstance(layer, torch.jit.ScriptModule):
                continue  # these take no hooks: such a network is known by its outputs alone

            def before(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                calls[name] += 1
                if inputs and isinstance(inputs[0], Tensor):
                    events.append(Event(Place(name, "input"), inputs[0]))

            def after(_: nn.Module, __: tuple[Any, ...], output: Any, name: str = name) -> None:
                value = first_tensor(output)
                if value is not output:
                    several.add(Place(name, "output"))
                if value is not None:
                    events.append(Event(Place(name, "output"), value))

            hooks.callback(layer.register_forward_pre_hook(before).remove)
            hooks.callback(layer.register_forward_hook(after).remove)
        try:
            with torch.no_grad():
                returned = module(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # third-party code may raise anything
            reason = str(error).split("\n")[0][:160] or type(error).__name__
            raise UsageError(
                f"the backbone does not take images {list(images.shape[1:])}: {reason}"
            ) from None
    last: dict[Place, int] = {event.place: index for index, event in enumerate(events)}
    events = [
        event for index, event in enumerate(events) if last[event.place] == index and event.place.module
    ]
    return Trace(module, images, events, dict(events), frozenset(several), calls, returned)


def rerun(trace: Trace, replace: Mapping[Place, Tensor], grad: bool = False) -> Any:
    """Run the forward pass again with what passes some places replaced, and return what the network returns.

    With `grad`, gradients are recorded from the first replacement on.
    """
    left = Counter({place: trace.calls[place.module] for place in replace})

    def swap(place: Place, value: Any) -> Tensor | None:
        left[place] -= 1
        if left[place] or not isinstance(value, Tensor):
            return None
        torch.set_grad_enabled(grad)  # only what comes after the first place is of interest
        return replace[place].clone()  # what comes after may write into it

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for place in replace:
            layer = trace.module.get_submodule(place.module)
            if place.side == "input":

                def before(
                    _: nn.Module, inputs: tuple[Any, ...], place: Place = place
                ) -> tuple[Any, ...] | None:
                    value = swap(place, inputs[0] if inputs else None)
                    return None if value is None else (value, *inputs[1:])

                hooks.callback(layer.register_forward_pre_hook(before).remove)
            else:

                def after(
                    _: nn.Module, __: tuple[Any, ...], output: Any, place: Place = place
                ) -> Tensor | None:
                    return swap(place, output)

                hooks.callback(layer.register_forward_hook(after).remove)
        return trace.module(trace.images)


@contextlib.contextmanager
def recording(module: nn.Module, places: set[Place]) -> Iterator[dict[Place, Tensor]]:
    """Attach hooks, yield what passes the places in the newest forward pass, and detach them."""
    seen: dict[Place, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for place in places - {OUTPUT}:
            layer = module.get_submodule(place.module)
            if place.side == "input":

                def before(_: nn.Module, inputs: tuple[Any, ...], place: Place = place) -> None:
                    seen[place] = inputs[0]

                hooks.callback(layer.register_forward_pre_hook(before).remove)
            else:

                def after(_: nn.Module, __: tuple[Any, ...], output: Any, place: Place = place) -> None:
                    value = first_tensor(output)
                    assert value is not None
                    seen[place] = value

                hooks.callback(layer.register_forward_hook(after).remove)
        yield seen
