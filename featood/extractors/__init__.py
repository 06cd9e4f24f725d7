"""Extractors: from images to cached features."""
