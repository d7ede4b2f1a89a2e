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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.attention import Rotation, attention, norm_heads, rotation
from sorano.models.config import MAX_TEXT_TOKENS, TransformerConfig
from sorano.models.layers import Linear
from sorano.models.text_encoder import TextTokens


@dataclass(frozen=True)
class PreparedText:
    """Keys and values of a prompt for every block, computed once for all steps, and the bias of the pad key."""

    keys_BSNK: tuple[Tensor, ...]
    values_BSNK: tuple[Tensor, ...]
    bias_B11S: Tensor


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
        timestep_index_BL: Tensor | None = None,
        positions_T: Tensor | Sequence[float] | None = None,
    ) -> Tensor:
        """The velocity, in the latent's shape and dtype.

        `timestep_BU` (0..1000) holds the U distinct timesteps of each item ([B] means one each), and
        `timestep_index_BL` picks one of them for each token; it may be left out when U is 1. `positions_T` are the
        temporal positions of the latent frames, in latent frames, 0, 1, 2 ... unless told; they may be fractional, and
        [B, T] when items differ.
        """
        grid = self._grid(latent_BCTHW)
        text = self.prepare_text(text, latent_BCTHW.dtype) if isinstance(text, TextTokens) else text
        turns = self._rotation(grid, positions_T, latent_BCTHW.device)
        time_BUD, rows_BU6D = self.condition_embedder.time(timestep_BU)
        select = TokenTimes.of(timestep_index_BL, rows_BU6D.shape[1])

        x_BLD = self._patch(latent_BCTHW)
        for index, block in enumerate(self.blocks):
            kv = text.keys_BSNK[index], text.values_BSNK[index]
            x_BLD = block(x_BLD, rows_BU6D, select, turns, kv, text.bias_B11S, latent_BCTHW.dtype)
        shift, scale = (self.scale_shift_table.float() + time_BUD[:, :, None]).unbind(2)
        x_BLD = modulated_norm(x_BLD, select(shift), select(scale), self.config.eps).to(latent_BCTHW.dtype)
        return self._unpatch(self.proj_out(x_BLD), grid)

    def prepare_text(self, text: TextTokens, dtype: torch.dtype | None = None) -> PreparedText:
        """What every block needs of a text; pass it as `text` to skip this at each step of a sampling loop."""
        text_BSD = text.text_BSD if dtype is None else text.text_BSD.to(dtype)
        text_BSD = self.condition_embedder.text_embedder(text_BSD)
        pairs = [block.attn2.keys_values(text_BSD) for block in self.blocks]
        bias = text.bias(MAX_TEXT_TOKENS)[:, None, None]
        return PreparedText(tuple(k for k, _ in pairs), tuple(v for _, v in pairs), bias)

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
        for mlp in (embedder.time_embedder, embedder.text_embedder):
            nn.init.normal_(mlp.linear_1.weight, std=0.02)
            nn.init.normal_(mlp.linear_2.weight, std=0.02)
        nn.init.zeros_(embedder.time_proj.weight)
        nn.init.normal_(self.scale_shift_table, std=self.config.width**-0.5)
        for block in self.blocks:
            nn.init.zeros_(block.scale_shift_table)
            nn.init.zeros_(block.attn2.to_out[0].weight)
        nn.init.zeros_(self.proj_out.weight)

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
        self.attn2 = Attention(config)
        self.norm2 = AffineNorm(config.width, config.eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(config.width, config.ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, config.width))

    def forward(
        self,
        x_BLD: Tensor,
        rows_BU6D: Tensor,
        select: TokenTimes,
        turns: Rotation,
        text_kv: tuple[Tensor, Tensor],
        text_bias: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        rows = (rows_BU6D + self.scale_shift_table.float()).unbind(2)
        shift, scale, gate = (select(row) for row in rows[:3])
        y = modulated_norm(x_BLD, shift, scale, self.eps).to(dtype)
        x_BLD = gated_sum(x_BLD, self.attn1.to_video(y, turns), gate)

        y = self.norm2(x_BLD).to(dtype)
        x_BLD = x_BLD + self.attn2.to_text(y, *text_kv, text_bias)

        shift, scale, gate = (select(row) for row in rows[3:])
        y = modulated_norm(x_BLD, shift, scale, self.eps).to(dtype)
        return gated_sum(x_BLD, self.ffn(y), gate)


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
        self.to_out = nn.ModuleList([Linear(width, width)])
        self.norm_q = RMSNormWeight(width)
        self.norm_k = RMSNormWeight(width)

    def to_video(self, x_BLD: Tensor, turns: Rotation) -> Tensor:
        q = norm_heads(self.to_q(x_BLD), self.norm_q.weight, self.num_heads, self.eps, turns)
        k = norm_heads(self.to_k(x_BLD), self.norm_k.weight, self.num_heads, self.eps, turns)
        v = self.to_v(x_BLD).unflatten(-1, (self.num_heads, -1))
        return self._out(attention(q, k, v))

    def keys_values(self, text_BSD: Tensor) -> tuple[Tensor, Tensor]:
        k = norm_heads(self.to_k(text_BSD), self.norm_k.weight, self.num_heads, self.eps)
        return k, self.to_v(text_BSD).unflatten(-1, (self.num_heads, -1))

    def to_text(self, x_BLD: Tensor, k_BSNK: Tensor, v_BSNK: Tensor, bias_B11S: Tensor) -> Tensor:
        q = norm_heads(self.to_q(x_BLD), self.norm_q.weight, self.num_heads, self.eps)
        return self._out(attention(q, k_BSNK, v_BSNK, bias_B11S))

    def _out(self, y_BLNK: Tensor) -> Tensor:
        out: Tensor = self.to_out[0](y_BLNK.flatten(-2))
        return out


class FeedForward(nn.Module):
    """Linear, GELU (tanh), Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GeluLinear(width, hidden), nn.Identity(), Linear(hidden, width)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class GeluLinear(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class ConditionEmbedder(nn.Module):
    """Embeds timesteps (in float32) and texts."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.freq_dim = config.freq_dim
        self.time_embedder = Mlp(config.freq_dim, width)
        self.time_proj = Linear(width, 6 * width)
        self.text_embedder = TextMlp(config.text_dim, width)

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


@dataclass(frozen=True)
class TokenTimes:
    """Which of an item's U timesteps each of its tokens has; called with rows [B, U, D], gives the tokens' rows.

    With one timestep the rows broadcast. With more, a product with the one-hot index picks them: exact, and its
    gradient is another product, where indexing would scatter.
    """

    one_hot_BLU: Tensor | None

    @classmethod
    def of(cls, index_BL: Tensor | None, num_timesteps: int) -> TokenTimes:
        if num_timesteps == 1:
            return cls(None)
        if index_BL is None:
            raise ValueError(f"with {num_timesteps} timesteps per item, timestep_index_BL must say which is whose")
        return cls(F.one_hot(index_BL, num_timesteps).float())

    def __call__(self, rows_BUD: Tensor) -> Tensor:
        return rows_BUD if self.one_hot_BLU is None else self.one_hot_BLU @ rows_BUD


def modulated_norm(x_BLD: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift in float32; `shift` and `scale` are [B, L, D] or broadcast over L."""
    return torch.addcmul(shift, F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=eps), 1 + scale)


def gated_sum(x_BLD: Tensor, y_BLD: Tensor, gate: Tensor) -> Tensor:
    """x + y * gate in float32."""
    return torch.addcmul(x_BLD, y_BLD.float(), gate)
