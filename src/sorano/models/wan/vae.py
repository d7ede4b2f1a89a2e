"""Wan's causal video autoencoder: pixels to latents and back, whole or as a stream.

    video [B, 3, 1+4k, 8H, 8W], -1..1   <->   latent [B, 16, 1+k, H, W]

The first frame is coded alone; every later latent codes four frames and sees only the past. Two kinds share the
file: the plain one of Wan 2.1, and the residual one of Wan 2.2, which patches pixels first and adds a shortcut without
parameters around each change of resolution. Parameter names are those of diffusers' `AutoencoderKLWan`, so checkpoints
need no map.

Streaming: `encode_stream` and `decode_stream` keep, for each causal layer, the two last frames it saw; memory does not
grow with length, and the result equals the whole pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.layers import (
    CausalConv3d,
    ChannelRMSNorm,
    Conv2d,
    State,
    cat_frames,
    frames_of,
    linear,
    norm_silu,
    video_of,
)
from sorano.models.wan.config import VaeConfig

GUARD = 6  # latents thrown away at a tile's border; the convolutions after the attention reach 12, the last ones little


class VideoAutoencoder(nn.Module):
    """Encoder, decoder and the latents' mean and standard deviation."""

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = CausalConv3d(2 * config.z_dim, 2 * config.z_dim, 1)
        self.post_quant_conv = CausalConv3d(config.z_dim, config.z_dim, 1)
        self.decoder = Decoder(config)
        # buffers, so that they follow the module to its device; the numbers live in config.json, not in the weights
        self.register_buffer("latents_mean", _per_channel(config.latents_mean), persistent=False)
        self.register_buffer("latents_std", _per_channel(config.latents_std), persistent=False)

    def set_latent_statistics(self, mean: list[float], std: list[float]) -> None:
        """Records the statistics that normalise the latents, in the config and in the module."""
        self.config = self.config.with_statistics(mean, std)
        self.latents_mean = _per_channel(mean).to(self.latents_mean)
        self.latents_std = _per_channel(std).to(self.latents_std)

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (both [B, z, 1+k, H, W], unnormalised) of a clip of 1 + 4k frames."""
        if (video_BCTHW.shape[2] - 1) % self.config.scale_factor_temporal:
            raise ValueError(f"a clip has 1 + 4k frames, got {video_BCTHW.shape[2]}")
        return self._encode(video_BCTHW, None)

    def encode_latent(self, video_BCTHW: Tensor) -> Tensor:
        """Normalised latent (the posterior's mean) of a clip."""
        return self.normalise(self.encode(video_BCTHW)[0])

    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Normalised latents of chunks of frames: the first of 1 + 4k, every later one of 4k frames."""
        state: State = {}
        for video_BCTHW in chunks:
            yield self.normalise(self._encode(video_BCTHW, state)[0])

    def decode(self, latent_BCTHW: Tensor, *, clamp: bool = True) -> Tensor:
        """Video (-1..1) of a normalised latent, all at once: fastest, memory grows with length.

        Training looks at the video before it is clamped to -1..1, where gradients still flow.
        """
        return self._decode(latent_BCTHW, None, clamp=clamp)

    def decode_stream(self, latents: Tensor | Iterable[Tensor], state: State | None = None) -> Iterator[Tensor]:
        """Video chunks of a latent, one latent frame at a time (1 frame, then 4 each), in constant memory.

        Pass the same `state` to later calls to go on with the same film.
        """
        state = {} if state is None else state
        frames = latents.split(1, dim=2) if isinstance(latents, Tensor) else latents
        for latent_BCTHW in frames:
            yield self._decode(latent_BCTHW, state)

    def encode_in_chunks(self, video_BCTHW: Tensor, latents_at_once: int) -> Tensor:
        """Normalised latent of a clip, some latent frames at a time: equal to the whole, in less memory."""
        temporal = self.config.scale_factor_temporal
        first, rest = video_BCTHW[:, :, : 1 + temporal * (latents_at_once - 1)], latents_at_once * temporal
        later = video_BCTHW[:, :, first.shape[2] :]
        chunks = [first, *(later.split(rest, dim=2) if later.shape[2] else ())]
        return torch.cat(list(self.encode_stream(chunks)), dim=2)

    def decode_tiled(self, latent_BCTHW: Tensor, tile: int, latents_at_once: int = 1) -> Tensor:
        """Video (-1..1, float32, on the CPU) decoded in square tiles of at most `tile` pixels.

        The first part of the decoder, with the attention that spans the frame, runs on the whole frame: it is small,
        64 or 256 pixels to a latent. The rest runs on one tile of a few frames at a time, with a border of up to
        `GUARD` latents that is thrown away, because there the tile's own edge shows. What the border does not reach is
        an approximation: for tiles of 128 pixels or more at 8 pixels a latent (256 at 16), at least 75 dB PSNR against
        the whole frame with trained weights and 50 dB with random ones (`tests/unit/test_tiles.py`).
        """
        scale = self.config.scale_factor_spatial
        size = max(4, tile // scale)
        state: State = {}
        parts = [self._begin(part, state).cpu() for part in latent_BCTHW.split(latents_at_once, dim=2)]
        b, _, t, rows, columns = latent_BCTHW.shape
        video = torch.empty(b, 3, self.config.geometry.video_frames(t), rows * scale, columns * scale)
        for seen_y, kept_y in _tiles(rows, size, min(GUARD, size // 4)):
            for seen_x, kept_x in _tiles(columns, size, min(GUARD, size // 4)):
                state, start = {}, 0
                out = video[..., _times(kept_y, scale), _times(kept_x, scale)]
                inside_y = _times(slice(kept_y.start - seen_y.start, kept_y.stop - seen_y.start), scale)
                inside_x = _times(slice(kept_x.start - seen_x.start, kept_x.stop - seen_x.start), scale)
                for part in parts:
                    frames = self._end(part[..., seen_y, seen_x].to(latent_BCTHW.device), state)
                    frames = frames[..., inside_y, inside_x].clamp(-1, 1)
                    out[:, :, start : start + frames.shape[2]] = frames.float().cpu()
                    start += frames.shape[2]
        return video

    def normalise(self, mean_BCTHW: Tensor) -> Tensor:
        return (mean_BCTHW - self.latents_mean.to(mean_BCTHW)) / self.latents_std.to(mean_BCTHW)

    def denormalise(self, latent_BCTHW: Tensor) -> Tensor:
        return latent_BCTHW * self.latents_std.to(latent_BCTHW) + self.latents_mean.to(latent_BCTHW)

    def _encode(self, video: Tensor, state: State | None) -> tuple[Tensor, Tensor]:
        patches = _patchify(video, self.config.patch_size or 1).contiguous(memory_format=torch.channels_last_3d)
        h = self.quant_conv(self.encoder(patches, state))
        mean, logvar = h.chunk(2, dim=1)
        return mean, logvar

    def _decode(self, latent: Tensor, state: State | None, *, clamp: bool = True) -> Tensor:
        video = self._end(self._begin(latent, state), state)
        return video.clamp(-1, 1) if clamp else video

    def _begin(self, latent: Tensor, state: State | None) -> Tensor:
        """The part of decoding that looks across the whole frame, at the latent's size."""
        latent = self.denormalise(latent).contiguous(memory_format=torch.channels_last_3d)  # fastest for convolutions
        return self.decoder.begin(self.post_quant_conv(latent), state)

    def _end(self, features: Tensor, state: State | None) -> Tensor:
        return _unpatchify(self.decoder.end(features, state), self.config.patch_size or 1)


def _tiles(total: int, size: int, guard: int) -> list[tuple[slice, slice]]:
    """Tiles of at most `size` that cover `total`: what each one sees, and what is kept of it, `guard` further inside.

    At the frame's own edges nothing is thrown away.
    """
    if size >= total:
        return [(slice(0, total), slice(0, total))]
    count = -(-(total - 2 * guard) // (size - 2 * guard))  # as many as it takes, and all of about the same size
    edges = [guard + (total - 2 * guard) * index // count for index in range(count + 1)]
    edges[0], edges[-1] = 0, total
    return [
        (slice(max(0, start - guard), min(total, stop + guard)), slice(start, stop))
        for start, stop in zip(edges[:-1], edges[1:], strict=True)
    ]


def _times(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)


class Encoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.base_dim * m for m in (1, *config.dim_mult)]
        last = len(config.dim_mult) - 1
        self.conv_in = CausalConv3d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for i, (width, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            in_time = i < last and config.temperal_downsample[i]
            if config.is_residual:
                self.down_blocks.append(
                    ResidualDown(width, width_out, config.num_res_blocks, in_space=i < last, in_time=in_time)
                )
                continue
            for j in range(config.num_res_blocks):
                self.down_blocks.append(ResidualBlock(width if j == 0 else width_out, width_out))
            if i < last:
                self.down_blocks.append(Downsample(width_out, in_time=in_time))
        self.mid_block = MidBlock(widths[-1])
        self.norm_out = ChannelRMSNorm(widths[-1], 3)
        self.conv_out = CausalConv3d(widths[-1], 2 * config.z_dim, 3, padding=1)

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        x = self.conv_in(x, state)
        for block in self.down_blocks:
            x = block(x, state)
        x = self.mid_block(x, state)
        return self.conv_out(norm_silu(self.norm_out, x), state)


class Decoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        base = config.decoder_base_dim or config.base_dim
        widths = [base * m for m in (config.dim_mult[-1], *reversed(config.dim_mult))]
        last = len(config.dim_mult) - 1
        in_time = list(reversed(config.temperal_downsample))
        self.conv_in = CausalConv3d(config.z_dim, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0])
        self.up_blocks = nn.ModuleList()
        for i, (width, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            if i > 0 and not config.is_residual:
                width //= 2  # the plain kind's upsampler halves its channels
            block = ResidualUp if config.is_residual else Up
            self.up_blocks.append(
                block(width, width_out, config.num_res_blocks + 1, in_space=i < last, in_time=i < last and in_time[i])
            )
        self.norm_out = ChannelRMSNorm(widths[-1], 3)
        self.conv_out = CausalConv3d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        return self.end(self.begin(x, state), state)

    def begin(self, x: Tensor, state: State | None) -> Tensor:
        """Up to the attention, which spans the frame, and the block after it."""
        y: Tensor = self.mid_block(self.conv_in(x, state), state)
        return y

    def end(self, x: Tensor, state: State | None) -> Tensor:
        """From the latent's size to pixels, by convolutions only."""
        for block in self.up_blocks:
            x = block(x, state)
        return self.conv_out(norm_silu(self.norm_out, x), state)


class ResidualBlock(nn.Module):
    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.norm1 = ChannelRMSNorm(width, 3)
        self.conv1 = CausalConv3d(width, width_out, 3, padding=1)
        self.norm2 = ChannelRMSNorm(width_out, 3)
        self.conv2 = CausalConv3d(width_out, width_out, 3, padding=1)
        self.conv_shortcut = CausalConv3d(width, width_out, 1) if width != width_out else nn.Identity()

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        h = self.conv1(norm_silu(self.norm1, x), state)
        h = self.conv2(norm_silu(self.norm2, h), state)
        return self.conv_shortcut(x) + h


def residual_blocks(width: int, width_out: int, count: int) -> nn.ModuleList:
    """A run of blocks, the first of which changes the width."""
    return nn.ModuleList(ResidualBlock(width if i == 0 else width_out, width_out) for i in range(count))


class SpatialAttention(nn.Module):
    """Single-head attention among the pixels of each frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(width, 2)
        self.to_qkv = Conv2d(width, 3 * width, 1)
        self.proj = Conv2d(width, width, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x_FCHW = frames_of(x_BCTHW)
        x_FPC = self.norm(x_FCHW).flatten(2).transpose(1, 2)  # P pixels
        q, k, v = _pointwise(self.to_qkv, x_FPC).unsqueeze(1).chunk(3, dim=-1)
        y_FPC = F.scaled_dot_product_attention(q, k, v)[:, 0]
        y_FCHW = _pointwise(self.proj, y_FPC).transpose(1, 2).unflatten(2, x_FCHW.shape[2:])
        return x_BCTHW + video_of(y_FCHW, x_BCTHW.shape[0])


def _pointwise(conv: Conv2d, x_FPC: Tensor) -> Tensor:
    """A convolution of 1 x 1 on pixels whose channels are last."""
    bias = None if conv.bias is None else conv.bias.to(x_FPC.dtype)
    return linear(x_FPC, conv.weight.flatten(1).to(x_FPC.dtype), bias)


class MidBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResidualBlock(width, width), ResidualBlock(width, width)])
        self.attentions = nn.ModuleList([SpatialAttention(width)])

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, state))
        return self.resnets[1](x, state)


class Downsample(nn.Module):
    """Halves height and width, and time after the first frame, which stays as it is."""

    def __init__(self, width: int, *, in_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), Conv2d(width, width, 3, stride=2))
        self.time_conv = CausalConv3d(width, width, (3, 1, 1), stride=(2, 1, 1)) if in_time else None

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        x = _per_frame(self.resample, x)
        if self.time_conv is None:
            return x
        previous = None if state is None else state.get(self)
        if state is not None:
            state[self] = x[:, :, -1:].clone()
        if previous is not None:
            return self.time_conv(cat_frames([previous, x]))
        first = x[:, :, :1]
        return first if x.shape[2] == 1 else cat_frames([first, self.time_conv(x)])


class Upsample(nn.Module):
    """Doubles height and width, and time after the first frame, which stays as it is."""

    def __init__(self, width: int, width_out: int, *, in_time: bool) -> None:
        super().__init__()
        conv = Conv2d(width, width_out, 3, padding=1)
        self.resample = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv)
        self.time_conv = CausalConv3d(width, 2 * width, (3, 1, 1), padding=(1, 0, 0)) if in_time else None

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        if self.time_conv is not None:
            x = self._double_time(x, state)
        return _per_frame(self.resample, x)

    def _double_time(self, x: Tensor, state: State | None) -> Tensor:
        first: Tensor | None = None
        if state is None or self not in state:
            first, x = x[:, :, :1], x[:, :, 1:]  # the later frames see zeros, not the first frame, as in Wan
            if state is not None:
                state[self] = first.new_empty(0)  # any entry says: the film has begun
            if x.shape[2] == 0:
                return first
        assert self.time_conv is not None
        b, c, t, h, w = x.shape
        y = self.time_conv(x, state).view(b, 2, c, t, h, w).permute(3, 1, 0, 4, 5, 2)  # two frames of each, [T2BHWC]
        y = y.reshape(2 * t, b, h, w, c).permute(1, 4, 0, 2, 3)
        return y if first is None else cat_frames([first, y])


class Up(nn.Module):
    """Residual blocks, then an upsampler that halves the channels (the plain kind)."""

    def __init__(self, width: int, width_out: int, num_blocks: int, *, in_space: bool, in_time: bool) -> None:
        super().__init__()
        self.resnets = residual_blocks(width, width_out, num_blocks)
        self.upsamplers = nn.ModuleList([Upsample(width_out, width_out // 2, in_time=in_time)]) if in_space else None

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        for block in self.resnets:
            x = block(x, state)
        return x if self.upsamplers is None else self.upsamplers[0](x, state)


class ResidualDown(nn.Module):
    """Residual blocks and a downsampler, with an averaging shortcut around them (the residual kind)."""

    def __init__(self, width: int, width_out: int, num_blocks: int, *, in_space: bool, in_time: bool) -> None:
        super().__init__()
        self.resnets = residual_blocks(width, width_out, num_blocks)
        self.downsampler = Downsample(width_out, in_time=in_time) if in_space else None
        self.width_out, self.factor_s, self.factor_t = width_out, 2 if in_space else 1, 2 if in_time else 1

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        shortcut = self._average(x)
        for block in self.resnets:
            x = block(x, state)
        if self.downsampler is not None:
            x = self.downsampler(x, state)
        return x + shortcut

    def _average(self, x: Tensor) -> Tensor:
        """Folds space and time into channels and averages groups of them down to `width_out`."""
        s, r = self.factor_s, self.factor_t
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % r, 0))
        b, c, t, h, w = x.shape
        x = x.view(b, c, t // r, r, h // s, s, w // s, s).permute(0, 1, 3, 5, 7, 2, 4, 6)
        return x.reshape(b, self.width_out, c * r * s * s // self.width_out, t // r, h // s, w // s).mean(dim=2)


class ResidualUp(nn.Module):
    """Residual blocks and an upsampler, with a repeating shortcut around them (the residual kind)."""

    def __init__(self, width: int, width_out: int, num_blocks: int, *, in_space: bool, in_time: bool) -> None:
        super().__init__()
        self.resnets = residual_blocks(width, width_out, num_blocks)
        self.upsampler = Upsample(width_out, width_out, in_time=in_time) if in_space else None
        self.width_out, self.factor_t = width_out, 2 if in_time else 1

    def forward(self, x: Tensor, state: State | None) -> Tensor:
        begins = state is None or self not in state
        shortcut = self._repeat(x, begins) if self.upsampler is not None else None
        for block in self.resnets:
            x = block(x, state)
        if self.upsampler is None or shortcut is None:
            return x
        if state is not None:
            state[self] = x.new_empty(0)
        return self.upsampler(x, state) + shortcut

    def _repeat(self, x: Tensor, begins: bool) -> Tensor:
        """Repeats channels and unfolds them into space and time; the first frame yields one frame, not two."""
        b, c, t, h, w = x.shape
        r = self.factor_t
        source = torch.arange(c, device=x.device).repeat_interleave(self.width_out * r * 4 // c)
        source = source.view(self.width_out, r, 2, 2).permute(1, 2, 3, 0).flatten()  # channels last, and stay so
        x = x.permute(2, 0, 3, 4, 1)[..., source].view(t, b, h, w, r, 2, 2, self.width_out)
        x = x.permute(0, 4, 1, 2, 5, 3, 6, 7).reshape(t * r, b, 2 * h, 2 * w, self.width_out).permute(1, 4, 0, 2, 3)
        return x[:, :, r - 1 :] if begins else x


def _per_channel(values: tuple[float, ...] | list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def _per_frame(module: nn.Module, x_BCTHW: Tensor) -> Tensor:
    return video_of(module(frames_of(x_BCTHW)), x_BCTHW.shape[0])


def _patchify(x: Tensor, p: int) -> Tensor:
    """[B, C, T, H, W] -> [B, C*p*p, T, H/p, W/p], in diffusers' channel order (column before row)."""
    if p == 1:
        return x
    b, c, t, h, w = x.shape
    return x.view(b, c, t, h // p, p, w // p, p).permute(0, 1, 6, 4, 2, 3, 5).reshape(b, c * p * p, t, h // p, w // p)


def _unpatchify(x: Tensor, p: int) -> Tensor:
    if p == 1:
        return x
    b, c, t, h, w = x.shape
    x = x.view(b, c // (p * p), p, p, t, h, w).permute(0, 1, 4, 5, 3, 6, 2)
    return x.reshape(b, c // (p * p), t, h * p, w * p)
