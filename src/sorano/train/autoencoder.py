"""Learning to code video: reconstruction, weighted where the things are.

Things cover a small part of a picture, and plain losses give them up for the sky; the world knows where they are, so
their pixels count `thing_weight` times. A run begins with single frames, which the causal autoencoder codes alone and
which are cheap, and goes on with clips.

Once the flow model has learned the latents, the encoder must stay as it is; the decoder may go on learning alone
(`decoder_only`), from latents with a little noise, for those that it will be given are not exact.

An autoencoder that was grown from a smaller one (`sorano.train.grow`) keeps the smaller one's latents in its first
channels, so that a flow model which knows those need not learn them anew: `align_weight` times the squared distance, in
the smaller one's standard deviations, from what that one codes of the reduced video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.wan.vae import VideoAutoencoder
from sorano.shapes import VideoShape
from sorano.train.clips import ClipStore
from sorano.train.loop import Batch


@dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """Weights of the terms, each a mean over pixels or latents."""

    thing_weight: float = 8.0  # of a pixel of a thing, against 1 for the rest
    gradient_weight: float = 1.0  # of the difference between neighbouring pixels: keeps edges
    kl_weight: float = 3e-3  # of the divergence from a standard normal: latents that a flow model can hit well enough
    new_kl_weight: float = 1e-4  # the same of channels that the source does not have: what is new starts weak, and more
    # than this pulls it to zero before the decoder has learned to use it
    align_weight: float = 0.1  # of the distance from the latents of the autoencoder that this one was grown from
    decoder_noise: float = 0.1  # where the decoder learns alone: on its latents, in their standard deviations


class AutoencoderTask:
    """Frames (`num_frames` 1) or clips, at random offsets of random clips."""

    def __init__(
        self,
        name: str,
        model: VideoAutoencoder,
        store: ClipStore,
        *,
        batch_size: int,
        num_frames: int,
        dtype: torch.dtype,
        loss: AutoencoderLoss | None = None,
        num_clips: int | None = None,
        source: VideoAutoencoder | None = None,
        decoder_only: bool = False,
    ) -> None:
        self.decoder_only = decoder_only
        if decoder_only:
            model.requires_grad_(False)
            for part in (model.post_quant_conv, model.decoder):
                part.requires_grad_(True)
        self.num_clips = min(num_clips or len(store), len(store))  # so that more of them change nothing
        self.name, self.model, self.store, self.source = name, model, store, source
        self.batch_size, self.num_frames, self.dtype = batch_size, num_frames, dtype
        self.weights = loss or AutoencoderLoss()
        self.device = next(model.parameters()).device

    def batch(self, generator: torch.Generator) -> Batch:
        clips = torch.randint(self.num_clips, (self.batch_size,), generator=generator).tolist()
        last = self.store.spec.num_frames - self.num_frames
        starts = torch.randint(last + 1, (self.batch_size,), generator=generator).tolist()
        frames = [self.store.frames_NTHWC[n, t : t + self.num_frames] for n, t in zip(clips, starts, strict=True)]
        masks = [self.store.masks_NTHW[n, t : t + self.num_frames] for n, t in zip(clips, starts, strict=True)]
        return {
            "frames_BTHWC": torch.from_numpy(np.stack(frames)).to(self.device, non_blocking=True),
            "masks_BTHW": torch.from_numpy(np.stack(masks)).to(self.device, non_blocking=True),
        }

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        video = to_video(batch["frames_BTHWC"])
        thing = (batch["masks_BTHW"] > 0)[:, None].float()
        b, _, t, h, w = video.shape
        config = self.model.config
        latent = config.geometry.latent(VideoShape(t, h, w))
        shape = (b, config.z_dim, latent.num_frames, latent.rows, latent.columns)
        noise = torch.randn(shape, generator=generator).to(self.device)
        made, mean, logvar = self._reconstruct(video.to(self.dtype), noise)
        made, mean, logvar = made.float(), mean.float(), logvar.float().clamp(-30, 20)

        difference = made - video
        weight = 1 + (self.weights.thing_weight - 1) * thing
        pixel = (weight * difference.abs()).mean()
        edges = (weight[..., 1:] * difference.diff(dim=-1).abs()).mean()
        edges = edges + (weight[..., 1:, :] * difference.diff(dim=-2).abs()).mean()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)
        total = pixel + self.weights.gradient_weight * edges + (self._kl_weights(mean) * divergence).mean()
        with torch.no_grad():
            squares = difference.square()
            thing_error = (squares * thing).sum() / (3 * thing.sum()).clamp_min(1)
            numbers = {"psnr": psnr(squares.mean()), "thing_psnr": psnr(thing_error), "kl": divergence.mean()}
        if self.source is not None:
            apart = self._distance(self.source, video, mean)
            total = total + self.weights.align_weight * apart
            numbers["apart"] = apart.detach()
        return total, numbers

    def _kl_weights(self, mean_BCTHW: Tensor) -> Tensor:
        """The divergence's weight of each channel [C, 1, 1, 1]."""
        weights = torch.full((mean_BCTHW.shape[1], 1, 1, 1), self.weights.kl_weight, device=mean_BCTHW.device)
        if self.source is not None:
            weights[self.source.config.z_dim :] = self.weights.new_kl_weight
        return weights

    def _distance(self, source: VideoAutoencoder, video: Tensor, mean: Tensor) -> Tensor:
        """The mean squared distance of the first channels from the source's latents of the reduced video."""
        factor = self.model.config.scale_factor_spatial // source.config.scale_factor_spatial
        with torch.no_grad():
            small = F.avg_pool3d(video, (1, factor, factor)) if factor > 1 else video
            target = source.encode(small.to(self.dtype))[0].float()
        return ((mean[:, : target.shape[1]] - target) / source.latents_std.float()).square().mean()

    def _reconstruct(self, video: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.decoder_only:
            with torch.no_grad():
                mean, logvar = self.model.encode(video)
            latent = self.model.normalise(mean.float()) + self.weights.decoder_noise * noise
            return self.model.decode(latent.to(video.dtype), clamp=False), mean, logvar
        mean, logvar = self.model.encode(video)
        sampled = mean.float() + noise * (0.5 * logvar.float().clamp(-30, 20)).exp()
        return self.model.decode(self.model.normalise(sampled).to(video.dtype), clamp=False), mean, logvar

    def sheet(self, model: nn.Module) -> np.ndarray:
        """Held frames above, what the autoencoder makes of them below."""
        assert isinstance(model, VideoAutoencoder)
        clips = self.store.frames_NTHWC[max(0, self.num_clips - 4) : self.num_clips, : self.num_frames]
        with torch.no_grad():
            video = to_video(torch.from_numpy(np.ascontiguousarray(clips)).to(self.device)).to(self.dtype)
            made = to_frames(model.decode(model.encode_latent(video)))
        columns = np.linspace(0, self.num_frames - 1, min(5, self.num_frames)).round().astype(int)
        pairs = [
            np.concatenate([_row(clip, columns), _row(copy, columns)]) for clip, copy in zip(clips, made, strict=True)
        ]
        rows = [pairs[:2], pairs[2:]] if len(pairs) == 4 else [[pair] for pair in pairs]
        return np.concatenate([np.concatenate(row, 1) for row in rows])


def to_video(frames_BTHWC: Tensor) -> Tensor:
    """8-bit frames to video_BCTHW, -1..1, float32."""
    return frames_BTHWC.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_frames(video_BCTHW: Tensor) -> np.ndarray:
    """video_BCTHW, -1..1, to 8-bit frames_BTHWC."""
    frames = ((video_BCTHW.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return frames.permute(0, 2, 3, 4, 1).cpu().numpy()


def psnr(mean_square: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of an error on the -1..1 scale."""
    return 10 * torch.log10(4 / mean_square.clamp_min(1e-10))


def _row(frames_THWC: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.concatenate([frames_THWC[c] for c in columns], axis=1)
