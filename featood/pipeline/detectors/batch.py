"""Decisions on a batch of images that keep the share of false alarms among the flagged ones."""

from __future__ import annotations

__all__ = ["flag_discoveries"]

from collections.abc import Sequence

import numpy as np

from featood.decisions import discoveries, false_discovery_bound
from featood.errors import UsageError
from featood.heads.base.calibration import Calibration
from featood.pipeline.detectors.detector import Prediction


def flag_discoveries(
    calibration: Calibration, predictions: Sequence[Prediction], false_share: float
) -> tuple[list[Prediction], int]:
    """Decide on a batch by the p-values of all its images, instead of by the threshold.

    Parameters
    ----------
    calibration : Calibration
        Of the detector, with one threshold.
    predictions : sequence of Prediction
        The batch; images that could not be read stay as they are.
    false_share : float
        Largest expected share of in-distribution images among the flagged ones; see
        :func:`featood.decisions.discoveries`.

    Returns
    -------
    predictions : list of Prediction
    bound : int
        How many of the flagged images are in-distribution at most, with a confidence of 95 %; see
        :func:`featood.decisions.false_discovery_bound`.

    Raises
    ------
    UsageError
        If there is a threshold for each class, as p-values within classes have other laws.
    """
    if calibration.classes is not None:
        raise UsageError("a detector with thresholds by class has no decisions on batches; make one without")
    read = [place for place, one in enumerate(predictions) if not one.error]
    p = np.array([predictions[place].p_value for place in read], np.float64)
    flagged = discoveries(p, false_share)
    found = list(predictions)
    for place, out in zip(read, flagged.tolist(), strict=True):
        found[place] = found[place]._replace(out=out)
    return found, false_discovery_bound(p, flagged, len(calibration.scores)) if len(p) else 0
