"""Options of the commands that can compute in several processes."""

from __future__ import annotations

__all__ = ["engine_of", "engine_options"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from featood.engines import ENGINES, open_engine
from featood.errors import UsageError

if TYPE_CHECKING:
    from featood.engines import Engine


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the engine; `engine_of` takes their values."""
    texts = {
        "gpus": "GPUs of each task of --engine ray; 0.5 lets two tasks share one (default: none).",
        "address": "Address of the Ray cluster (default: RAY_ADDRESS, else this machine).",
        "engine": "Where blocks are computed: in this process, on a Ray cluster, or by the processes that torchrun or "
        "Slurm's srun started; the results are the same.",
    }
    command = click.option("--ray-gpus", type=click.FloatRange(0), metavar="SHARE", help=texts["gpus"])(
        command
    )
    command = click.option("--ray-address", default="", help=texts["address"])(command)
    return click.option(
        "--engine", type=click.Choice(ENGINES), default="local", show_default=True, help=texts["engine"]
    )(command)


def engine_of(engine: str, ray_address: str, ray_gpus: float | None) -> Engine:
    """Return the engine that the options describe, to be entered as a context.

    Raises
    ------
    UsageError
        If they do not fit together.
    """
    if engine == "ray":
        return open_engine(engine, address=ray_address, gpus=ray_gpus or 0.0)
    if ray_address or ray_gpus:
        raise UsageError("--ray-address and --ray-gpus go with --engine ray; add it, or omit them")
    return open_engine(engine)
