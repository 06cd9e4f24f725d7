"""Dense features: the input of a segmentation network's classifier, or tapped maps, as a vector for each pixel."""

from __future__ import annotations

__all__ = ["LOGITS", "DenseForward", "DensePlan", "image_maps", "plan_dense", "stored_type"]

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featood.cache.feature_set import Classifier
from featood.data import ImageSet
from featood.errors import UsageError
from featood.extractors.columns import Tap
from featood.extractors.layout import Layout
from featood.extractors.pooling import positions_of
from featood.extractors.taps import stage_tap
from featood.extractors.trace import Event, Trace, first_tensor, noise_like, recording, trace_forward
from featood.extractors.transform import Transform

LOGITS = "logits"
RESIZE: Mapping[str, Mapping[str, Any]] = {
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear-corners": {"mode": "bilinear", "align_corners": True},
    "nearest": {"mode": "nearest"},
}
"""Ways in which networks resize their outputs; all weight pixels by numbers that sum to one."""


@dataclasses.dataclass(frozen=True)
class DensePlan:
    """What to record in a forward pass, and how to compute a vector for each pixel or patch."""

    main: str
    """Name of the column of features."""
    taps: tuple[Tap, ...]
    """Maps that are resized to the grid and joined."""
    grid: tuple[int, int]
    """Rows and columns of pixels or patches."""
    resize: str
    """A key of `RESIZE`."""
    window: int = 1
    """Side of the square over which tapped maps are averaged at each position."""
    logits: bool = False
    """Whether the network's outputs are stored as logits."""
    layer: str = ""
    """The layer that computes them from the vector of each pixel; empty if there is none."""
    note: str = ""
    """A note for the user; usually empty."""

    def as_json(self) -> dict[str, Any]:
        """Return what determines the values, given the network and its input."""
        taps = [[*tap.place, tap.layout.channels, tap.layout.prefix] for tap in self.taps]
        return {"taps": taps, "grid": list(self.grid), "resize": self.resize, "window": self.window}

    def classifier(self, module: nn.Module) -> Classifier | None:
        """Return weight ``[C, D]`` and bias ``[C]`` from a vector to its logits; None if there is none."""
        if not self.layer:
            return None
        weight, bias = _tensors(module.get_submodule(self.layer))
        return Classifier(weight.float().cpu().numpy(), bias.float().cpu().numpy())


