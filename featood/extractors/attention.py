"""How spread the attention of a transformer is: its entropy, for each head of each layer."""

from __future__ import annotations

__all__ = ["AttentionEntropy", "attention_entropy"]

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featood.errors import UsageError

if TYPE_CHECKING:
    from featood.extractors.extras import Setting


class _Watching(TorchFunctionMode):
    """Context that keeps the mean entropy ``[N, H]`` of the heads of each layer of attention, in their order.

    It sees calls of PyTorch's functions, so it does not matter how a network names its layers. N is the number of
    images, or, with attention in windows, of windows, which are ordered by image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.entropies: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.entropies.append(_mean_entropy(_weights(*args, **kwargs)))
        if func is not F.multi_head_attention_forward:
            return func(*args, **kwargs)
        # this context does not see the calls inside a function that it has seen
        output, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
        self.entropies.append(_mean_entropy(weights))
        averaged = weights.mean(1) if kwargs.get("average_attn_weights", True) else weights
        return output, averaged if kwargs.get("need_weights", True) else None


def _mean_entropy(weights: Tensor) -> Tensor:
    """Return the mean over queries of the entropies ``[N, H]`` of weights ``[N, H, T, S]``."""
    return torch.special.entr(weights.float()).sum(-1).mean(-1)


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the weights ``[N, H, T, S]`` of ``scaled_dot_product_attention`` with these arguments."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    products = factor * (query.float() @ key.float().transpose(-2, -1))
    if is_causal:
        later = torch.ones(products.shape[-2:], dtype=torch.bool, device=products.device).triu(1)
        products = products.masked_fill(later, -math.inf)
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        products = products.masked_fill(~attn_mask, -math.inf) if hidden else products + attn_mask.float()
    return products.softmax(-1)


@torch.no_grad()
def attention_entropy(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return the mean over queries of the entropy of their attention, for the heads of all layers in their order.

    Parameters
    ----------
    module : Module
        A network whose layers call ``scaled_dot_product_attention`` or are ``torch.nn.MultiheadAttention``, as those of
        timm, torchvision and Transformers usually do.
    inputs : Tensor
        ``[B, ...]``.

    Returns
    -------
    Tensor
        ``[B, L * H]`` in float32, in nats, for L layers of H heads. Of windows, the mean is over those of an image.

    Raises
    ------
    UsageError
        If there is no such layer.
    """
    with _Watching() as seen:
        module(inputs)
    if not seen.entropies:
        raise UsageError(
            f"the column {AttentionEntropy.kind} needs layers that call scaled_dot_product_attention, or are "
            "MultiheadAttention; this network has none"
        )
    return torch.cat([found.unflatten(0, (len(inputs), -1)).mean(1) for found in seen.entropies], 1)


@dataclasses.dataclass(frozen=True)
class AttentionEntropy:
    """The column ``attention`` ``[B, L * H]``: entropies of the attention of L layers of H heads.

    It is a description and not a score: fit a density to it, as in ``featood fit gmm --feature attention``.
    """

    kind: ClassVar[str] = "attention"
    by_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, module: nn.Module, inputs: Tensor, row: int, setting: Setting) -> dict[str, Tensor]:
        """Return the column of a batch.

        Raises
        ------
        UsageError
            If the inputs are no images: what is added to the end of shorter texts and recordings would count, too.
        """
        if inputs.ndim != 4:
            raise UsageError(f"the column {self.kind} is for networks of images; omit it from --with")
        return {self.kind: attention_entropy(module, inputs)}
