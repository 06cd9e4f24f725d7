"""Taps: which module outputs become feature columns, found by looking at one forward pass."""

from __future__ import annotations

__all__ = ["POOLS", "Tap", "TapPlan", "plan_taps", "pool"]

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from featood.cache.feature_set import Classifier
from featood.errors import UsageError
from featood.extractors.gram import gram_sums

POOLS = ("avg", "std", "max", "avg_std", "token", "gram")
DEFAULT = ("avg", "std")
MAP = "map"
"""Column of the unpooled last map, and the pooling that makes it."""


def pool(values: Tensor, how: str, channels_last: bool = False) -> Tensor:
    """Pool a feature map ``[B, C, H, W]``, or tokens ``[B, T, C]``, to ``[B, C]`` (``avg_std``: ``[B, 2C]``).

    ``std`` is the unbiased standard deviation over positions; ``token`` takes the first token; ``gram`` gives
    :func:`featood.extractors.gram.gram_sums` ``[B, P * C]``; ``map`` pools nothing: ``[B, C * H * W]``.

    Raises
    ------
    UsageError
        When the map has too few axes or positions for the pooling.
    """
    if values.ndim == 2:
        if how == "avg":
            return values
        raise UsageError(
            f"pooling '{how}' needs a map or tokens; this tap gives plain vectors (use --pool avg)"
        )
    positions = values.flatten(1, -2) if values.ndim == 3 or channels_last else values.flatten(2).mT
    if how == "avg":
        return positions.mean(1)
    if how == "max":
        return positions.amax(1)
    if how == "gram":
        return gram_sums(positions)
    if how == MAP:
        return positions.mT.flatten(1)
    if how == "token":
        if values.ndim != 3:
            raise UsageError(
                "pooling 'token' needs tokens [B, T, C]; this tap gives a map (use avg, std or max)"
            )
        return positions[:, 0]
    if positions.shape[1] < 2:
        raise UsageError(f"pooling '{how}' needs more than one position; this map has one (use --pool avg)")
    std = positions.std(1, unbiased=True)
    return std if how == "std" else torch.cat([positions.mean(1), std], 1)


@dataclasses.dataclass(frozen=True)
class Tap:
    """Where a tensor is taken: at the input or the output of a named module."""

    module: str
    side: str
    """``input`` or ``output``."""
    channels_last: bool = False


@dataclasses.dataclass(frozen=True)
class TapPlan:
    """What to record in a forward pass, and how to make columns of it."""

    columns: dict[str, tuple[Tap, str]]
    """Column name to tap and pooling."""
    main: str
    """The column that feeds the classifier."""
    classifier_module: str
    """Name of the last linear layer; empty where the outputs are no logits of such a layer."""
    map_shape: tuple[int, ...] = ()
    """``(C, H, W)``, or ``(C, T)`` for tokens, of the rows of the column ``map``; empty where there is none."""

    @property
    def has_logits(self) -> bool:
        """Whether the network's output is a column of logits."""
        return bool(self.classifier_module)

    def classifier(self, module: nn.Module) -> Classifier | None:
        """Weight and bias of the last linear layer, as NumPy arrays."""
        if not self.classifier_module:
            return None
        layer = module.get_submodule(self.classifier_module)
        assert isinstance(layer, nn.Linear)
        weight = layer.weight.detach().float().cpu()
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float().cpu()
        return Classifier(weight.numpy(), bias.numpy())

    @contextlib.contextmanager
    def recording(self, module: nn.Module) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
        """Attach the hooks, yield a function from a batch of images to its columns, and detach them."""
        seen: dict[Tap, Tensor] = {}
        handles = []
        for tap in {tap for tap, _ in self.columns.values()}:
            layer = module.get_submodule(tap.module)
            if tap.side == "input":

                def before(_: nn.Module, inputs: tuple, tap: Tap = tap) -> None:
                    seen[tap] = inputs[0]

                handles.append(layer.register_forward_pre_hook(before))
            else:

                def after(_: nn.Module, __: tuple, output: Tensor, tap: Tap = tap) -> None:
                    seen[tap] = output

                handles.append(layer.register_forward_hook(after))

        def run(images: Tensor) -> dict[str, Tensor]:
            output = module(images)
            values = {
                name: pool(seen[tap].float(), how, tap.channels_last)
                for name, (tap, how) in self.columns.items()
            }
            if self.has_logits:
                values["logits"] = output.float()
            seen.clear()
            return values

        try:
            yield run
        finally:
            for handle in handles:
                handle.remove()


