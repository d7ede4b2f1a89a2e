"""The video transformer: Wan 2.2's TI2V kind, with a timestep for every token.

Weights have diffusers' names (`WanTransformer3DModel`), so a checkpoint loads either way without renaming. The time
conditioning is computed once for each distinct timestep, [B, U, 6, D], and applied to the tokens by index: a clip whose
first frame is known has two timesteps, not thousands. Attention to the text sees the real tokens and one pad key with
a log(count) bias, which is the softmax over Wan's 512 zero-padded tokens.

Tokens are float32 between the blocks, and so are norms and modulation; matrix products run in the latent's dtype.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns, L video tokens (T*H*W after patching),
S text tokens, N heads, D width, K width per head, U distinct timesteps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.attention import Rotation, attention, keeps_float32_bias, norm_heads, rotation, split_bias
from sorano.models.layers import Linear, fuse, fused, in_cache, linear
from sorano.models.wan.config import MAX_TEXT_TOKENS, TransformerConfig
from sorano.models.wan.text_encoder import TextTokens

Given = list[tuple[Tensor, Tensor, Tensor | None]]  # keys_BSNK, values_BSNK and bias of a text, and of an image

IMAGE_NORM_EPS = 1e-5  # of the norms around the image's embedding, whatever the config's eps
FUSED = ("to_q", "to_k", "to_v")  # weights that lie side by side where one product of them is faster than three
FUSED_WIDTH_ON_CPU = 512  # of networks whose queries, keys and values are one product there too: a call costs more
MEAN_GELU = 0.2821  # of unit normal numbers: 1 / (2 sqrt(pi))


@dataclass(frozen=True)
class PreparedText:
    """Keys and values of a prompt for every block, computed once for all steps, and the bias of the pad key.

    Wan 2.1's image to video also attends to an image, with keys and values of its own.
    """

    keys_BSNK: tuple[Tensor, ...]
    values_BSNK: tuple[Tensor, ...]
    bias_B11S: Tensor
    image_BSNK: tuple[tuple[Tensor, Tensor], ...] | None = None

    def of_block(self, index: int) -> Given:
        """What one block attends to."""
        given: Given = [(self.keys_BSNK[index], self.values_BSNK[index], self.bias_B11S)]
        if self.image_BSNK is not None:
            given.append((*self.image_BSNK[index], None))
        return given


class VideoTransformer(nn.Module):
    """Predicts the velocity (noise - data) of a noisy latent, given a timestep for every token and a text."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = nn.Conv3d(config.in_channels, width, config.patch_size, config.patch_size)
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, width))
        self.proj_out = Linear(width, config.out_channels * math.prod(config.patch_size))
        self._rotations: dict[tuple[Any, ...], Rotation] = {}
        if not self.scale_shift_table.is_meta:
            self.reset_parameters()

    def forward(
        self,
        latent_BCTHW: Tensor,
        timestep_BU: Tensor,
        text: TextTokens | PreparedText,
        *,
        timestep_index_BL: Tensor | TokenTimes | None = None,
        positions_T: Tensor | Sequence[float] | None = None,
    ) -> Tensor:
        """The velocity, in the latent's shape and dtype.

        `timestep_BU` (0..1000) holds the U distinct timesteps of each item ([B] means one each), and
        `timestep_index_BL` picks one of them for each token (a `TokenTimes` made of it saves looking through it each
        time); it may be left out when U is 1. `positions_T` are the temporal positions of the latent frames, in latent
        frames, 0, 1, 2 ... unless told; they may be fractional, and [B, T] when items differ.
        """
        grid = self._grid(latent_BCTHW)
        text = self.prepare_text(text, latent_BCTHW.dtype) if isinstance(text, TextTokens) else text
        rope = self._rotation(grid, positions_T, latent_BCTHW.device)
        time_BUD, rows_BU6D = self.condition_embedder.time(timestep_BU)
        x_BLD = self._patch(latent_BCTHW)
        times = timestep_index_BL
        if times is None or isinstance(times, Tensor):
            times = TokenTimes(times, rows_BU6D.shape[1], x_BLD.shape[1])
        for index, block in enumerate(self.blocks):
            x_BLD = block(x_BLD, rows_BU6D, times, rope, text.of_block(index), latent_BCTHW.dtype)
        shift, scale = (self.scale_shift_table.float() + time_BUD[:, :, None]).unbind(2)
        y_BLD = modulated_norm(x_BLD, shift, scale, times, self.config.eps, latent_BCTHW.dtype)
        return self._unpatch(self.proj_out(y_BLD), grid)

    def prepare_text(
        self, text: TextTokens, dtype: torch.dtype | None = None, *, image_BSD: Tensor | None = None
    ) -> PreparedText:
        """What every block needs of a text; pass it as `text` to skip this at each step of a sampling loop.

        A network of Wan 2.1's image to video also needs `image_BSD`, the image encoder's tokens of the given image (of
        the first and the last, one after the other, where it was trained on both), one for each text or one for all.
        """
        text_BSD = text.text_BSD if dtype is None else text.text_BSD.to(dtype)
        text_BSD = self.condition_embedder.text_embedder(text_BSD)
        pairs = [block.attn2.keys_values(text_BSD) for block in self._blocks()]
        bias_BS = text.bias(MAX_TEXT_TOKENS)
        if text_BSD.dtype != torch.float32 and not keeps_float32_bias(text_BSD.device):
            bias_BS = torch.cat(split_bias(bias_BS, text_BSD.dtype), dim=1)
            pairs = [(torch.cat([k, k], dim=1), torch.cat([v, v], dim=1)) for k, v in pairs]
        image = self._prepare_image(image_BSD, len(text_BSD), text_BSD.dtype)
        return PreparedText(tuple(k for k, _ in pairs), tuple(v for _, v in pairs), bias_BS[:, None, None], image)

    def _prepare_image(
        self, image_BSD: Tensor | None, batch: int, dtype: torch.dtype
    ) -> tuple[tuple[Tensor, Tensor], ...] | None:
        embedder = self.condition_embedder.image_embedder
        if (image_BSD is None) != (embedder is None):
            raise ValueError("image tokens belong to networks with an image_dim, and those cannot do without them")
        if image_BSD is None or embedder is None:
            return None
        image_BSD = embedder(image_BSD.to(dtype))
        pairs = [block.attn2.image_keys_values(image_BSD) for block in self._blocks()]
        return tuple((k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in pairs)

    def reset_parameters(self) -> None:
        """Initialise for training: Wan's scheme, but every residual branch starts at zero (DiT, arXiv:2212.09748)."""
        for module in self.modules():
            if isinstance(module, Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, RMSNormWeight | AffineNorm):
                nn.init.ones_(module.weight)
                if isinstance(module, AffineNorm):
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        nn.init.zeros_(self.patch_embedding.bias)  # type: ignore[arg-type]
        embedder = self.condition_embedder
        nn.init.normal_(embedder.time_embedder.linear_1.weight, std=0.02)
        nn.init.normal_(embedder.time_embedder.linear_2.weight, std=0.02)
        nn.init.zeros_(embedder.time_proj.weight)
        nn.init.normal_(self.scale_shift_table, std=self.config.width**-0.5)
        for block in self._blocks():
            nn.init.zeros_(block.scale_shift_table)
            nn.init.zeros_(cast(Linear, block.attn2.to_out[0]).weight)
        nn.init.zeros_(self.proj_out.weight)
        self._turn_from_padding()

    @torch.no_grad()
    def _turn_from_padding(self) -> None:
        """Start with attention on the words, not on the hundreds of padded positions that a caption leaves.

        Some 500 equal keys weigh e^6 times one word's; a small model then learns to ignore the text before it learns to
        read it. What all real tokens share at the start is the mean of GELU over unit normal numbers, through
        `linear_2`; half of it is taken off by the bias, which leaves padding on the other side of zero, and the queries
        begin on the words' side. On a small model padding gets a few per cent instead of 96.
        """
        mlp = self.condition_embedder.text_embedder
        nn.init.normal_(mlp.linear_1.weight, std=mlp.linear_1.in_features**-0.5)
        nn.init.normal_(mlp.linear_2.weight, std=mlp.linear_2.in_features**-0.5)
        shared_D = MEAN_GELU * mlp.linear_2.weight.sum(1)
        mlp.linear_2.bias.copy_(-shared_D / 2)
        for block in self._blocks():
            key_D = block.attn2.to_k.weight @ shared_D
            block.attn2.to_q.bias.copy_(key_D / key_D.square().mean().sqrt())

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def _grid(self, latent_BCTHW: Tensor) -> tuple[int, int, int]:
        sizes, patch = latent_BCTHW.shape[2:], self.config.patch_size
        if any(size % step for size, step in zip(sizes, patch, strict=True)):
            raise ValueError(f"a latent of {tuple(sizes)} does not divide into patches of {patch}")
        frames, rows, columns = (size // step for size, step in zip(sizes, patch, strict=True))
        return frames, rows, columns

    def _rotation(
        self, grid: tuple[int, int, int], positions_T: Tensor | Sequence[float] | None, device: torch.device
    ) -> Rotation:
        if positions_T is None:
            positions = torch.arange(grid[0], dtype=torch.float64)
        else:
            positions = torch.as_tensor(positions_T, dtype=torch.float64, device="cpu")
        key = (grid, tuple(positions.flatten().tolist()), positions.ndim, device)
        if key not in self._rotations:
            if len(self._rotations) >= 16:  # a film asks for many positions: keep the memory bounded
                self._rotations.pop(next(iter(self._rotations)))
            self._rotations[key] = self._make_rotation(grid, positions).to(device)
        return self._rotations[key]

    def _make_rotation(self, grid: tuple[int, int, int], positions: Tensor) -> Rotation:
        shape = (*positions.shape[:-1], *grid)
        time = positions[..., :, None, None].expand(shape).flatten(-3)
        rows = torch.arange(grid[1])[:, None].expand(shape).flatten(-3)
        columns = torch.arange(grid[2]).expand(shape).flatten(-3)
        return rotation((time, rows, columns), self.config.attention_head_dim)

    def _patch(self, latent_BCTHW: Tensor) -> Tensor:
        """Cut the latent into patches and embed each: the convolution whose stride is its kernel, as one product."""
        b, c = latent_BCTHW.shape[:2]
        (t, h, w), (p, q, r) = self._grid(latent_BCTHW), self.config.patch_size
        patches = latent_BCTHW.reshape(b, c, t, p, h, q, w, r).permute(0, 2, 4, 6, 1, 3, 5, 7)
        weight, bias = self.patch_embedding.weight, self.patch_embedding.bias
        dtype = latent_BCTHW.dtype
        patches_BLP = patches.reshape(b, t * h * w, c * p * q * r)
        return F.linear(patches_BLP, weight.flatten(1).to(dtype), bias.to(dtype)).float()  # type: ignore[union-attr]

    def _unpatch(self, x_BLP: Tensor, grid: tuple[int, int, int]) -> Tensor:
        b, (t, h, w), (p, q, r) = x_BLP.shape[0], grid, self.config.patch_size
        x = x_BLP.reshape(b, t, h, w, p, q, r, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(b, -1, t * p, h * q, w * r)


class Block(nn.Module):
    """Self-attention over the video, cross-attention to the text, feed-forward; the first and last are modulated."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.attn1 = Attention(config)
        self.attn2 = CrossAttention(config)
        self.norm2 = AffineNorm(config.width, config.eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(config.width, config.ffn_dim, config.width)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, config.width))

    def forward(
        self,
        x_BLD: Tensor,
        rows_BU6D: Tensor,
        times: TokenTimes,
        rope: Rotation,
        given: Given,
        dtype: torch.dtype,
    ) -> Tensor:
        rows = (rows_BU6D + self.scale_shift_table.float()).unbind(2)
        shift, scale, gate = rows[:3]
        y = modulated_norm(x_BLD, shift, scale, times, self.eps, dtype)
        x_BLD = gated_sum(x_BLD, self.attn1.self_attention(y, rope), gate, times)

        y = self.norm2(x_BLD).to(dtype)
        y = self.attn2.cross_attention(y, given)
        x_BLD = x_BLD + y if torch.is_grad_enabled() else x_BLD.add_(y)

        shift, scale, gate = rows[3:]
        y = modulated_norm(x_BLD, shift, scale, times, self.eps, dtype)
        return gated_sum(x_BLD, self.ffn(y), gate, times)


class Attention(nn.Module):
    """Multi-head attention whose queries and keys are normalised over all heads together."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_attention_heads
        self.eps = config.eps
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = nn.Sequential(Linear(width, width))  # a list with a dropout in diffusers, hence to_out.0
        self.norm_q = RMSNormWeight(width)
        self.norm_k = RMSNormWeight(width)

    def self_attention(self, x_BLD: Tensor, rope: Rotation) -> Tensor:
        q_BLD, k_BLD, v_BLD = self._queries_keys_values(x_BLD)
        q = norm_heads(q_BLD, self.norm_q.weight, self.num_heads, self.eps, rope)
        k = norm_heads(k_BLD, self.norm_k.weight, self.num_heads, self.eps, rope)
        return self._out(attention(q, k, v_BLD.unflatten(-1, (self.num_heads, -1))))

    def _queries_keys_values(self, x_BLD: Tensor) -> Sequence[Tensor]:
        layers = [getattr(self, name) for name in FUSED]
        together = None if torch.is_grad_enabled() else fused(layers)
        if together is None:
            return [layer(x_BLD) for layer in layers]
        weight, bias = (tensor.to(x_BLD.dtype) for tensor in together)
        return linear(x_BLD, weight, bias).chunk(3, dim=-1)

    def _out(self, y_BLNK: Tensor) -> Tensor:
        out: Tensor = self.to_out(y_BLNK.flatten(-2))
        return out


class CrossAttention(Attention):
    """Attention to what is given: a text, and in Wan 2.1's image to video an image beside it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        if config.added_kv_proj_dim is not None:
            self.add_k_proj = Linear(config.added_kv_proj_dim, config.width)
            self.add_v_proj = Linear(config.added_kv_proj_dim, config.width)
            self.norm_added_k = RMSNormWeight(config.width)

    def keys_values(self, text_BSD: Tensor) -> tuple[Tensor, Tensor]:
        k = norm_heads(self.to_k(text_BSD), self.norm_k.weight, self.num_heads, self.eps)
        return k, self.to_v(text_BSD).unflatten(-1, (self.num_heads, -1))

    def image_keys_values(self, image_BSD: Tensor) -> tuple[Tensor, Tensor]:
        k = norm_heads(self.add_k_proj(image_BSD), self.norm_added_k.weight, self.num_heads, self.eps)
        return k, self.add_v_proj(image_BSD).unflatten(-1, (self.num_heads, -1))

    def cross_attention(self, x_BLD: Tensor, given: Given) -> Tensor:
        q = norm_heads(self.to_q(x_BLD), self.norm_q.weight, self.num_heads, self.eps)
        y, *others = (attention(q, k, v, bias) for k, v, bias in given)
        for other in others:
            y = y + other
        return self._out(y)


class FeedForward(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int, approximate: str = "tanh") -> None:
        super().__init__()
        self.net = nn.ModuleList([GeluLinear(inputs, hidden, approximate), nn.Identity(), Linear(hidden, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class GeluLinear(nn.Module):
    def __init__(self, inputs: int, hidden: int, approximate: str) -> None:
        super().__init__()
        self.proj = Linear(inputs, hidden)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x)
        if torch.is_grad_enabled():
            return F.gelu(y, approximate=self.approximate)
        activated: Tensor = torch.ops.aten.gelu_(y, approximate=self.approximate)
        return activated


class ConditionEmbedder(nn.Module):
    """Embeds timesteps (in float32) and texts."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.freq_dim = config.freq_dim
        self.time_embedder = Mlp(config.freq_dim, width)
        self.time_proj = Linear(width, 6 * width)
        self.text_embedder = TextMlp(config.text_dim, width)
        self.image_embedder = ImageEmbedder(config.image_dim, config) if config.image_dim is not None else None

    def time(self, timestep_BU: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding [B, U, D] of each distinct timestep, and its six modulation rows [B, U, 6, D]."""
        timestep_BU = timestep_BU[:, None] if timestep_BU.ndim == 1 else timestep_BU
        half = self.freq_dim // 2
        exponent = torch.arange(half, dtype=torch.float32, device=timestep_BU.device) / half
        angle = timestep_BU[..., None].float() * torch.exp(-math.log(10000) * exponent)
        time_BUD = self.time_embedder(torch.cat([angle.cos(), angle.sin()], dim=-1))
        return time_BUD, self.time_proj(F.silu(time_BUD)).unflatten(-1, (6, -1))


class Mlp(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(inputs, width)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return y


class TextMlp(Mlp):
    """Linear, GELU (tanh), Linear."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear_2(F.gelu(self.linear_1(x), approximate="tanh"))
        return y


class ImageEmbedder(nn.Module):
    """The image encoder's tokens [B, S, image_dim] at the width of the network, between two norms.

    Where a first and a last image are given, their tokens follow each other and know by a table which is which.
    """

    def __init__(self, image_dim: int, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = AffineNorm(image_dim, IMAGE_NORM_EPS)
        self.ff = FeedForward(image_dim, image_dim, config.width, approximate="none")
        self.norm2 = AffineNorm(config.width, IMAGE_NORM_EPS)
        length = config.pos_embed_seq_len
        self.pos_embed = None if length is None else nn.Parameter(torch.zeros(1, length, image_dim))

    def forward(self, image_BSD: Tensor) -> Tensor:
        if self.pos_embed is not None:
            if image_BSD.shape[1] != self.pos_embed.shape[1]:
                raise ValueError(
                    f"the network attends to {self.pos_embed.shape[1]} image tokens: a first and a last image,"
                    f" and {image_BSD.shape[1]} were given"
                )
            image_BSD = image_BSD + self.pos_embed.to(image_BSD.dtype)
        y: Tensor = self.norm2(self.ff(self.norm1(image_BSD).to(image_BSD.dtype)))
        return y.to(image_BSD.dtype)


class RMSNormWeight(nn.Module):
    """The weight of an RMS norm over all heads, applied by `norm_heads`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class AffineNorm(nn.LayerNorm):
    """`nn.LayerNorm` in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)


class TokenTimes:
    """Which of an item's U timesteps each of its tokens has.

    `runs` lists (start, stop, timestep) when the tokens of all items agree and lie in runs, as they do when frames are
    known or not; rows then apply by slices, and nothing as wide as the tokens is made of them. Otherwise `one_hot_BLU`
    spreads rows over tokens by a product: exact, and its gradient is another product where indexing would scatter.
    """

    def __init__(self, index_BL: Tensor | None, num_timesteps: int, num_tokens: int) -> None:
        self.num_timesteps = num_timesteps
        self.runs = [(0, num_tokens, 0)]
        self.one_hot_BLU: Tensor | None = None
        if num_timesteps == 1:
            return
        if index_BL is None:
            raise ValueError(f"with {num_timesteps} timesteps per item, timestep_index_BL must say which is whose")
        self.runs = _runs(index_BL)
        if not self.runs:
            self.one_hot_BLU = F.one_hot(index_BL, num_timesteps).float()

    def parts(self, *tokens_BLD: Tensor, rows: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """Views of the tokens, part by part, each followed by the rows [B, U, D] that broadcast against it."""
        if self.one_hot_BLU is not None:
            yield *tokens_BLD, *(self.one_hot_BLU @ row for row in rows)
            return
        for start, stop, index in self.runs:
            yield *(x[:, start:stop] for x in tokens_BLD), *(row[:, index : index + 1] for row in rows)

    def within(self, part: slice) -> Iterator[tuple[int, int, int]]:
        """The runs as far as they lie in a slice of the tokens."""
        for start, stop, index in self.runs:
            if max(start, part.start) < min(stop, part.stop):
                yield max(start, part.start), min(stop, part.stop), index

    def sum(self, x_BLD: Tensor) -> Tensor:
        """The sum [B, U, D] over the tokens of each timestep: the gradient of rows."""
        if self.one_hot_BLU is not None:
            return self.one_hot_BLU.transpose(1, 2) @ x_BLD
        sums = x_BLD.new_zeros(x_BLD.shape[0], self.num_timesteps, x_BLD.shape[2])
        for start, stop, index in self.runs:
            sums[:, index] += x_BLD[:, start:stop].sum(dim=1)
        return sums


class _ModulatedNorm(torch.autograd.Function):
    """y = LayerNorm(x) * (1 + scale) + shift, saving only the normalised x and 1 / std."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, times: TokenTimes, eps: float, dtype: torch.dtype
    ) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        x.mul_(inverse)
        ctx.save_for_backward(x, inverse, scale)
        ctx.times = times
        y = torch.empty_like(x)
        for x_part, y_part, shift_part, scale_part in times.parts(x, y, rows=(shift, 1 + scale)):
            torch.addcmul(shift_part, x_part, scale_part, out=y_part)
        return y.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, scale = ctx.saved_tensors
        grad = grad_y.to(torch.float32, copy=True)
        grad_shift, grad_scale = ctx.times.sum(grad), ctx.times.sum(grad * x)
        for grad_part, scale_part in ctx.times.parts(grad, rows=(1 + scale,)):
            grad_part.mul_(scale_part)
        mean, along = grad.mean(dim=-1, keepdim=True), (grad * x).mean(dim=-1, keepdim=True)
        grad.sub_(mean).addcmul_(x, along, value=-1).mul_(inverse)
        return grad, grad_shift, grad_scale, None, None, None


class _GatedSum(torch.autograd.Function):
    """x + y * gate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gate: Tensor, times: TokenTimes) -> Tensor:
        ctx.save_for_backward(y, gate)
        ctx.times = times
        out = torch.empty_like(x)
        for x_part, y_part, out_part, gate_part in times.parts(x, y, out, rows=(gate,)):
            torch.addcmul(x_part, y_part, gate_part, out=out_part)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, gate = ctx.saved_tensors
        grad_gate = ctx.times.sum(grad * y)
        grad_y = torch.empty_like(grad)
        for grad_part, out_part, gate_part in ctx.times.parts(grad, grad_y, rows=(gate,)):
            torch.mul(grad_part, gate_part, out=out_part)
        return grad, grad_y.to(y.dtype), grad_gate, None


def modulated_norm(
    x_BLD: Tensor, shift_BUD: Tensor, scale_BUD: Tensor, times: TokenTimes, eps: float, dtype: torch.dtype
) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift, each token with its timestep's rows; float32 inside, `dtype` out."""
    if torch.is_grad_enabled() or times.one_hot_BLU is not None:
        y: Tensor = _ModulatedNorm.apply(x_BLD, shift_BUD, scale_BUD, times, eps, dtype)
        return y
    y, gain_BUD = torch.empty_like(x_BLD, dtype=dtype), 1 + scale_BUD
    for part in in_cache(x_BLD[:1]):  # the whole modulation is what a layer norm does with its weight and bias
        for start, stop, index in times.within(part):
            for x, out, gain, shift in zip(x_BLD[:, start:stop], y[:, start:stop], gain_BUD, shift_BUD, strict=True):
                out.copy_(F.layer_norm(x, x.shape[-1:], gain[index], shift[index], eps))
    return y


def gated_sum(x_BLD: Tensor, y_BLD: Tensor, gate_BUD: Tensor, times: TokenTimes) -> Tensor:
    """x + y * gate in float32, each token with its timestep's row; without gradients, `x_BLD` becomes it."""
    if not torch.is_grad_enabled():
        for x_part, y_part, gate_part in times.parts(x_BLD, y_BLD, rows=(gate_BUD,)):
            x_part.addcmul_(y_part, gate_part)
        return x_BLD
    out: Tensor = _GatedSum.apply(x_BLD, y_BLD, gate_BUD, times)
    return out


def fuse_qkv(network: nn.Module) -> None:
    """Lays weights of queries, keys and values side by side in every self-attention where one product is faster."""
    for _, module in _fusable(network):
        if _is_faster_fused(module.to_q.in_features, module.to_q.weight.device):
            fuse([getattr(module, name) for name in FUSED])


def fused_storage(network: nn.Module, dtype: torch.dtype, device: torch.device | str) -> dict[str, Tensor]:
    """Empty memory on the device for the weights that `fuse_qkv` would move, by name: load them into it."""
    homes: dict[str, Tensor] = {}
    for path, module in _fusable(network):
        if not _is_faster_fused(module.to_q.in_features, torch.device(device)):
            continue
        for kind in ("weight", "bias"):
            shapes = [getattr(getattr(module, name), kind).shape for name in FUSED]
            whole = torch.empty(sum(shape[0] for shape in shapes), *shapes[0][1:], dtype=dtype, device=device)
            names = (f"{path}.{name}.{kind}" for name in FUSED)
            homes.update(zip(names, whole.split([shape[0] for shape in shapes]), strict=True))
    return homes


def _fusable(network: nn.Module) -> Iterator[tuple[str, Attention]]:
    for path, module in network.named_modules():
        if isinstance(module, Attention) and not isinstance(module, CrossAttention):
            yield path, module


def _is_faster_fused(width: int, device: torch.device) -> bool:
    return device.type not in ("cpu", "meta") or width <= FUSED_WIDTH_ON_CPU


def _runs(index_BL: Tensor, most: int = 16) -> list[tuple[int, int, int]]:
    """The runs of equal timesteps if all items agree and there are at most `most`, else none."""
    if not bool((index_BL == index_BL[:1]).all()):
        return []
    values, counts = torch.unique_consecutive(index_BL[0], return_counts=True)
    if len(values) > most:
        return []
    stops = counts.cumsum(0).tolist()
    return list(zip([0, *stops[:-1]], stops, values.tolist(), strict=True))
