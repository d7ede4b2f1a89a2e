"""Attention: one function, one backend, and what surrounds it (norm and rotation of queries and keys).

Axes: B batch, L video tokens, S text tokens, N heads, D width (N*K), K width per head.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sorano.models.config import ROWS_OF_SCORES, SHORT_ATTENTION
from sorano.models.layers import in_cache, linear

KERNELS = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION")
PROBED_TOKENS = 8192

Rotation = Tensor
"""Cosines and sines of the positions: float32 [L, 1, K/2, 2], or [B, L, 1, K/2, 2] when items differ."""


def attention(
    q_BLNK: Tensor, k_BSNK: Tensor, v_BSNK: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(q k^T * scale + bias) v, as [B, L, N, K].

    `bias` broadcasts to [B, N, L, S] and may hold -inf. `scale` is K**-0.5 unless told.
    """
    q, k, v = (x.transpose(1, 2) for x in (q_BLNK, k_BSNK, v_BSNK))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    name = _backend
    if name == "auto":
        name = _choose(q, k) if q.device.type == "cpu" else "fused"
    return _BACKENDS[name](q, k, v, bias, scale).transpose(1, 2)


def _choose(q: Tensor, k: Tensor) -> str:
    """The fastest on a CPU."""
    if q.shape[2] * k.shape[2] <= SHORT_ATTENTION:
        return "short"
    # torch's flash kernel computes bfloat16 at the rate of float32 where the processor has no matrix unit (AMX)
    slow_flash = q.dtype == torch.bfloat16 and not torch.cpu._is_amx_tile_supported()
    return "by_rows" if slow_flash and not torch.is_grad_enabled() else "fused"


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """torch's scaled_dot_product_attention; on a GPU, with the kernel that is the fastest there."""
    if bias is not None and not keeps_float32_bias(q.device):
        bias = bias.to(q.dtype)
    if q.device.type != "cuda" or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    order = [getattr(SDPBackend, name) for name in (*kernels(q.device, q.dtype, q.shape[-1]), "MATH")]
    with sdpa_kernel(order, set_priority=True):  # the next one where the first cannot (a bias, say)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


@lru_cache
def kernels(device: torch.device, dtype: torch.dtype, width: int) -> dict[str, float]:
    """Seconds of each of torch's kernels that runs long attention with heads of `width` here, the fastest first.

    torch's own order does not know the device: on Hopper GPUs cuDNN's is the fastest, on others FlashAttention is.
    Timed once in a process, in some milliseconds.
    """
    q = torch.ones(1, 4, PROBED_TOKENS if device.type == "cuda" else 64, width, device=device, dtype=dtype)
    found = {}
    with torch.inference_mode():
        for name in KERNELS:
            with suppress(RuntimeError), warnings.catch_warnings(), sdpa_kernel(getattr(SDPBackend, name)):
                warnings.simplefilter("ignore")  # torch says at length why a kernel cannot
                seconds = []
                for _ in range(4):  # the first one prepares the kernel
                    began = time.perf_counter()
                    F.scaled_dot_product_attention(q, q, q)[0, 0, 0, 0].item()  # waits for the device
                    seconds.append(time.perf_counter() - began)
                found[name] = min(seconds[1:])
    return dict(sorted(found.items(), key=lambda item: item[1]))


def keeps_float32_bias(device: torch.device) -> bool:
    """Whether attention on this device adds a float32 bias to the scores of half-precision queries: CPUs do."""
    return device.type == "cpu"


