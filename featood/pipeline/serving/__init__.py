"""Serving: an HTTP service that decides on images by a detector."""

from featood.pipeline.serving.app import create_app
from featood.pipeline.serving.limits import Limits
from featood.pipeline.serving.server import serve

__all__ = ["Limits", "create_app", "serve"]
