"""Networks trained by featood as backbones."""

from __future__ import annotations

__all__ = ["build", "is_trained"]

import re
from pathlib import Path

from featood.errors import UsageError
from featood.extractors.backbones.backbone import Built, Request


def is_trained(name: str) -> bool:
    """Whether a name is a folder written by ``featood train``, or such a folder with ``#last``."""
    from featood.extractors.trainer.folder import is_extractor

    return is_extractor(name.removesuffix("#last"))


def build(name: str, request: Request) -> Built:
    """Load the network of a folder; ``FOLDER#last`` has the weights after the last update."""
    from featood.extractors.trainer.folder import held_out_figures, load_extractor

    if request.weights:
        raise UsageError(f"{name} contains its weights; leave out --weights")
    folder, last = name.removesuffix("#last"), name.endswith("#last")
    net, facts, summary = load_extractor(folder, last)
    note = ", ".join(
        [f"trained by {facts.model.name} on {facts.data['dataset']}", *held_out_figures(summary)]
    )
    if summary.get("diverged"):
        note += f", whose training diverged after {summary['steps']} updates"
    module = net.whole(facts.model.shown, facts.model.logits_part, facts.model.density_column)
    return Built(
        module, f"trained:{facts.architecture.name}", "last" if last else "kept", facts.transform, facts.classes,
        facts.classes, (note,), _cache_folder(Path(folder)) + ("@last" if last else ""), facts.model.shown,
    )  # fmt: skip


def _cache_folder(folder: Path) -> str:
    """Return the name of a trained network in the cache; one of several seeds has that of their folder in front."""
    return f"{folder.parent.name}-{folder.name}" if re.fullmatch(r"seed-\d+", folder.name) else folder.name
