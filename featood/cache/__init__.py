"""The feature cache: what every head reads and every extraction writes."""

from featood.cache.array_files import import_files, read_array
from featood.cache.feature_cache import CacheEntry, FeatureCache, open_cache, slug
from featood.cache.feature_set import Classifier, FeatureSet, as_feature_set
from featood.cache.manifest import Manifest, library_versions
from featood.cache.stores import STORES, ColumnSpec
from featood.cache.transfer import export_set, import_arrays
from featood.cache.writer import SetWriter

__all__ = [
    "STORES",
    "CacheEntry",
    "Classifier",
    "ColumnSpec",
    "FeatureCache",
    "FeatureSet",
    "Manifest",
    "SetWriter",
    "as_feature_set",
    "export_set",
    "import_arrays",
    "import_files",
    "library_versions",
    "open_cache",
    "read_array",
    "slug",
]
