"""From the rows of a set to the inputs of a network, for inputs of any kind."""

from __future__ import annotations

__all__ = ["InputTransform", "image_transform", "transform_from_json"]

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from featood.errors import Mismatch, UsageError
from featood.extractors.transform import Transform


class InputTransform(Protocol):
    """What an extraction needs of a transform: that of images (:class:`Transform`), of texts or of recordings."""

    takes: ClassVar[str]
    """The kind of sets it is for; see :class:`featood.data.InputSet`."""

    @property
    def channels(self) -> int:
        """Number of channels of images, or of different tokens, which the first layer of a network must know."""

    def example(self) -> Tensor:
        """Return two inputs of a network, with which it is traced."""

    def read(self, inputs: Any, row: int) -> np.ndarray:
        """Read one row of a set, and convert it."""

    def stack(self, rows: Sequence[np.ndarray | None]) -> np.ndarray:
        """Join the rows of a batch; rows that could not be read are None, and their values do not matter."""

    def normalise(self, batch: np.ndarray) -> Tensor:
        """Convert such a batch to the input of a network."""

    def counts(self, inputs: Any) -> dict[str, int]:
        """Return numbers of rows that lose information, by the word for how; those of zero are left out."""

    def as_json(self) -> dict[str, Any]:
        """Return the plain JSON form."""

    def like(self, body: Mapping[str, Any]) -> InputTransform:
        """Return the transform with the values of a JSON form that a user may choose."""


def image_transform(transform: InputTransform, what: str) -> Transform:
    """Return the transform of a network that must take images.

    Raises
    ------
    UsageError
        If it takes other inputs; `what` names the network.
    """
    if not isinstance(transform, Transform):
        raise UsageError(f"{what} takes {transform.takes}, and a network that takes images is needed here")
    return transform


def transform_from_json(body: Mapping[str, Any], own: InputTransform | None) -> InputTransform:
    """Restore a transform from its JSON form.

    Parameters
    ----------
    body : mapping
        The form; that of images contains all that is needed.
    own : InputTransform, optional
        The transform of the backbone, which has the tokenizer, or the rate of samples.

    Raises
    ------
    Mismatch
        If the transform of the backbone is another.
    UsageError
        If fields are missing, unknown or invalid.
    """
    if "kind" not in body:
        return Transform.from_json(body)
    adapted = own and own.like(body)
    if adapted is None or adapted.as_json() != dict(body):
        raise Mismatch(
            f"the {body['kind']} are no longer prepared as when the cache was made: extract again with --overwrite"
        )
    return adapted
