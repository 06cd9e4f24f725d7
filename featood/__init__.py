"""Out-of-distribution scores from cached features: extract once, then fit and compare any detector.

Higher score = more out-of-distribution, everywhere. Names below are loaded on first use, so that
``import featood`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featood.cache import FeatureCache, FeatureSet, open_cache
    from featood.extractors.live import extract
    from featood.heads import create_head, list_heads, load_head
    from featood.pipeline.active_learning import active_learning
    from featood.pipeline.detectors import Detector
    from featood.pipeline.monitoring import Monitor
    from featood.pipeline.recommendation import recommend
    from featood.pipeline.scoring import evaluate
    from featood.pipeline.training import train

    __version__: str

_HOME = {
    "Detector": "featood.pipeline.detectors",
    "FeatureCache": "featood.cache",
    "FeatureSet": "featood.cache",
    "Monitor": "featood.pipeline.monitoring",
    "active_learning": "featood.pipeline.active_learning",
    "create_head": "featood.heads",
    "evaluate": "featood.pipeline.scoring",
    "extract": "featood.extractors.live",
    "list_heads": "featood.heads",
    "load_head": "featood.heads",
    "open_cache": "featood.cache",
    "recommend": "featood.pipeline.recommendation",
    "train": "featood.pipeline.training",
}

__all__ = [
    "Detector",
    "FeatureCache",
    "FeatureSet",
    "Monitor",
    "__version__",
    "active_learning",
    "create_head",
    "evaluate",
    "extract",
    "list_heads",
    "load_head",
    "open_cache",
    "recommend",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("featood")
        except PackageNotFoundError:  # a bare source tree
            return "0+unknown"
    if name not in _HOME:
        raise AttributeError(f"module 'featood' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
