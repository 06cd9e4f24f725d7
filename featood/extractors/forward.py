"""A network with its taps as one function from a batch of inputs to named columns."""

from __future__ import annotations

__all__ = ["ExtractOptions", "Forward", "column_specs", "placed", "ready"]

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featood.cache import ColumnSpec
from featood.errors import UsageError
from featood.extractors.extras import Extra, Setting, extras_to_json
from featood.extractors.inputs import InputTransform
from featood.extractors.taps import plan_taps
from featood.extractors.transform import Transform

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """Options of an extraction; those that affect values are part of the fingerprint.

    Parameters
    ----------
    taps, pools, maps, outputs
        See :func:`featood.extractors.taps.plan_taps`.
    extras : sequence of Extra
        Further columns that need more than a forward pass; see :mod:`featood.extractors.extras`.
    dtype : str
        Stored type of the features, ``float16`` or ``float32``; see :meth:`Forward.columns`.
    precision : str
        Precision of the backbone: ``float32``, ``bfloat16`` or ``float16``.
    batch_size : int
        Images per forward pass.
    block_rows : int
        Rows per committed block.
    store : str
        ``zarr`` or ``hdf5``.
    device : str
        ``auto`` selects a GPU if there is one.
    workers : int, optional
        Processes that decode images; by default none for packed sets, otherwise one per core, at most 8.
    strict : bool
        Stop at the first image that cannot be read, rather than skip and report it.
    overwrite : bool
        Replace a set that was extracted with other settings.
    append : bool
        Take over the rows of a set of fewer images; see :mod:`featood.extractors.appending`.
    """

    taps: Sequence[str] = ()
    pools: Sequence[str] | None = None
    maps: bool = False
    outputs: str = "auto"
    extras: Sequence[Extra] = ()
    dtype: str = "float16"
    precision: str = "float32"
    batch_size: int = 128
    block_rows: int = 4096
    store: str = "zarr"
    device: str = "auto"
    workers: int | None = None
    strict: bool = False
    overwrite: bool = False
    append: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UsageError(f"dtype must be float32 or float16, not {self.dtype}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision}")
        if self.append and self.overwrite:
            raise UsageError(
                "--append keeps the rows of a set, and --overwrite replaces them; give one of them"
            )
        if self.batch_size < 1 or self.block_rows < 1:
            raise UsageError("the batch size and the rows of a block must be positive")


class Forward:
    """A network in evaluation mode, with a plan of what to record in a forward pass.

    Parameters
    ----------
    module : Module
        The network, on the device of the example and in evaluation mode.
    example : Tensor
        At least two inputs ``[B, ...]``, with which the network is traced.
    options : ExtractOptions
        Taps, pooling, extra columns and precision.
    transform : InputTransform, optional
        Transform of the inputs; some extra columns need that of images.

    Raises
    ------
    UsageError
        If a tap, a pooling or an extra column is impossible for the network.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        options: ExtractOptions,
        transform: InputTransform | None = None,
    ) -> None:
        self.module, self.options = module, options
        self.plan = plan_taps(module, example, options.taps, options.pools, options.maps, options.outputs)
        self.transform = transform
        self.setting = Setting(transform if isinstance(transform, Transform) else None, self.plan)
        returned = {"logits": self.plan.has_logits, "a density": bool(self.plan.density)}
        for extra in options.extras:
            if extra.needs and not any(returned[what] for what in extra.needs):
                what = " or ".join(extra.needs)
                raise UsageError(f"the column {extra.kind} needs {what}, which this backbone does not return")
        self.columns = {
            name: ColumnSpec((values.shape[1],), self._stored(name, values.shape[1]))
            for name, values in self(example, 0).items()
        }
        """Specifications of the columns: features are stored in the type of the options, and in float32 the logits,
        single numbers such as densities, Gram sums, which float16 cannot hold, and columns of `extras`."""

    def __call__(self, inputs: Tensor, row: int) -> dict[str, Tensor]:
        """Return all columns ``[B, D]`` of a batch ``[B, ...]`` that begins at row `row` of the set."""
        with self.plan.recording(self.module) as forward, torch.inference_mode(), self._arithmetic(inputs):
            columns = forward(inputs)
        for extra in self.options.extras:
            with self._arithmetic(inputs):
                columns |= extra(self.module, inputs, row, self.setting)
        return columns

    def _stored(self, name: str, width: int) -> str:
        feature = name in self.plan.columns and width > 1 and name.split(".")[-1] != "gram"
        return self.options.dtype if feature else "float32"

    def _arithmetic(self, inputs: Tensor) -> torch.autocast:
        # one context per pass: tensors that autocast caches in inference mode cannot be differentiated
        precision = PRECISIONS[self.options.precision]
        kind = inputs.device.type
        return torch.autocast(kind, precision or torch.bfloat16, enabled=precision is not None)

    @property
    def recipe(self) -> dict[str, Any]:
        """What determines the columns, given the network and its inputs."""
        plan, options = self.plan, self.options
        recipe: dict[str, Any] = {
            "columns": plan.columns_json(),
            "main": plan.main,
            "dtype": options.dtype,
            "precision": options.precision,
        }
        # optional entries are included only if used, so that plain extractions keep their fingerprints
        if plan.outputs != "classes":
            recipe["outputs"] = plan.outputs
        if plan.density:
            recipe["density"] = plan.density
        if plan.map_shape:
            recipe["map_shape"] = list(plan.map_shape)
        if options.extras:
            recipe["extras"] = extras_to_json(options.extras)
        if any(extra.by_batch for extra in options.extras):
            recipe["batch_size"] = options.batch_size
        return recipe


def placed(inputs: Tensor, device: torch.device) -> Tensor:
    """Return inputs on a device; images with channels last."""
    form = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
    return inputs.to(device, memory_format=form, non_blocking=True)


@contextlib.contextmanager
def ready(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Context manager that puts a module into evaluation mode on a device, with channels last, and restores it."""
    training = [part for part in module.modules() if part.training]
    first = next(iter(module.parameters()), None)
    home = None if first is None or first.device == device else first.device
    plain = [value for value in module.parameters() if value.ndim == 4 and value.is_contiguous()]
    module.eval().to(device)
    if all(value.ndim != 5 for value in (*module.parameters(), *module.buffers())):  # not of volumes
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield module
    finally:
        for part in training:
            part.training = True
        for value in plain:
            value.data = value.data.contiguous()
        if home is not None:
            module.to(home)


def column_specs(
    columns: Mapping[str, ColumnSpec], labelled: bool, ids: Sequence[str]
) -> dict[str, ColumnSpec]:
    """Add the specifications of labels and names to those of the columns that a network computes."""
    columns = dict(columns)
    if labelled:
        columns["labels"] = ColumnSpec((), "int64")
    longest = max((len(name.encode("utf-8", "surrogateescape")) for name in ids), default=1)
    columns["ids"] = ColumnSpec((longest,), "uint8")
    return columns
