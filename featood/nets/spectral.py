"""Layers with a bounded spectral norm, and batch normalisation with a bounded scale."""

from __future__ import annotations

__all__ = ["BoundedBatchNorm2d", "SpectralConv2d", "SpectralLinear", "bound_layers"]

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from featood.errors import UsageError
from featood.nets.mlp import NegativeLinear
from featood.nets.options import NetOptions

FIRST_ITERATIONS = 15
"""Power iterations when the vectors are created, as in torch.nn.utils.parametrizations.spectral_norm."""
MOMENTUM = 0.01
"""Momentum of bounded batch normalisation, as published."""
TINY = 1e-12
NAMES = ("weight_u", "weight_v")


def _unit(x: Tensor) -> Tensor:
    return x / x.norm().clamp(min=TINY)


class _Spectral(nn.Module):
    """A layer whose weight W is used as ``W / max(1, sigma / coeff)``.

    sigma, the spectral norm of the layer as a linear operator, is ``<u, W v>`` with vectors u and v from power
    iterations, which continue at each forward pass in training mode. The gradient of sigma is that for fixed u and v.
    """

    weight: Tensor
    weight_u: Tensor
    weight_v: Tensor
    widths: tuple[int, int]
    """Numbers of outputs and inputs."""

    def _bound(self, coeff: float, power_iterations: int) -> None:
        self.coeff, self.power_iterations = coeff, power_iterations
        # their sizes depend on the input
        for name in NAMES:
            self.register_buffer(name, self.weight.new_empty(0))

    def operator(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply the layer without bias."""
        raise NotImplementedError

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """Apply the adjoint of `operator`."""
        raise NotImplementedError

    def input_size(self, x: Tensor) -> tuple[int, ...]:
        """Return the size ``[1, ...]`` of the inputs for which the norm is computed."""
        raise NotImplementedError

    def sigma(self) -> Float[Tensor, ""]:
        """Return the estimate of the spectral norm; 0-dimensional, differentiable in the weight."""
        # the vectors change in place before the gradients of earlier passes are computed
        return (self.weight_u.clone() * self.operator(self.weight_v.clone(), self.weight)).sum()

    def bounded(self, x: Tensor) -> Tensor:
        """Return the normalised weight, after the power iterations for a batch in training mode."""
        with torch.autocast(self.weight.device.type, enabled=False):
            if not self.weight_v.numel():
                self._create(self.input_size(x))
            elif self.training:
                self._iterate(self.power_iterations)
            return self.weight / (self.sigma() / self.coeff).clamp(min=1)

    @torch.no_grad()
    def _create(self, size: tuple[int, ...]) -> None:
        # tensors created in inference mode could not be changed in training
        with torch.inference_mode(False):
            v = torch.randn(size, generator=torch.Generator().manual_seed(0), device="cpu")
            self.weight_v = _unit(v.to(self.weight))
            self.weight_u = _unit(self.operator(self.weight_v, self.weight.detach()))
            self._iterate(FIRST_ITERATIONS)

    @torch.no_grad()
    def _iterate(self, count: int) -> None:
        for _ in range(count):
            self.weight_v.copy_(_unit(self.adjoint(self.weight_u, self.weight)))
            self.weight_u.copy_(_unit(self.operator(self.weight_v, self.weight)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # the vectors take the size stored, none before the first input; of the wrong width they are refused as other
        # tensors are
        for name, width in zip(NAMES, self.widths, strict=True):
            shape = getattr(state_dict.get(prefix + name), "shape", ())
            fits = shape == (0,) or (len(shape) == self.weight.ndim and shape[:2] == (1, width))
            if fits and shape != getattr(self, name).shape:
                setattr(self, name, self.weight.detach().new_empty(shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SpectralConv2d(_Spectral, nn.Conv2d):
    """A convolution with a bounded spectral norm: that of the convolution itself, not of its kernel as a matrix.

    The norm of a convolution depends on the size of its input. It is computed for that of the first input that the
    layer gets, which the state dict contains as the size of the buffer ``weight_v``; inputs may have any size. The norm
    of a 1x1 convolution is that of its matrix.

    Parameters
    ----------
    conv
        The convolution; its parameters are shared.
    coeff
        Largest spectral norm.
    power_iterations
        Power iterations per forward pass in training mode.

    References
    ----------
    Gouk et al., Regularisation of Neural Networks by Enforcing Lipschitz Continuity, arXiv:1804.04368, 2018;
    Mukhoti et al., Deep Deterministic Uncertainty, CVPR 2023.
    """

    def __init__(self, conv: nn.Conv2d, coeff: float = 3.0, power_iterations: int = 1) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,  # type: ignore[arg-type]
            conv.groups, conv.bias is not None, device="meta",
        )  # fmt: skip
        self.widths = conv.out_channels, conv.in_channels
        self.weight, self.bias = conv.weight, conv.bias
        self._bound(coeff, power_iterations)
        self.train(conv.training)

    def operator(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve ``[1, C_in, H, W]`` without bias."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """Map ``[1, C_out, H', W']`` to ``[1, C_in, H, W]`` by the transposed convolution."""
        return conv2d_input(
            self.weight_v.shape, weight, y, self.stride, self.padding, self.dilation, self.groups
        )  # fmt: skip

    def input_size(self, x: Tensor) -> tuple[int, ...]:
        """Return that of one input, or one pixel for a 1x1 convolution."""
        if self.kernel_size == (1, 1) and self.padding == (0, 0):
            return (1, self.in_channels, 1, 1)
        return (1, *x.shape[-3:])

    def forward(self, input: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        """Convolve with the normalised weight."""
        return self._conv_forward(input, self.bounded(input), self.bias)


class SpectralLinear(_Spectral, nn.Linear):
    """A linear layer with a bounded spectral norm.

    Parameters
    ----------
    linear
        The layer; its parameters are shared.
    coeff
        Largest spectral norm.
    power_iterations
        Power iterations per forward pass in training mode.
    """

    def __init__(self, linear: nn.Linear, coeff: float = 3.0, power_iterations: int = 1) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.widths = linear.out_features, linear.in_features
        self.weight, self.bias = linear.weight, linear.bias
        self._bound(coeff, power_iterations)
        self.train(linear.training)

    def operator(self, x: Tensor, weight: Tensor) -> Tensor:
        """Map ``[1, D]`` to ``[1, K]`` without bias."""
        return F.linear(x, weight)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """Map ``[1, K]`` to ``[1, D]``."""
        return y @ weight

    def input_size(self, x: Tensor) -> tuple[int, ...]:
        """Return the size of a row."""
        return (1, self.in_features)

    def forward(self, input: Float[Tensor, "*B D"]) -> Float[Tensor, "*B K"]:
        """Map rows with the normalised weight."""
        return F.linear(input, self.bounded(input), self.bias)


class BoundedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the scale ``w / max(1, L / coeff)``; ``L = max |w| / sqrt(running variance + eps)``.

    Parameters
    ----------
    norm
        The batch normalisation; its parameters are shared.
    coeff
        Largest Lipschitz constant, for the running statistics.

    References
    ----------
    van Amersfoort et al., On Feature Collapse and Deep Kernel Learning for Single Forward Pass Uncertainty,
    arXiv:2102.11409, 2021; Gouk et al., arXiv:1804.04368, 2018, equation 28.
    """

    def __init__(self, norm: nn.BatchNorm2d, coeff: float = 3.0) -> None:
        super().__init__(norm.num_features, norm.eps, MOMENTUM)
        self.load_state_dict(norm.state_dict())
        self.weight, self.bias = norm.weight, norm.bias
        self.coeff = coeff
        self.train(norm.training)

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise, with the statistics of the batch in training mode."""
        variance = self.running_var
        assert variance is not None and self.num_batches_tracked is not None
        lipschitz = (self.weight.abs() * (variance + self.eps).rsqrt()).max()
        scale = self.weight / (lipschitz / self.coeff).clamp(min=1)
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            input, self.running_mean, variance, scale, self.bias, self.training, MOMENTUM, self.eps
        )


def bound_layers(net: nn.Module, options: NetOptions, name: str) -> nn.Module:
    """Replace layers of a network by bounded ones, as `sn` and `soft_norm` require, in place.

    Parameters
    ----------
    net
        The network; its parameters and their names stay.
    options
        See :class:`NetOptions`.
    name
        Name of the network, for messages.

    Raises
    ------
    UsageError
        If a layer is of a kind that cannot be bounded, or no layer can.
    """
    layers = [(place, layer) for place, layer in net.named_modules() if place]
    if options.sn:
        linear = [place for place, layer in layers if isinstance(layer, nn.Linear)]
        kept = () if options.linear else linear[-1:]
        for place, layer in layers:
            if (
                isinstance(layer, nn.Linear | _ConvNd)
                and place not in kept
                and type(layer) is not NegativeLinear
            ):
                net.set_submodule(place, _spectral(layer, options, f"{place} of {name}"))
    if options.soft_norm:
        norms = [(place, layer) for place, layer in layers if isinstance(layer, _BatchNorm)]
        if not norms:
            raise UsageError(f"soft_norm bounds batch normalisation, which {name} does not use")
        for place, layer in norms:
            if type(layer) is not nn.BatchNorm2d or not layer.affine or not layer.track_running_stats:
                raise UsageError(
                    f"soft_norm does not support {place} of {name}, a {type(layer).__name__}; choose another network"
                )
            net.set_submodule(place, BoundedBatchNorm2d(layer, options.coeff))
    return net


def _spectral(layer: nn.Module, options: NetOptions, place: str) -> nn.Module:
    how = options.coeff, options.power_iterations
    if type(layer) is nn.Linear:
        return SpectralLinear(layer, *how)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return SpectralConv2d(layer, *how)
    raise UsageError(f"sn does not support {place}, a {type(layer).__name__}; choose another network")
