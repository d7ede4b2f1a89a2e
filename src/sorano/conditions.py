"""What is given and what is to be made: every verb is a condition on one latent state.

A `LatentState` holds the noise that the solver starts from, the clean latents that are known, which latents those are,
and where in time each latent frame stands. Known latents are put into the network's input at timestep 0 and are never
integrated, so image-to-video is the same loop as text-to-video with one latent frame given.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sorano.errors import RequestError, VideoError
from sorano.shapes import LatentShape, VideoShape
from sorano.video import fill, read_image

if TYPE_CHECKING:
    from sorano.video import Frames

Encode = Callable[[Tensor], Tensor]
"""video_BCTHW in -1..1 to normalised latent_BCTHW: the autoencoder's `encode_latent`."""


@dataclass(frozen=True)
class LatentState:
    """One batch of latents before denoising."""

    noise_BCTHW: Tensor  # float32 on the CPU, so that one seed gives one video on every device
    known_BCTHW: Tensor  # clean latents where known, zeros elsewhere
    known_mask_BTHW: Tensor  # bool: true where the latent is known
    positions_T: tuple[float, ...]  # where each latent frame stands in time, in latent frames; may be fractional

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


class Condition(Protocol):
    """Something that is given: it puts what it knows into the state and says in words what it did."""

    def apply(self, state: LatentState, shape: VideoShape, encode: Encode) -> tuple[LatentState, str]: ...


@dataclass(frozen=True)
class FirstFrame:
    """The video begins with this picture [H, W, 3]. It is encoded alone, as the causal autoencoder codes frame 0."""

    frame_HWC: Frames

    @classmethod
    def of_file(cls, path: str | Path) -> FirstFrame:
        """Reads the picture. Raises RequestError for a file that is missing, broken or too large."""
        try:
            return cls(read_image(path))
        except VideoError as error:
            raise RequestError(error.message, error.hint) from error

    def apply(self, state: LatentState, shape: VideoShape, encode: Encode) -> tuple[LatentState, str]:
        """The state with its first latent frame known; the picture is scaled to fill the video and cropped."""
        frame_HWC, said = fill(self.frame_HWC, shape.width, shape.height)
        return state.with_known(encode(frames_to_video(frame_HWC[None]))), said


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
