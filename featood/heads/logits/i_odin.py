"""i-ODIN: the tempered softmax of an input perturbed in one value."""

from __future__ import annotations

__all__ = ["IODIN"]

from featood.heads.logits.odin import ODIN
from featood.heads.registry import register
from featood.options import option


@register(
    "i-odin",
    title="i-ODIN",
    paper="Regmi, Going Beyond Conventional OOD Detection, arXiv",
    year=2024,
    url="https://arxiv.org/abs/2411.10794",
    needs=("features",),
    learns=False,
)
class IODIN(ODIN):
    """Score ``-max softmax(f(x') / T)`` of inputs x' perturbed in one value (``featood extract --with i-odin``).

    This value of the image is the one with the largest gradient of the likelihood of the predicted class; it is moved
    as by ``odin``. Step and temperature are the defaults of the authors' code in OpenOOD, which searches both on
    validation outliers.
    """

    feature: str = option("i-odin", "column with the logits of the perturbed inputs")
