"""What is given and what is to be made: every verb is a condition on one latent state.

A `LatentState` holds the noise that the solver starts from, the clean latents that are known, which latents those are,
and where in time each latent frame stands. Known latents are put into the network's input at timestep 0 and are never
integrated, so image-to-video is the same loop as text-to-video with one latent frame given.

Models differ in how they take what is given, and a `Taker` speaks for the model: one with a timestep for each token
takes known latents as tokens; Wan's image to video takes them as channels beside the latent (a mask of each frame, and
the encoding of the video with grey where nothing is given), in 2.1 with an image encoder's tokens as well.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sorano.errors import RequestError, VideoError
from sorano.shapes import TEMPORAL, LatentShape, VideoShape
from sorano.video import fill, read_image

if TYPE_CHECKING:
    from sorano.video import Frames


class Taker(Protocol):
    """A model, as far as what is given concerns it."""

    @property
    def takes(self) -> str:
        """ "tokens", "channels" or "nothing"."""

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
    # for models that take what is given as channels
    frames: tuple[tuple[int, Frames], ...] = ()  # given frames [H, W, 3] of the video's size, by their place in it
    beside_BCTHW: Tensor | None = None
    image_BSD: Tensor | None = None

    @property
    def any_known(self) -> bool:
        """Whether anything is given."""
        return bool(self.known_mask_BTHW.any())

    def with_known(self, latent_BCTHW: Tensor, *, start: int = 0) -> LatentState:
        """The same state with these clean latents known from latent frame `start` on."""
        stop = start + latent_BCTHW.shape[2]
        known, mask = self.known_BCTHW.clone(), self.known_mask_BTHW.clone()
        known[:, :, start:stop] = latent_BCTHW.to(known)
        mask[:, start:stop] = True
        return replace(self, known_BCTHW=known, known_mask_BTHW=mask)

    def with_frame(self, place: int, frame_HWC: Frames) -> LatentState:
        """The same state with this frame given, in pixels, at its place in the video."""
        return replace(self, frames=tuple(sorted([*self.frames, (place, frame_HWC)], key=lambda given: given[0])))


class Condition(Protocol):
    """Something that is given: it puts what it knows into the state and says in words what it did."""

    def apply(self, state: LatentState, shape: VideoShape, model: Taker) -> tuple[LatentState, str]: ...


@dataclass(frozen=True)
class FirstFrame:
    """The video begins with this picture [H, W, 3]. It is encoded alone, as the causal autoencoder codes frame 0."""

    frame_HWC: Frames

    def apply(self, state: LatentState, shape: VideoShape, model: Taker) -> tuple[LatentState, str]:
        """The state with its first frame given; the picture is scaled to fill the video and cropped."""
        frame_HWC, said = fill(self.frame_HWC, shape.width, shape.height)
        if model.takes == "tokens":
            return state.with_known(model.encode(frames_to_video(frame_HWC[None]))), said
        return state.with_frame(0, frame_HWC), said


@dataclass(frozen=True)
class LastFrame:
    """The video ends with this picture [H, W, 3], on models that were trained on a first and a last one."""

    frame_HWC: Frames

    def apply(self, state: LatentState, shape: VideoShape, model: Taker) -> tuple[LatentState, str]:
        """The state with its last frame given; the picture is scaled to fill the video and cropped."""
        frame_HWC, said = fill(self.frame_HWC, shape.width, shape.height)
        return state.with_frame(shape.num_frames - 1, frame_HWC), said


def as_channels(state: LatentState, shape: VideoShape, model: Taker) -> LatentState:
    """The given frames as channels beside the latent, and as image tokens, where the model takes them so."""
    if model.takes != "channels":
        return state
    video_BCTHW = torch.zeros(1, 3, shape.num_frames, shape.height, shape.width)
    given_F = torch.zeros(shape.num_frames)
    for place, frame_HWC in state.frames:
        video_BCTHW[:, :, place] = frames_to_video(frame_HWC[None])[:, :, 0]
        given_F[place] = 1
    latent_BCTHW = model.encode(video_BCTHW)
    # a latent frame codes four frames and has a channel for each; the first codes one, which counts four times
    given_F = torch.cat([given_F[:1].expand(TEMPORAL), given_F[1:]])
    mask_BCTHW = given_F.view(-1, TEMPORAL).T[None, :, :, None, None].expand(1, -1, *latent_BCTHW.shape[2:])
    image_BSD = model.see([frame_HWC for _, frame_HWC in state.frames])
    return replace(state, beside_BCTHW=torch.cat([mask_BCTHW, latent_BCTHW], dim=1), image_BSD=image_BSD)


def read_picture(path: str | Path) -> Frames:
    """A picture [H, W, 3]. Raises RequestError for a file that is missing, broken or too large."""
    try:
        return read_image(path)
    except VideoError as error:
        raise RequestError(error.message, error.hint) from error


def start_state(seeds: Iterable[int], channels: int, latent: LatentShape) -> LatentState:
    """Nothing known yet: noise drawn in float32 on the CPU, for each video from a generator of its own seed."""
    shape = (channels, latent.num_frames, latent.rows, latent.columns)
    noise = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    return LatentState(
        noise_BCTHW=torch.stack(noise),
        known_BCTHW=torch.zeros(len(noise), *shape),
        known_mask_BTHW=torch.zeros(len(noise), *shape[1:], dtype=torch.bool),
        positions_T=tuple(float(index) for index in range(latent.num_frames)),
    )


def frames_to_video(frames_THWC: Frames) -> Tensor:
    """uint8 frames to video_BCTHW, float32 in -1..1, a batch of one."""
    video_CTHW = torch.from_numpy(frames_THWC.copy()).permute(3, 0, 1, 2)
    return video_CTHW[None].float() / 127.5 - 1


def video_to_frames(video_BCTHW: Tensor) -> Frames:
    """The first video of a batch, -1..1, as uint8 frames_THWC; values beyond are clipped."""
    video_THWC = video_BCTHW[0].float().clamp(-1, 1).permute(1, 2, 3, 0)
    frames: Frames = ((video_THWC + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    return frames
