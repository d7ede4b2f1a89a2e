"""The layers that every network here is built from.

Master weights stay in the dtype they were loaded or trained in; a layer casts them to the dtype of its input. So one
module trains with float32 weights and bfloat16 activations, without autocast, and runs in either dtype unchanged.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[nn.Module, Tensor]
"""What streaming remembers between chunks: for each causal layer, the last frames it has seen."""


FEW_CHANNELS = 64  # outputs of a convolution on a CPU, up to which all taps in time are computed in one


def _cast(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(like.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`; in float32 on a CPU and without gradients by oneDNN, where MKL, which torch takes, is not as good."""
    if _onednn_products and x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")
        return result
    return F.linear(x, weight, bias)


def _prefers_onednn() -> bool:
    """Whether oneDNN's float32 products are the better ones: MKL leaves AVX512 unused on AMD's processors, where oneDNN
    is twice as fast; and its code for AVX2 gives other last digits with another number of threads, which oneDNN's does
    not, at the same speed."""
    if not (torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    try:
        maker = Path("/proc/cpuinfo").read_text()
    except OSError:
        maker = platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return capability == "AVX2" or ("AuthenticAMD" in maker and capability == "AVX512")


_onednn_products = _prefers_onednn()


CACHED_BYTES = {"cpu": 2**21}  # of what elementwise work in float32 holds at once, so that it stays in the cache
CACHED_ON_DEVICE = 2**25


def in_cache(x_BLD: Tensor) -> list[slice]:
    """Slices of the tokens, each of so many that a float32 copy of them stays in the processor's cache."""
    batch, length, width = x_BLD.shape
    rows = max(64, CACHED_BYTES.get(x_BLD.device.type, CACHED_ON_DEVICE) // (4 * batch * width))
    return [slice(start, start + rows) for start in range(0, length, rows)]


def fuse(layers: Sequence[nn.Linear]) -> None:
    """Moves the weights of linear layers one after the other in memory, where `fused` finds them as one.

    They keep their names, values and places in the network.
    """
    for name in ("weight", "bias"):
        parameters = [getattr(layer, name) for layer in layers]
        if _adjacent(parameters):
            continue
        whole = torch.cat([parameter.data for parameter in parameters])
        for parameter, part in zip(parameters, whole.split([len(one) for one in parameters]), strict=True):
            parameter.data = part


def fused(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor] | None:
    """The weights [out of all, in] and the biases of layers that `stack` has moved; None where they are apart."""
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    if not (_adjacent(weights) and _adjacent(biases)):
        return None
    rows = sum(len(weight) for weight in weights)
    first, bias = weights[0].detach(), biases[0].detach()
    return (
        first.as_strided((rows, first.shape[1]), first.stride(), first.storage_offset()),
        bias.as_strided((rows,), bias.stride(), bias.storage_offset()),
    )


def _adjacent(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors follow each other in one piece of memory."""
    storage, place = tensors[0].untyped_storage()._cdata, tensors[0].storage_offset()
    for tensor in tensors:
        if tensor.untyped_storage()._cdata != storage or tensor.storage_offset() != place:
            return False
        place += tensor.numel()
    return True


class Linear(nn.Linear):
    """`nn.Linear` that computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.to(x.dtype), _cast(self.bias, x))


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), _cast(self.bias, x))


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution that never looks ahead: time is padded at the front only (Wan 2.1 report, section 4.1.1).

    With a `state`, the missing past is what the layer saw last; without, it is zeros. So a clip in chunks gives
    what the whole clip gives. `padding` is (time, height, width) as for `nn.Conv3d`; time padding p means 2p in front.

    A CPU computes it as a sum of 2-D convolutions over frames, one for each tap in time: torch's 2-D convolutions keep
    channels last there, and its 3-D ones do not. Taps that would meet the zeros before the first frame are left out.
    With gradients it is one 3-D convolution: the sum's gradient is slower.
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
        self.taps, self.step = int(self.kernel_size[0]), int(self.stride[0])

    def forward(self, x_BCTHW: Tensor, state: State | None = None) -> Tensor:
        weight, bias = self.weight.to(x_BCTHW.dtype), _cast(self.bias, x_BCTHW)
        frames = x_BCTHW.shape[2]
        if self.past and state is not None:
            x_BCTHW = self._with_past(x_BCTHW, state)
        missing = self.past - (x_BCTHW.shape[2] - frames)  # zeros before the first frame
        lone = x_BCTHW.shape[2] == 1 and missing == self.taps - 1  # all taps but one meet zeros
        if lone or x_BCTHW.device.type in ("cpu", "meta") and not torch.is_grad_enabled():
            return self._tap_by_tap(x_BCTHW, missing, weight, bias)
        x_BCTHW = F.pad(x_BCTHW, (0, 0, 0, 0, missing, 0)) if missing else x_BCTHW
        return F.conv3d(x_BCTHW, weight, bias, self.stride, (0, *self.spatial_padding))

    def _with_past(self, x_BCTHW: Tensor, state: State) -> Tensor:
        """The video after the frames that the layer remembers of it, fewer than `past` where it has begun since."""
        if self in state:
            x_BCTHW = cat_frames([state[self], x_BCTHW])
        state[self] = x_BCTHW[:, :, -self.past :].clone()
        return x_BCTHW

    def _tap_by_tap(self, x_BCTHW: Tensor, missing: int, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The sum over taps in time of 2-D convolutions; `missing` frames of zeros come before the first."""
        batch = x_BCTHW.shape[0]
        x_TBCHW = frames_of(x_BCTHW).contiguous(memory_format=torch.channels_last).unflatten(0, (-1, batch))
        count = (len(x_TBCHW) + missing - self.taps) // self.step + 1
        taps_OCHW = weight.unbind(2)
        together: Tensor | None = None  # all taps of all frames, [T, B, taps, C, H, W]
        if 1 < self.taps <= FEW_CHANNELS // self.out_channels and self.step == 1:
            only_last = None if bias is None else F.pad(bias, ((self.taps - 1) * len(bias), 0))
            together = self._conv2d(x_TBCHW, torch.cat(taps_OCHW), only_last).unflatten(2, (self.taps, -1))
        y_TBCHW: Tensor | None = None
        for tap in reversed(range(self.taps)):
            skip = max(0, -((tap - missing) // self.step))  # outputs for which this tap is before the first frame
            if skip >= count:
                break
            first = skip * self.step + tap - missing
            seen = slice(first, first + (count - skip - 1) * self.step + 1, self.step)
            if together is not None:
                part_TBCHW = together[seen, :, tap]
            else:
                part_TBCHW = self._conv2d(x_TBCHW[seen], taps_OCHW[tap], bias if y_TBCHW is None else None)
            if y_TBCHW is None:  # the last tap: it is never before the first frame
                y_TBCHW = part_TBCHW.clone() if together is not None else part_TBCHW
            else:
                y_TBCHW[skip:] += part_TBCHW
        assert y_TBCHW is not None
        return y_TBCHW.permute(1, 2, 0, 3, 4)

    def _conv2d(self, x_TBCHW: Tensor, weight_OCHW: Tensor, bias: Tensor | None) -> Tensor:
        y_FCHW = F.conv2d(_flat(x_TBCHW), weight_OCHW, bias, self.stride[1:], self.spatial_padding)
        return y_FCHW.unflatten(0, x_TBCHW.shape[:2])


def frames_of(x_BCTHW: Tensor) -> Tensor:
    """The frames [T*B, C, H, W] of videos, the videos' first frames first; a view where memory lies in that order."""
    return _flat(x_BCTHW.permute(2, 0, 1, 3, 4))


def _flat(x_TBCHW: Tensor) -> Tensor:
    x_FCHW = x_TBCHW.flatten(0, 1)
    if len(x_FCHW) == 1:  # the stride of a lone frame may be anything, and then torch takes channels as not last
        x_FCHW = x_FCHW.as_strided(x_FCHW.shape, (x_FCHW.numel(), *x_FCHW.stride()[1:]))
    return x_FCHW


def video_of(x_FCHW: Tensor, batch: int) -> Tensor:
    """`frames_of` turned back, as a view."""
    return x_FCHW.unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)