class DenseForward:
    """A network in evaluation mode as a function from images to maps of features and logits.

    Parameters
    ----------
    module : Module
        The network, on the device of its inputs.
    plan : DensePlan
        See :func:`plan_dense`.
    """

    def __init__(self, module: nn.Module, plan: DensePlan) -> None:
        self.module, self.plan = module, plan

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the columns ``[B, h, w, D]`` of images ``[B, C, H, W]``, in float32."""
        plan = self.plan
        with recording(self.module, {tap.place for tap in plan.taps}) as seen:
            returned = self.module(images)
        maps = [_averaged(_as_map(seen[tap.place].float(), tap, images), plan.window) for tap in plan.taps]
        joined = torch.cat([_resized(part, plan.grid, plan.resize) for part in maps], 1)
        columns = {plan.main: joined}
        if plan.logits:
            columns[LOGITS] = _output_map(returned).float()
        return {name: values.permute(0, 2, 3, 1) for name, values in columns.items()}


def image_maps(
    forward: DenseForward,
    images: ImageSet,
    transform: Transform,
    batches: Iterable[Sequence[int]],
    dtype: str,
) -> Iterator[tuple[int, dict[str, np.ndarray], tuple[int, ...]]]:
    """Yield the number of each image, its columns ``[h, w, D]`` in the types of the cache, and its shape.

    The maps of one batch are in memory at a time.

    Parameters
    ----------
    forward : DenseForward
        The network.
    images : ImageSet
        The images.
    transform : Transform
        Transform to the input of the network, without a crop.
    batches : iterable of sequences of int
        Numbers of the images of each forward pass.
    dtype : str
        Type of the features; that of the logits is float32.
    """
    device = next(forward.module.parameters()).device
    for batch in batches:
        pixels = [images.read(number) for number in batch]
        found = forward(transform(pixels).to(device))
        for place, number in enumerate(batch):
            maps = {
                name: values[place].cpu().numpy().astype(stored_type(name, dtype))
                for name, values in found.items()
            }
            yield number, maps, pixels[place].shape[:2]
        del found, maps  # before the next forward pass


def stored_type(name: str, dtype: str) -> str:
    """Return the type in which a column of pixels is stored, given that of the features."""
    return "float32" if name == LOGITS else dtype


def plan_dense(module: nn.Module, example: Tensor, taps: Sequence[str] = (), window: int = 3) -> DensePlan:
    """Run one forward pass and decide which maps to record.

    Without `taps`, the network is one for segmentation, with outputs ``[B, C, h, w]``: a tensor, the entry ``out`` as
    in torchvision, or ``logits`` as in transformers. The features are the input of its last layer, resized as the
    network resizes that layer's output to its own. If the layer is a linear function at each pixel, it is the
    classifier of the resized features, too, as resizing is linear; otherwise, there is no classifier, which the note
    says.

    With `taps`, the features are the outputs of these modules, averaged over a window at each position, resized to the
    largest of them and joined, as in PatchCore (Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR
    2022), which also averages groups of channels. There are no logits.

    Parameters
    ----------
    module : Module
        A network in evaluation mode.
    example : Tensor
        A batch of at least two images ``[B, C, H, W]``, of which only the shape matters.
    taps : sequence of str
        Names of submodules whose outputs are maps, or tokens of patches.
    window : int
        Side of the square over which tapped maps are averaged, an odd number; 1 for none.

    Raises
    ------
    UsageError
        If the network does not return maps, its last layer cannot be found, or a tap is no map.
    """
    if window < 1 or window % 2 == 0:
        raise UsageError(f"the window is an odd number of positions, not {window}")
    trace = trace_forward(module, noise_like(example))
    return _of_taps(trace, taps, window) if taps else _of_segmentation(trace)


def _of_taps(trace: Trace, names: Sequence[str], window: int) -> DensePlan:
    taps = tuple(stage_tap(trace, name) for name in names)
    grids = []
    for name, tap in zip(names, taps, strict=True):
        if tap.layout.positions(trace.values[tap.place]) < 2:
            raise UsageError(
                f"'{name}' returns one vector per image, no map; tap a module before the pooling"
            )
        *_, height, width = _as_map(trace.values[tap.place], tap, trace.images).shape
        grids.append((height, width))
    grid = max(grids, key=lambda sides: sides[0] * sides[1])
    return DensePlan("patches", taps, grid, "bilinear", window)


def _of_segmentation(trace: Trace) -> DensePlan:
    output = _output_map(trace.returned)
    grid = (output.shape[2], output.shape[3])
    for event in reversed(trace.events):
        if how := _how_resized(trace, event, output):
            break
    else:
        raise UsageError(
            "the layer that computes the outputs of this network cannot be found; name maps to use by --tap"
        )
    layer, name = trace.layer(event), event.place.module
    tap = Tap(event.place, Layout(3 if isinstance(layer, nn.Linear) else 1))
    if _is_pixelwise(layer):
        return DensePlan("penultimate", (tap,), grid, how, logits=True, layer=name)
    note = f"'{name}' combines pixels, so heads that need weights and biases do not apply"
    return DensePlan("penultimate", (tap,), grid, how, logits=True, note=note)


def _how_resized(trace: Trace, event: Event, output: Tensor) -> str:
    """Return how the output of the layer with this input becomes that of the network; empty if it does not."""
    layer, made = trace.layer(event), trace.values.get(event.place._replace(side="output"))
    if event.place.side != "input" or made is None or made.ndim != 4 or event.value.ndim != 4:
        return ""
    if isinstance(layer, nn.Linear):
        made = made.movedim(3, 1)
    elif not isinstance(layer, nn.Conv2d) or made.shape[2:] != event.value.shape[2:]:
        return ""
    if made.shape[:2] != output.shape[:2]:
        return ""
    fitting = (
        how for how in RESIZE if torch.allclose(_resized(made, output.shape[2:], how), output, 1e-4, 1e-5)
    )
    return next(fitting, "")


def _is_pixelwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def _tensors(layer: Any) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach().flatten(1)
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def _output_map(returned: Any) -> Tensor:
    """Select the outputs ``[B, C, h, w]`` from what a network returned."""
    for name in ("out", "logits"):
        named = returned.get(name) if isinstance(returned, Mapping) else getattr(returned, name, None)
        if isinstance(named, Tensor) and named.ndim == 4:
            return named
    value = first_tensor(returned)
    if value is None or value.ndim != 4 or value.shape[2:].numel() < 2:
        what = f"a tensor {list(value.shape)}" if value is not None else type(returned).__name__
        raise UsageError(
            f"the network returns {what}, not a map [B, C, h, w] as one for segmentation; name modules whose maps to "
            "use by --tap"
        )
    return value


def _as_map(values: Tensor, tap: Tap, images: Tensor) -> Tensor:
    """Return a map, or tokens of patches, as ``[B, D, h, w]``."""
    if values.ndim == 4:
        return values.movedim(tap.layout.channels, 1)
    positions = positions_of(values, tap.layout.channels)[:, tap.layout.prefix :]
    height, width = images.shape[-2:]
    rows = round((positions.shape[1] * height / width) ** 0.5)
    if values.ndim != 3 or not rows or positions.shape[1] % rows:
        raise UsageError(
            f"'{tap.place.module}' gives {list(values.shape)}, whose positions are no grid over the image; tap another "
            "module"
        )
    return positions.mT.unflatten(2, (rows, -1))


def _averaged(values: Tensor, window: int) -> Tensor:
    if window == 1:
        return values
    return functional.avg_pool2d(values, window, 1, window // 2, count_include_pad=False)


def _resized(values: Tensor, grid: Sequence[int], how: str) -> Tensor:
    if tuple(values.shape[2:]) == tuple(grid):
        return values
    return functional.interpolate(values, tuple(grid), **RESIZE[how])
