"""The layers that every network here is built from.

Master weights stay in the dtype they were loaded or trained in; a layer casts them to the dtype of its input. So one
module trains with float32 weights and bfloat16 activations, without autocast, and runs in either dtype unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[nn.Module, Tensor]
"""What streaming remembers between chunks: for each causal layer, the last frames it has seen."""


def _cast(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(like.dtype)


class Linear(nn.Linear):
    """`nn.Linear` that computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), _cast(self.bias, x))


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), _cast(self.bias, x))


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution that never looks ahead: time is padded at the front only (Wan 2.1 report, section 4.1.1).

    With a `state`, the missing past is what the layer saw last; without, it is zeros. So a clip in chunks gives
    what the whole clip gives. `padding` is (time, height, width) as for `nn.Conv3d`; time padding p means 2p in front.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: int | tuple[int, int, int] = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self.past = 2 * int(self.padding[0])
        self.spatial_padding = (int(self.padding[1]), int(self.padding[2]))

    def forward(self, x_BCTHW: Tensor, state: State | None = None) -> Tensor:
        weight, bias = self.weight.to(x_BCTHW.dtype), _cast(self.bias, x_BCTHW)
        if state is None and x_BCTHW.shape[2] == 1 and self.past == self.kernel_size[0] - 1:
            # A lone first frame meets zeros on every tap but the last: the same sums as a 2-D convolution, 3x cheaper.
            x = F.conv2d(x_BCTHW[:, :, 0], weight[:, :, -1], bias, self.stride[1:], self.spatial_padding)
            return x[:, :, None]
        if self.past:
            x_BCTHW = self._with_past(x_BCTHW, state)
        return F.conv3d(x_BCTHW, weight, bias, self.stride, (0, *self.spatial_padding))

    def _with_past(self, x: Tensor, state: State | None) -> Tensor:
        past = None if state is None else state.get(self)
        if past is None:
            past = x.new_zeros(x.shape[0], x.shape[1], self.past, *x.shape[3:])
        x = torch.cat([past, x], dim=2)
        if state is not None:
            state[self] = x[:, :, -self.past :].clone()
        return x


class ChannelRMSNorm(nn.Module):
    """Divides each pixel's channels by their root mean square, times `gamma`; statistics in float32.

    The same numbers as diffusers' `WanRMS_norm` (x / |x| * sqrt(C) * gamma). `ndim` is the number of trailing axes.
    """

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * ndim))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).clamp_min(1e-12).reciprocal()
        return x * (scale * x.shape[1] ** 0.5).to(x.dtype) * self.gamma.to(x.dtype)


def norm_silu(norm: ChannelRMSNorm, x_BCTHW: Tensor) -> Tensor:
    """SiLU of the norm. Two thirds of an autoencoder's training step on a CPU is this, unless it is fused."""
    if _fused_norm_silu is not None:
        return _fused_norm_silu(x_BCTHW, norm.gamma)
    return F.silu(norm(x_BCTHW))


_fused_norm_silu: Callable[[Tensor, Tensor], Tensor] | None = None


def fuse_norms(enable: bool = True) -> str:
    """Compiles `norm_silu` for training (seconds, once; needs a C++ compiler on a CPU); says what was done and why.

    The rest of the network runs as it is: convolutions gain nothing, and the whole takes minutes to compile.
    """
    global _fused_norm_silu
    _fused_norm_silu = None
    if not enable:
        return "norms: as separate operations"
    import shutil

    if not torch.cuda.is_available() and not any(shutil.which(name) for name in ("g++", "clang++")):
        return "norms: as separate operations (no C++ compiler to fuse them with)"
    from torch import _dynamo

    _dynamo.config.recompile_limit = 64  # one per shape of feature map
    _fused_norm_silu = torch.compile(_norm_silu, dynamic=False)
    return "norms: fused by torch.compile"


def _norm_silu(x_BCTHW: Tensor, gamma: Tensor) -> Tensor:
    x = x_BCTHW.permute(0, 2, 3, 4, 1).float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-24)
    return F.silu(x * scale * gamma.flatten()).to(x_BCTHW.dtype).permute(0, 4, 1, 2, 3)