def cat_frames(videos_BCTHW: list[Tensor]) -> Tensor:
    """Videos one after the other in time. Joined frame by frame: so channels stay last in memory."""
    return video_of(torch.cat([frames_of(video) for video in videos_BCTHW]), videos_BCTHW[0].shape[0])


class ChannelRMSNorm(nn.Module):
    """Divides each pixel's channels by their root mean square, times `gamma`; statistics in float32.

    The same numbers as diffusers' `WanRMS_norm` (x / |x| * sqrt(C) * gamma). `ndim` is the number of trailing axes.
    """

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * ndim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x) * self.gamma.to(x.dtype)

    def scale(self, x: Tensor) -> Tensor:
        """What each pixel is multiplied by, before `gamma`."""
        # the sum is float32 in any case; on a CPU, the norm in the dtype of x is three times faster
        dtype = x.dtype if x.device.type == "cpu" else torch.float32
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype)
        return (x.shape[1] ** 0.5 / norm.float().clamp_min(1e-12)).to(x.dtype)


def norm_silu(norm: ChannelRMSNorm, x_BCTHW: Tensor) -> Tensor:
    """SiLU of the norm. Two thirds of an autoencoder's training step on a CPU is this, unless it is fused."""
    if _fused_norm_silu is not None:
        return _fused_norm_silu(x_BCTHW, norm.gamma)
    if torch.is_grad_enabled():
        return F.silu(norm(x_BCTHW))
    return F.silu((x_BCTHW * norm.scale(x_BCTHW)).mul_(norm.gamma.to(x_BCTHW.dtype)), inplace=True)


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
