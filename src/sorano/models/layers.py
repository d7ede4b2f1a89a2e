"""The layers that every network here is built from.

Master weights stay in the dtype they were loaded or trained in; a layer casts them to the dtype of its input. So one
module trains with float32 weights and bfloat16 activations, without autocast, and runs in either dtype unchanged.
"""

from __future__ import annotations

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
