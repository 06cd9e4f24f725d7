"""Recording the inputs and outputs of all modules in one forward pass, and running it again with replacements."""

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
    """The input or the output of a named module, in its last call."""

    module: str
    side: str
    """``input`` or ``output``."""


OUTPUT = Place("", "output")
"""The output of the network."""


class Event(NamedTuple):
    """A tensor at a place."""

    place: Place
    value: Tensor


@dataclasses.dataclass(frozen=True)
class Trace:
    """All inputs and outputs of modules in a forward pass, in order; the last call of each module."""

    module: nn.Module
    images: Tensor
    events: list[Event]
    values: Mapping[Place, Tensor]
    """The tensor at each place."""
    several: frozenset[Place]
    """Places with more than a single tensor, such as a tuple."""
    calls: Mapping[str, int]
    returned: Any
    """What the network returned, unchanged."""

    def layer(self, event: Event) -> nn.Module:
        """Return the module of an event."""
        return self.module.get_submodule(event.place.module)

    def makers(self) -> list[nn.Module]:
        """List the network, and the modules in it that returned the same tensor, such as a wrapped network."""
        inner = [self.layer(event) for event in reversed(self.events) if event.value is self.returned]
        return [self.module, *inner]

    def index(self, place: Place) -> int:
        """Return the index of the event at a place."""
        return next(index for index, event in enumerate(self.events) if event.place == place)


def first_tensor(value: Any) -> Tensor | None:
    """Return a tensor unchanged, the first tensor of a tuple, list or mapping, or None."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        value = next((part for part in value if isinstance(part, Tensor)), None)
    return value if isinstance(value, Tensor) else None


def noise_like(images: Tensor) -> Tensor:
    """Return fixed noise with the shape of some images ``[B, C, H, W]``, of increasing variance from row to row.

    Inputs that are not floating-point, such as token numbers, stay unchanged.
    """
    if not images.is_floating_point():
        return images
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noise *= torch.arange(1, len(images) + 1).view(-1, *[1] * (images.ndim - 1)).sqrt()
    return torch.empty_like(images).copy_(noise)


def trace_forward(module: nn.Module, images: Tensor) -> Trace:
    """Record the tensor input and output of every module in a forward pass, in order.

    Raises
    ------
    UsageError
        If the network does not accept the images.
    """
    events: list[Event] = []
    calls: Counter[str] = Counter()
    several: set[Place] = set()
    with contextlib.ExitStack() as hooks:
        for name, layer in module.named_modules():
            if isinstance(layer, torch.jit.ScriptModule):
                continue  # these do not support hooks, so only their outputs are known

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
                f"the backbone does not accept images {list(images.shape[1:])}: {reason}"
            ) from None
    last: dict[Place, int] = {event.place: index for index, event in enumerate(events)}
    events = [
        event for index, event in enumerate(events) if last[event.place] == index and event.place.module
    ]
    return Trace(module, images, events, dict(events), frozenset(several), calls, returned)


def rerun(trace: Trace, replace: Mapping[Place, Tensor], grad: bool = False) -> Any:
    """Run the forward pass again with the tensors at some places replaced, and return the output of the network.

    With `grad`, gradients are recorded from the first replacement on.
    """
    left = Counter({place: trace.calls[place.module] for place in replace})

    def swap(place: Place, value: Any) -> Tensor | None:
        left[place] -= 1
        if left[place] or not isinstance(value, Tensor):
            return None
        torch.set_grad_enabled(grad)  # gradients are needed only after the first place
        return replace[place].clone()  # later operations may be in-place

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
    """Context manager of a mapping from places to their tensors in the most recent forward pass."""
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
