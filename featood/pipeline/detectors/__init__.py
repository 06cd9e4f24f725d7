"""Detectors: a head, its network and its thresholds as one object that decides on images."""

from featood.pipeline.detectors.detector import Detector, Prediction
from featood.pipeline.detectors.making import make_detector

__all__ = ["Detector", "Prediction", "make_detector"]
