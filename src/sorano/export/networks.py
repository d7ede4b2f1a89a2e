"""The networks of a model as modules of tensor operations alone, which exporters can trace.

Each wraps a network of `models/` and computes what it does: no autograd functions of its own, no writes in place, no
caches, no branches on values. Everything is float32. `tests/e2e/test_export.py` compares them with the engine.

Axes: B batch (of one), C channels, T latent frames, H latent rows, W latent columns, L video tokens, S text tokens,
N heads, D width, K width per head, P numbers of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.layers import CausalConv3d, ChannelRMSNorm
from sorano.models.wan.text_encoder import EncoderBlock, TextEncoder, position_buckets
from sorano.models.wan.transformer import Attention, Block, CrossAttention, GeluLinear, VideoTransformer
from sorano.models.wan.vae import (
    Downsample,
    MidBlock,
    ResidualBlock,
    ResidualDown,
    ResidualUp,
    SpatialAttention,
    Upsample,
    VideoAutoencoder,
)

LEAST_WINOGRAD = 8  # rows and columns of a convolution in tiles
WINOGRAD_NUMBERS = 2**21  # transformed inputs at a time
BEYOND = -1e9  # added to the attention scores of what is not attended to: runtimes differ in what they make of -inf


def _winograd_transforms(doubled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Winograd's F(4x4, 3x3) (arXiv:1509.09308): from inputs, from weights and from products, one row a result.

    `doubled`: for inputs whose pixels come twice in both directions: one of its six products is zero then.
    """
    inputs = torch.tensor([
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ], dtype=torch.float64)  # fmt: skip
    weights = torch.tensor([
        [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
    ], dtype=torch.float64)  # fmt: skip
    products = torch.tensor([
        [1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1],
    ], dtype=torch.float64)  # fmt: skip
    if doubled:
        kept = [0, 1, 3, 4, 5]
        inputs = torch.stack([inputs[:, 0], inputs[:, 1:3].sum(1), inputs[:, 3:5].sum(1), inputs[:, 5]], dim=1)[kept]
        weights, products = weights[kept], products[:, kept]
    of_inputs, of_weights, of_products = (torch.kron(one, one).float() for one in (inputs, weights, products))
    side = inputs.shape[1]
    return of_inputs.reshape(-1, 1, side, side), of_weights, of_products


WINOGRAD = {doubled: _winograd_transforms(doubled) for doubled in (False, True)}


class TextEncoderGraph(nn.Module):
    """Token ids [S], padded, of one prompt to its text tokens [S, D] (`TextEncoder.encode`).

    `real_S` is 1 for real tokens and 0 for padding, which is not attended to and comes out as zeros.
    """

    buckets_SS: Tensor

    def __init__(self, encoder: TextEncoder, num_tokens: int) -> None:
        super().__init__()
        self.encoder = encoder
        config = encoder.config
        buckets = position_buckets(
            num_tokens, config.relative_attention_num_buckets, config.relative_attention_max_distance
        )
        self.register_buffer("buckets_SS", buckets, persistent=False)

    def forward(self, ids_S: Tensor, real_S: Tensor) -> Tensor:
        x_SD = self.encoder.shared(ids_S)
        mask_S = (real_S - 1) * -BEYOND
        for block in cast("list[EncoderBlock]", list(self.encoder.encoder.block)):
            x_SD = x_SD + _biased_attention(block, _rms(x_SD, block.attend.layer_norm), self.buckets_SS, mask_S)
            gated = block.feed.DenseReluDense
            y_SD = _rms(x_SD, block.feed.layer_norm)
            y_SD = F.gelu(_dense(gated.wi_0, y_SD), approximate="tanh") * _dense(gated.wi_1, y_SD)
            x_SD = x_SD + _dense(gated.wo, y_SD)
        return _rms(x_SD, self.encoder.encoder.final_layer_norm) * real_S[:, None]


def _biased_attention(block: EncoderBlock, x_SD: Tensor, buckets_SS: Tensor, mask_S: Tensor) -> Tensor:
    own = block.attend.SelfAttention
    q, k, v = (_heads(_dense(layer, x_SD), own.num_heads) for layer in (own.q, own.k, own.v))
    bias_NSS = own.relative_attention_bias(buckets_SS).permute(2, 0, 1)
    scores = q @ k.transpose(1, 2) + bias_NSS + mask_S
    return _dense(own.o, _joined(scores.softmax(dim=-1) @ v))


class TransformerGraph(nn.Module):
    """The velocity of one noisy latent (`VideoTransformer.forward`), as patches of tokens, known and made.

    Inputs, all float32, without a batch: `patches_LP`, the latent cut into patches with the known ones in place;
    `timestep_2` (0..1000), of the tokens that are made and of the known ones; `known_L`, 1 for known tokens and 0 for
    others; `cos_LK`, `sin_LK`, the rotary table of the tokens' places; `text_SD`, the text tokens and rows of zeros, of
    which the first is the pad key; `bias_S`, what is added to their attention scores (`TextTokens.bias`, and `BEYOND`
    after the pad key). Cutting the latent and placing its tokens is the caller's (`sorano.export.run`).
    """

    exponent_F: Tensor

    def __init__(self, transformer: VideoTransformer) -> None:
        super().__init__()
        self.transformer = transformer
        half = transformer.config.freq_dim // 2
        exponent_F = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("exponent_F", exponent_F, persistent=False)

    def forward(
        self,
        patches_LP: Tensor,
        timestep_2: Tensor,
        known_L: Tensor,
        cos_LK: Tensor,
        sin_LK: Tensor,
        text_SD: Tensor,
        bias_S: Tensor,
    ) -> Tensor:
        network = self.transformer
        embedder = network.condition_embedder
        angle_2F = timestep_2[:, None] * self.exponent_F
        time_2D = embedder.time_embedder(torch.cat([angle_2F.cos(), angle_2F.sin()], dim=-1))
        rows_26D = embedder.time_proj(F.silu(time_2D)).reshape(2, 6, -1)
        is_known_L11 = known_L[:, None, None] > 0.5

        def by_token(rows_2RD: Tensor) -> tuple[Tensor, ...]:
            """Rows [L, D]: of the second timestep for known tokens, of the first for others."""
            return torch.where(is_known_L11, rows_2RD[1:], rows_2RD[:1]).unbind(1)

        x_LD = F.linear(patches_LP, network.patch_embedding.weight.flatten(1), network.patch_embedding.bias)
        text_SD = embedder.text_embedder(text_SD)
        for block in cast("list[Block]", list(network.blocks)):
            shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = by_token(rows_26D + block.scale_shift_table)
            y_LD = _norm(x_LD, block.eps) * (1 + scale) + shift
            x_LD = x_LD + _self_attention(block.attn1, y_LD, cos_LK, sin_LK) * gate
            x_LD = x_LD + _cross_attention(block.attn2, block.norm2(x_LD), text_SD, bias_S)
            y_LD = _norm(x_LD, block.eps) * (1 + scale_ffn) + shift_ffn
            inner, outer = cast(GeluLinear, block.ffn.net[0]).proj, block.ffn.net[2]
            x_LD = x_LD + _dense(outer, F.gelu(_dense(inner, y_LD), approximate="tanh")) * gate_ffn
        shift, scale = by_token(network.scale_shift_table + time_2D[:, None])
        return _dense(network.proj_out, _norm(x_LD, network.config.eps) * (1 + scale) + shift)


def _self_attention(layer: Attention, x_LD: Tensor, cos_LK: Tensor, sin_LK: Tensor) -> Tensor:
    q_NLK = _rotated(_heads(_normed(layer, "q", x_LD), layer.num_heads), cos_LK, sin_LK)
    k_NLK = _rotated(_heads(_normed(layer, "k", x_LD), layer.num_heads), cos_LK, sin_LK)
    v_NLK = _heads(_dense(layer.to_v, x_LD), layer.num_heads)
    scores = q_NLK @ k_NLK.transpose(1, 2) * q_NLK.shape[-1] ** -0.5
    return _dense(layer.to_out[0], _joined(scores.softmax(dim=-1) @ v_NLK))


def _cross_attention(layer: CrossAttention, x_LD: Tensor, text_SD: Tensor, bias_S: Tensor) -> Tensor:
    q_NLK = _heads(_normed(layer, "q", x_LD), layer.num_heads)
    k_NSK = _heads(_normed(layer, "k", text_SD), layer.num_heads)
    v_NSK = _heads(_dense(layer.to_v, text_SD), layer.num_heads)
    scores = q_NLK @ k_NSK.transpose(1, 2) * q_NLK.shape[-1] ** -0.5 + bias_S
    return _dense(layer.to_out[0], _joined(scores.softmax(dim=-1) @ v_NSK))


class DecoderGraph(nn.Module):
    """A normalised latent [1, C, T, H, W] to its whole video [1, 3, F, Y, X], -1..1 (`VideoAutoencoder.decode`)."""

    def __init__(self, vae: VideoAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_BCTHW: Tensor) -> Tensor:
        vae = self.vae
        x = _causal(vae.post_quant_conv, latent_BCTHW * vae.latents_std + vae.latents_mean)
        x = _middle(vae.decoder.mid_block, _causal(vae.decoder.conv_in, x))
        for block in cast("list[ResidualUp]", list(vae.decoder.up_blocks)):
            x = _up(block, x)
        x = _causal(vae.decoder.conv_out, _norm_silu(vae.decoder.norm_out, x))
        return _unpatchify(x, vae.config.patch_size or 1).clamp(-1, 1)


class EncoderGraph(nn.Module):
    """A video [1, 3, 1+4k, Y, X], -1..1, to its normalised latent (`VideoAutoencoder.encode_latent`)."""

    def __init__(self, vae: VideoAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        vae = self.vae
        x = _causal(vae.encoder.conv_in, _patchify(video_BCTHW, vae.config.patch_size or 1))
        for block in cast("list[ResidualDown]", list(vae.encoder.down_blocks)):
            x = _down(block, x)
        x = _middle(vae.encoder.mid_block, x)
        x = _causal(vae.quant_conv, _causal(vae.encoder.conv_out, _norm_silu(vae.encoder.norm_out, x)))
        return (x[:, : vae.config.z_dim] - vae.latents_mean) / vae.latents_std


def _causal(conv: CausalConv3d, x_BCTHW: Tensor) -> Tensor:
    """A causal convolution of a whole clip: zeros before its first frame."""
    if conv.kernel_size[1:] == (3, 3) and conv.stride == (1, 1, 1) and _in_tiles(*x_BCTHW.shape[-2:]):
        return _winograd(x_BCTHW, conv.weight, conv.bias)
    x_BCTHW = F.pad(x_BCTHW, (0, 0, 0, 0, conv.past, 0)) if conv.past else x_BCTHW
    return F.conv3d(x_BCTHW, conv.weight, conv.bias, conv.stride, (0, *conv.spatial_padding))


_winograd_allowed = ContextVar("_winograd_allowed", default=True)


@contextmanager
def without_winograd() -> Iterator[None]:
    """Trace convolutions as convolutions, for compilers that choose their own algorithm."""
    token = _winograd_allowed.set(False)
    try:
        yield
    finally:
        _winograd_allowed.reset(token)


def _in_tiles(height: int, width: int) -> bool:
    return _winograd_allowed.get() and min(height, width) >= LEAST_WINOGRAD and height % 4 == width % 4 == 0


def _winograd(x_BCTHW: Tensor, weight: Tensor, bias: Tensor | None, *, doubled: bool = False) -> Tensor:
    """A convolution 3x3 over space, causal over time, of 4x4 results at a time: a quarter of the products.

    `weight` is [O, C, K, 3, 3]. `doubled`: of the frames enlarged to twice their sides, each pixel four times. Some
    frames at a time, for memory.
    """
    of_inputs, of_weights, of_products = WINOGRAD[doubled]
    places, step = len(of_inputs), 2 if doubled else 4
    _, c, t, h, w = x_BCTHW.shape
    tall, wide, (out, _, taps, _, _) = h // step, w // step, weight.shape
    one = x_BCTHW.flatten()[:1] * 0 + 1  # known when it runs: else runtimes keep four times the weights from loading on
    spread = (of_weights * one @ weight.reshape(-1, 9).T).reshape(places * out, c, taps, 1)
    count = max(1, WINOGRAD_NUMBERS // (places * c * tall * wide))
    made = []
    for first in range(0, t, count):
        before = min(first, taps - 1)
        x_CTHW = x_BCTHW[0, :, first - before : first + count]
        frames = x_CTHW.shape[1]
        tiles = F.conv2d(x_CTHW.reshape(-1, 1, h, w), of_inputs, None, step, 1)
        tiles = tiles.reshape(c, frames, places, -1).permute(2, 0, 1, 3).reshape(1, places * c, frames, -1)
        y = F.conv2d(F.pad(tiles, (0, 0, taps - 1 - before, 0)), spread, None, groups=places)
        y = (of_products @ y.reshape(places, -1)).reshape(4, 4, out, frames - before, tall, wide)
        made.append(y.permute(2, 3, 4, 0, 5, 1).reshape(1, out, frames - before, 4 * tall, 4 * wide))
    y_BCTHW = torch.cat(made, dim=2)
    return y_BCTHW if bias is None else y_BCTHW + bias[:, None, None, None]


def _norm_silu(norm: ChannelRMSNorm, x: Tensor) -> Tensor:
    return F.silu(_channel_norm(norm, x))


def _channel_norm(norm: ChannelRMSNorm, x: Tensor) -> Tensor:
    size = x.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-12)
    return x * (x.shape[1] ** 0.5 / size) * norm.gamma


def _residual(block: ResidualBlock, x: Tensor) -> Tensor:
    h = _causal(block.conv1, _norm_silu(block.norm1, x))
    h = _causal(block.conv2, _norm_silu(block.norm2, h))
    return h + (_causal(block.conv_shortcut, x) if isinstance(block.conv_shortcut, CausalConv3d) else x)


def _middle(block: MidBlock, x: Tensor) -> Tensor:
    first, second = cast("list[ResidualBlock]", list(block.resnets))
    attention = cast(SpatialAttention, block.attentions[0])
    x = _residual(first, x)
    x_TCHW = x[0].transpose(0, 1)
    frames, width, height, columns = x_TCHW.shape
    y_TPC = _channel_norm(attention.norm, x_TCHW).reshape(frames, width, -1).transpose(1, 2)  # P pixels
    q, k, v = _pointwise(attention.to_qkv, y_TPC).chunk(3, dim=-1)
    scores = q @ k.transpose(1, 2) * width**-0.5
    y_TPC = _pointwise(attention.proj, scores.softmax(dim=-1) @ v)
    y_TCHW = y_TPC.transpose(1, 2).reshape(frames, width, height, columns)
    return _residual(second, x + y_TCHW.transpose(0, 1)[None])


def _pointwise(conv: nn.Conv2d, x_TPC: Tensor) -> Tensor:
    return F.linear(x_TPC, conv.weight.flatten(1), conv.bias)


def _up(block: ResidualUp, x: Tensor) -> Tensor:
    """`ResidualUp` of a clip from its first frame on."""
    shortcut = x
    for resnet in cast("list[ResidualBlock]", list(block.resnets)):
        x = _residual(resnet, x)
    if block.upsampler is None:
        return x
    return _upsampled(block.upsampler, x) + _repeated(shortcut, block.width_out, block.factor_t)


def _upsampled(layer: Upsample, x: Tensor) -> Tensor:
    if layer.time_conv is not None:
        first, later = x[:, :, :1], x[:, :, 1:]  # the later frames see zeros, not the first frame
        _, c, t, h, w = later.shape
        doubled = _causal(layer.time_conv, later).reshape(2, c, t, h, w).permute(1, 2, 0, 3, 4)
        x = torch.cat([first, doubled.reshape(1, c, 2 * t, h, w)], dim=2)
    conv = cast(nn.Conv2d, layer.resample[1])
    if _in_tiles(2 * x.shape[-2], 2 * x.shape[-1]):
        return _winograd(x, conv.weight[:, :, None], conv.bias, doubled=True)
    x_TCHW = F.interpolate(x[0].transpose(0, 1), scale_factor=2.0, mode="nearest")
    return F.conv2d(x_TCHW, conv.weight, conv.bias, padding=1).transpose(0, 1)[None]


def _repeated(x: Tensor, width_out: int, factor: int) -> Tensor:
    """Channels repeated and unfolded into space and time; the first frame yields one frame, not two."""
    _, c, t, h, w = x.shape
    x = x[0, :, None].expand(c, width_out * factor * 4 // c, t, h, w)
    x = x.reshape(width_out * factor, 2, 2, t, h, w).permute(0, 3, 4, 1, 5, 2)  # six axes are the most that XNNPACK has
    x = x.reshape(width_out, factor, t, 4 * h * w).transpose(1, 2)
    return x.reshape(1, width_out, t * factor, 2 * h, 2 * w)[:, :, factor - 1 :]


def _down(block: ResidualDown, x: Tensor) -> Tensor:
    """`ResidualDown` of a clip from its first frame on."""
    s, r, width_out = block.factor_s, block.factor_t, block.width_out
    folded = F.pad(x, (0, 0, 0, 0, -x.shape[2] % r, 0))
    _, c, t, h, w = folded.shape
    folded = folded.reshape(c * t, h // s, s, w // s, s).permute(0, 2, 4, 1, 3)  # XNNPACK has six axes at most
    folded = folded.reshape(c, t // r, r, s * s, -1).permute(0, 2, 3, 1, 4)
    shortcut = folded.reshape(1, width_out, -1, t // r, h // s, w // s).mean(dim=2)
    for resnet in cast("list[ResidualBlock]", list(block.resnets)):
        x = _residual(resnet, x)
    if block.downsampler is not None:
        x = _downsampled(block.downsampler, x)
    return x + shortcut


def _downsampled(layer: Downsample, x: Tensor) -> Tensor:
    conv = cast(nn.Conv2d, layer.resample[1])
    x_TCHW = F.pad(x[0].transpose(0, 1), (0, 1, 0, 1))
    x = F.conv2d(x_TCHW, conv.weight, conv.bias, stride=2).transpose(0, 1)[None]
    if layer.time_conv is None:
        return x
    return x if x.shape[2] == 1 else torch.cat([x[:, :, :1], _causal(layer.time_conv, x)], dim=2)


def _patchify(x: Tensor, p: int) -> Tensor:
    """[1, C, T, H, W] to [1, C*p*p, T, H/p, W/p], in diffusers' channel order (column before row)."""
    _, c, t, h, w = x.shape
    x = x.reshape(c, t, h // p, p, w // p, p).permute(0, 5, 3, 1, 2, 4)
    return x.reshape(1, c * p * p, t, h // p, w // p)


def _unpatchify(x: Tensor, p: int) -> Tensor:
    _, c, t, h, w = x.shape
    x = x.reshape(c // (p * p), p, p, t, h, w).permute(0, 3, 4, 2, 5, 1)
    return x.reshape(1, c // (p * p), t, h * p, w * p)


def _dense(layer: nn.Module, x: Tensor) -> Tensor:
    linear = cast(nn.Linear, layer)
    return F.linear(x, linear.weight, linear.bias)


def _rms(x: Tensor, norm: nn.Module) -> Tensor:
    eps, weight = cast(float, norm.eps), cast(Tensor, norm.weight)
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


def _norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], None, None, eps)


def _normed(layer: Attention, name: str, x_LD: Tensor) -> Tensor:
    """Queries ("q") or keys ("k"), normalised over all heads together."""
    y = _dense(getattr(layer, f"to_{name}"), x_LD)
    weight = getattr(layer, f"norm_{name}").weight
    return y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + layer.eps) * weight


def _heads(x_LD: Tensor, num_heads: int) -> Tensor:
    """[L, N*K] to [N, L, K]."""
    return x_LD.reshape(-1, num_heads, x_LD.shape[-1] // num_heads).transpose(0, 1)


def _joined(x_NLK: Tensor) -> Tensor:
    return x_NLK.transpose(0, 1).reshape(-1, x_NLK.shape[0] * x_NLK.shape[2])


def _rotated(x_NLK: Tensor, cos_LK: Tensor, sin_LK: Tensor) -> Tensor:
    """Neighbouring pairs (x0, x1) rotated by the angles whose cosines and sines these are."""
    heads, _, width = x_NLK.shape
    x0, x1 = x_NLK.reshape(heads, -1, width // 2, 2).unbind(-1)
    turned = torch.stack([x0 * cos_LK - x1 * sin_LK, x0 * sin_LK + x1 * cos_LK], dim=-1)
    return turned.reshape(heads, -1, width)
