"""The latent state that denoising starts from: noise, and the conditioning latents that are known.

Conditioning latents are put into the network's input at timestep 0 and are never integrated, so image-to-video is the
same loop as text-to-video with one latent frame given.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from sorano.shapes import Geometry, LatentShape, VideoShape

if TYPE_CHECKING:
    from torch import Tensor

    from sorano.video import Frames


class ConditionEncoder(Protocol):
    """The encoders of a model, for its conditions.

    Models differ in how they take conditions: one with a timestep for each token takes conditioning latents as tokens;
    Wan's image to video takes them as channels beside the latent (a mask of each frame, and the encoding of the video
    with grey where nothing is given), in 2.1 with an image encoder's tokens as well.
    """

    @property
    def takes(self) -> str:
        """ "tokens", "channels" or "nothing"."""

    @property
    def geometry(self) -> Geometry:
        """How the model lays pixels out as latents."""

    def encode(self, video_BCTHW: Tensor) -> Tensor:
        """Video in -1..1 to normalised latent_BCTHW: the autoencoder's `encode_latent`."""

    def see(self, frames: list[Frames]) -> Tensor | None:
        """The image encoder's tokens [1, S, D] of pictures [H, W, 3], one after the other; None without one."""


@dataclass(frozen=True)
class LatentState:
    """One batch of latents before denoising."""

    noise_BCTHW: Tensor  # float32 on the CPU, so that one seed gives one video on every device
    known_BCTHW: Tensor  # clean latents where known, zeros elsewhere
    known_mask_BTHW: Tensor  # bool: true where the latent is known
    positions_T: tuple[float, ...]  # where each latent frame stands in time, in latent frames; may be fractional
    known_noise: float = 0.0  # the share of noise that the known latents carry, and say that they do
    appended: int = 0  # keyframes: the last latent frames, which are no part of the video
    # an edit: what it starts from, and how much noise is put over that
    data_BCTHW: Tensor | None = None
    strength: float = 1.0
    # for models that take what is given as channels
    frames: tuple[tuple[int, Frames, Frames], ...] = ()  # place, picture [H, W, 3] of the video's size, and as given
    beside_BCTHW: Tensor | None = None
    image_BSD: Tensor | None = None

    @property
    def any_known(self) -> bool:
        """Whether anything is given."""
        return bool(self.known_mask_BTHW.any())

    @property
    def first_new(self) -> int:
        """The first latent frame that is not known as a whole; the last where all are."""
        known_T = self.known_mask_BTHW[0].flatten(1).all(1).tolist()
        return next((index for index, known in enumerate(known_T) if not known), len(known_T) - 1)

    def with_known(self, latent_BCTHW: Tensor, *, start: int = 0) -> LatentState:
        """The same state with these clean latents known from latent frame `start` on."""
        stop = start + latent_BCTHW.shape[2]
        known, mask = self.known_BCTHW.clone(), self.known_mask_BTHW.clone()
        known[:, :, start:stop] = latent_BCTHW.to(known)
        mask[:, start:stop] = True
        return replace(self, known_BCTHW=known, known_mask_BTHW=mask)

    def with_keyframe(self, latent_BCTHW: Tensor, position: float) -> LatentState:
        """The same state with a picture that was encoded alone, known at a place in time, in latent frames."""
        import torch

        mask_BTHW = torch.ones_like(self.known_mask_BTHW[:, :1])
        return replace(
            self,
            noise_BCTHW=torch.cat([self.noise_BCTHW, torch.zeros_like(self.noise_BCTHW[:, :, :1])], 2),
            known_BCTHW=torch.cat([self.known_BCTHW, latent_BCTHW.to(self.known_BCTHW)], 2),
            known_mask_BTHW=torch.cat([self.known_mask_BTHW, mask_BTHW], 1),
            positions_T=(*self.positions_T, position),
            appended=self.appended + 1,
        )

    def with_frame(self, place: int, frame_HWC: Frames, whole_HWC: Frames) -> LatentState:
        """The same state with this frame given, in pixels, at its place, and the picture that it was cut from."""
        given = [*self.frames, (place, frame_HWC, whole_HWC)]
        return replace(self, frames=tuple(sorted(given, key=lambda one: one[0])))


def as_channels(state: LatentState, shape: VideoShape, encoder: ConditionEncoder) -> LatentState:
    """The given frames as channels beside the latent, and as image tokens, where the model takes them so."""
    import torch

    if encoder.takes != "channels":
        return state
    video_BCTHW = torch.zeros(1, 3, shape.num_frames, shape.height, shape.width)
    given_F = torch.zeros(shape.num_frames)
    for place, frame_HWC, _ in state.frames:
        video_BCTHW[:, :, place] = frames_to_video(frame_HWC[None])[:, :, 0]
        given_F[place] = 1
    latent_BCTHW = encoder.encode(video_BCTHW)
    # a latent frame codes four frames and has a channel for each; the first codes one, which counts four times
    temporal = encoder.geometry.temporal
    given_F = torch.cat([given_F[:1].expand(temporal), given_F[1:]])
    mask_BCTHW = given_F.view(-1, temporal).T[None, :, :, None, None].expand(1, -1, *latent_BCTHW.shape[2:])
    image_BSD = encoder.see([whole_HWC for _, _, whole_HWC in state.frames])  # all of it, as stock pipelines show it
    return replace(state, beside_BCTHW=torch.cat([mask_BCTHW, latent_BCTHW], dim=1), image_BSD=image_BSD)


def start_state(seeds: Iterable[int], channels: int, latent: LatentShape) -> LatentState:
    """Nothing known yet: noise drawn in float32 on the CPU, for each video from a generator of its own seed."""
    import torch

    shape = (channels, latent.num_frames, latent.rows, latent.columns)
    noise = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    return unknown(torch.stack(noise))


def unknown(noise_BCTHW: Tensor) -> LatentState:
    """Nothing known yet but the noise."""
    import torch

    b, _, t, h, w = noise_BCTHW.shape
    return LatentState(
        noise_BCTHW=noise_BCTHW,
        known_BCTHW=torch.zeros_like(noise_BCTHW),
        known_mask_BTHW=torch.zeros(b, t, h, w, dtype=torch.bool),
        positions_T=tuple(float(index) for index in range(t)),
    )


def frames_to_video(frames_THWC: Frames) -> Tensor:
    """uint8 frames to video_BCTHW, float32 in -1..1, a batch of one."""
    import torch

    video_CTHW = torch.from_numpy(frames_THWC.copy()).permute(3, 0, 1, 2)
    return video_CTHW[None].float() / 127.5 - 1


def video_to_frames(video_BCTHW: Tensor) -> Frames:
    """The first video of a batch, -1..1, as uint8 frames_THWC; values beyond are clipped."""
    import torch

    video_THWC = video_BCTHW[0].float().clamp(-1, 1).permute(1, 2, 3, 0)
    frames: Frames = ((video_THWC + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    return frames