def plan_taps(
    module: nn.Module,
    example: Tensor,
    taps: Sequence[str] = (),
    pools: Sequence[str] | None = None,
    maps: bool = False,
) -> TapPlan:
    """Look at one forward pass and decide which columns to record.

    Always among them is the classifier's input, named ``avg`` or ``token`` where it equals that pooling of
    the last map, else ``penultimate``. The poolings of the last map bear the bare names; those of a
    tapped module ``MODULE.POOL``.

    Parameters
    ----------
    module : Module
        In evaluation mode.
    example : Tensor
        A batch of at least two images ``[B, C, H, W]``.
    taps : sequence of str
        Modules whose output to pool as well; a name may be any submodule's.
    pools : sequence of str, optional
        Out of ``avg, std, max, avg_std, token, gram``; by default ``avg``, and ``std`` where the last map has
        more than one position.
    maps : bool
        Add the column ``map``: the last map itself, whose average over positions is the classifier's input.

    Raises
    ------
    UsageError
        When a tap or a pooling does not exist or does not fit; or `maps` is asked of a backbone whose
        classifier takes something else than the average of its last map.
    """
    for how in pools or ():
        if how not in POOLS:
            raise UsageError(f"there is no pooling '{how}'; choose from {', '.join(POOLS)}")
    trace, output = _trace(module, example)
    names = dict(module.named_modules())
    columns: dict[str, tuple[Tap, str]] = {}
    map_shape: tuple[int, ...] = ()
    classifier, penultimate, at = _find_classifier(names, trace, output)
    if classifier:
        last = next((found for found in reversed(trace[:at]) if _is_map(found[1])), None)
        flat = Tap(classifier, "input")
        main = "penultimate"
        if last is not None:
            tap, values = last
            if values.ndim == 4 and values.shape[1] != penultimate.shape[1] == values.shape[3]:
                tap = dataclasses.replace(tap, channels_last=True)
            for how in ("avg", "token") if values.ndim == 3 else ("avg",):
                pooled = pool(values, how, tap.channels_last)
                if pooled.shape == penultimate.shape and torch.allclose(pooled, penultimate, 1e-4, 1e-5):
                    main = how
            columns = {how: (tap, how) for how in pools or DEFAULT if how != main}
            if maps and main == "avg":
                columns[MAP] = (tap, MAP)
                map_shape = _channels_first(values.shape[1:], tap.channels_last)
        columns = {main: (flat, "avg"), **columns}
    else:
        main = "output"
        columns = {main: (Tap("", "output"), "avg")}
    if maps and not map_shape:
        raise UsageError(
            "the classifier of this backbone does not take the average of its last map, so that map is of no use "
            "to heads; leave --maps out"
        )
    for name in taps:
        if name not in names:
            known = [child for child, _ in module.named_children()]
            raise UsageError(f"the backbone has no module '{name}' to tap (its stages: {', '.join(known)})")
        columns |= {f"{name}.{how}": (Tap(name, "output"), how) for how in pools or DEFAULT}
    plan = TapPlan(columns, main, classifier, map_shape)
    with plan.recording(module) as run, torch.inference_mode():
        run(example)  # says now what would fail later
    return plan


def _is_map(values: Tensor) -> bool:
    if values.ndim == 4:  # channels first or last: more than one position either way
        return values[0].numel() > max(values.shape[1], values.shape[3])
    return values.ndim == 3 and values.shape[1] > 1


def _channels_first(shape: Sequence[int], channels_last: bool) -> tuple[int, ...]:
    """Shape of one map with its channels first; tokens ``[T, C]`` have them last."""
    return tuple(shape) if len(shape) == 3 and not channels_last else (shape[-1], *shape[:-1])


def _trace(module: nn.Module, example: Tensor) -> tuple[list[tuple[Tap, Tensor]], Tensor]:
    """Record every module's tensor input and output in the order of a forward pass."""
    trace: list[tuple[Tap, Tensor]] = []
    handles = []
    for name, layer in module.named_modules():
        if not name:
            continue

        def before(_: nn.Module, inputs: tuple, name: str = name) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                trace.append((Tap(name, "input"), inputs[0]))

        def after(_: nn.Module, __: tuple, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                trace.append((Tap(name, "output"), output))

        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        with torch.inference_mode():
            output = module(example)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise UsageError(f"the backbone does not take images {list(example.shape[1:])}: {reason}") from None
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise UsageError("the backbone must return one tensor [B, C] of logits or features")
    return trace, output


def _find_classifier(
    names: dict[str, nn.Module], trace: list[tuple[Tap, Tensor]], output: Tensor
) -> tuple[str, Tensor, int]:
    """Find the linear layer whose output is the network's, its input, and where in the trace it stands."""
    for index in range(len(trace) - 1, -1, -1):
        tap, values = trace[index]
        layer = names[tap.module]
        if tap.side != "input" or not isinstance(layer, nn.Linear) or values.ndim != 2:
            continue
        with torch.inference_mode():
            made = nn.functional.linear(values, layer.weight, layer.bias)
        if made.shape == output.shape and torch.allclose(made, output, 1e-4, 1e-5):
            return tap.module, values, index
    return "", output, len(trace)