def split_bias(bias_BS: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two biases in `dtype` whose exponentials add up to those of `bias_BS`, for keys that are given twice.

    log(500) alone is off by 0.3 % in bfloat16, which is 2 % of the weight; of the pair, only the remainder is rounded.
    """
    high = (bias_BS - bias_BS.abs() * 2**-8).to(dtype)  # rounds to the bias or below
    low = torch.log((bias_BS.exp() - high.float().exp()).clamp(min=0)).to(dtype)
    return high, low


def _plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """The definition, scores in float32: the slow twin that the others are tested against."""
    scores = q.float() @ k.float().transpose(-2, -1) * scale
    scores = scores if bias is None else scores + bias
    return (scores.softmax(dim=-1) @ v.float()).to(q.dtype)


def _short(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Two batched products with the scores kept in float32; its gradient is five times faster than flash's on a CPU."""
    if bias is not None and bias.requires_grad:
        scores = (q @ k.transpose(-2, -1)).float() * scale + bias
        return scores.softmax(dim=-1).to(v.dtype) @ v
    result: Tensor = _ShortAttention.apply(q, k, v, bias, scale)
    return result


def _by_rows(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Head by head, some rows of the scores at a time: products in the fastest way there is, scores in float32."""
    batch, heads, length, _ = q.shape
    rows = max(64, ROWS_OF_SCORES // k.shape[2])
    bias = None if bias is None else bias.expand(batch, heads, length, k.shape[2])
    out = torch.empty_like(q)
    for item in range(batch):
        for head in range(heads):
            keys, values = k[item, head].float(), v[item, head].contiguous()
            for start in range(0, length, rows):
                part = slice(start, start + rows)
                scores = linear(q[item, head, part].float() * scale, keys)
                if bias is not None:
                    scores += bias[item, head, part]
                out[item, head, part] = scores.softmax(dim=-1).to(v.dtype) @ values
    return out


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        heads = q.shape[:2]
        q, k, v = (x.contiguous().flatten(0, 1) for x in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scale)
        if bias is not None:
            scores.view(*heads, *scores.shape[1:]).add_(bias)
        weights = torch.softmax(scores, dim=-1).to(v.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.heads, ctx.scale = heads, scale
        out = torch.bmm(weights, v)
        return out.view(*heads, *out.shape[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        grad = grad.contiguous().flatten(0, 1)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2)).float()
        along = grad_weights.mul_(weights)  # gradient of the softmax: w * (g - sum(w * g))
        along.addcmul_(weights, along.sum(dim=-1, keepdim=True), value=-1)
        grad_scores = along.mul_(ctx.scale).to(q.dtype)
        grad_q, grad_k = torch.bmm(grad_scores, k), torch.bmm(grad_scores.transpose(1, 2), q)
        return *(x.view(*ctx.heads, *x.shape[1:]) for x in (grad_q, grad_k, grad_v)), None, None


_BACKENDS: dict[str, Callable[..., Tensor]] = {
    "fused": _fused,
    "short": _short,
    "by_rows": _by_rows,
    "plain": _plain,
}
_backend = "auto"


def choose_backend(name: str) -> None:
    """Use one backend from now on: "fused", "short", "by_rows", "plain", or "auto" (the fastest of the first three)."""
    global _backend
    if name != "auto" and name not in _BACKENDS:
        raise ValueError(f"attention backend {name!r} is not one of auto, {', '.join(_BACKENDS)}")
    _backend = name


def backend(device: str = "cpu") -> str:
    """The backend in use on a device, and why."""
    if _backend != "auto":
        return f"{_backend} (asked for)"
    if device == "cpu":
        return (
            "two products per head up to 512 x 512 scores, beyond torch's flash kernel, or in bfloat16 without AMX "
            "two products per head for some rows at a time (the fastest on a CPU)"
        )
    if device.startswith("cuda"):
        return (
            "torch's scaled_dot_product_attention, with the fastest of cuDNN's kernel, FlashAttention and the "
            "memory-efficient one (timed at first use)"
        )
    return "torch's scaled_dot_product_attention (it picks a kernel by device, dtype and length)"


def rotation(position_grids: tuple[Tensor, Tensor, Tensor], head_dim: int, theta: float = 10000.0) -> Rotation:
    """Three-axis rotary embedding (RoPE, arXiv:2104.09864, split over time, rows and columns as Wan does).

    `position_grids` holds the positions [..., L] of every token along time, rows and columns; they may be fractional.
    Angles are float64 and the result float32: at whole numbers, the same as diffusers' table.
    """
    side = 2 * (head_dim // 6)
    angles = []
    for positions, dim in zip(position_grids, (head_dim - 2 * side, side, side), strict=True):
        frequencies = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(positions.double()[..., None] * frequencies)
    angle = torch.cat(angles, dim=-1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float().unsqueeze(-3)


def norm_heads(x_BLD: Tensor, weight_D: Tensor, num_heads: int, eps: float, rope: Rotation | None = None) -> Tensor:
    """RMS-normalise over all heads together, scale by `weight_D`, rotate by `rope`; [B, L, N, K] in x's dtype.

    Computed in float32 in one pass, with its own gradient: left to autograd, the round trips through float32 cost a
    CPU more than the matrix products around them. Without gradients it goes through the tokens part by part, so that
    no float32 copy of all of them is made.
    """
    parts = in_cache(x_BLD)
    if len(parts) == 1 or torch.is_grad_enabled():
        result: Tensor = _NormRotate.apply(x_BLD, weight_D, rope, num_heads, eps)
        return result
    result = x_BLD.new_empty(*x_BLD.shape[:-1], num_heads, x_BLD.shape[-1] // num_heads)
    for part in parts:
        of_part = None if rope is None else rope[..., part, :, :, :]
        result[:, part] = _NormRotate.apply(x_BLD[:, part], weight_D, of_part, num_heads, eps)
    return result


COMPLEX_DEVICES = ("cpu", "cuda", "xpu")


def rotate(x_BLNK: Tensor, rope: Rotation, backwards: bool = False) -> Tensor:
    """Rotate neighbouring pairs (x0, x1) of float32 `x_BLNK` by the angles of `rope`; may overwrite its argument."""
    pairs = x_BLNK.view(*x_BLNK.shape[:-1], -1, 2)
    if x_BLNK.device.type in COMPLEX_DEVICES:
        factor = torch.view_as_complex(rope)
        turned = torch.view_as_complex(pairs).mul_(factor.conj() if backwards else factor)
        return torch.view_as_real(turned).flatten(-2)
    cos, sin = rope.unbind(-1)  # without complex numbers, the same in real ones
    sin = -sin if backwards else sin
    x0, x1 = pairs.unbind(-1)
    return torch.stack([x0 * cos - x1 * sin, x0 * sin + x1 * cos], dim=-1).flatten(-2)


class _NormRotate(torch.autograd.Function):
    """y = rotate(x / rms(x) * weight), saving only the normalised x and 1 / rms."""

    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, weight_D: Tensor, rope: Rotation | None, num_heads: int, eps: float) -> Tensor:
        x = x_BLD.to(torch.float32, copy=True)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        x.mul_(inverse)
        ctx.save_for_backward(x, inverse, weight_D, rope)
        ctx.dtype = x_BLD.dtype
        heads = (x * weight_D.float()).view(*x.shape[:-1], num_heads, -1)
        return (heads if rope is None else rotate(heads, rope)).to(x_BLD.dtype)

    @staticmethod
    def backward(ctx: Any, grad_BLNK: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, weight, rope = ctx.saved_tensors
        grad = grad_BLNK.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        grad = (grad if rope is None else rotate(grad, rope, backwards=True)).flatten(-2)
        along = grad * x
        grad_weight = along.sum(dim=(0, 1)).to(weight.dtype)
        mean = along.mul_(weight.float()).mean(dim=-1, keepdim=True)
        grad_x = grad.mul_(weight.float()).addcmul_(x, mean, value=-1).mul_(inverse)
        return grad_x.to(ctx.dtype), grad_weight, None, None, None
