"""Videos in seconds, frames, pixels, latents and tokens, and the arithmetic between them (`Geometry`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sorano.errors import RequestError


@dataclass(frozen=True)
class Geometry:
    """How a model lays a video out as latents and tokens.

    The causal autoencoder codes the first frame alone and every later latent frame from `temporal` frames, so a video
    of `temporal * k + 1` frames has k + 1 latent frames. Rows and columns shrink by `spatial`, and `patch` latents
    (frames, rows, columns) are one token.
    """

    temporal: int
    spatial: int
    patch: tuple[int, int, int] = (1, 1, 1)

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video. Raises ValueError for a number of frames that the model does not code."""
        if num_frames < 1 or (num_frames - 1) % self.temporal:
            raise ValueError(f"{num_frames} frames is not {self.frames_rule}")
        return 1 + (num_frames - 1) // self.temporal

    def video_frames(self, num_latents: int) -> int:
        """Frames that latent frames at the beginning of a video decode to."""
        return 1 + (num_latents - 1) * self.temporal

    def nearest_num_frames(self, seconds: float, fps: float) -> int:
        """The number of frames that the model codes which lasts nearest to `seconds`."""
        return 1 + self.temporal * max(0, math.floor((seconds * fps - 1) / self.temporal + 0.5))

    def floor_num_frames(self, num_frames: int) -> int:
        """The largest number of frames that the model codes, up to this one."""
        return self.video_frames(1 + (num_frames - 1) // self.temporal)

    def later_latents(self, num_frames: float) -> int:
        """Latent frames, at least 1, that code about so many frames after the beginning of a video."""
        return max(1, round(num_frames / self.temporal))

    def latent(self, shape: VideoShape) -> LatentShape:
        """The shape of a video's latents. Raises ValueError where the video is off the grid."""
        if shape.height % self.spatial or shape.width % self.spatial:
            raise ValueError(f"{shape.size} is not a multiple of {self.spatial} pixels")
        frames = self.latent_frames(shape.num_frames)
        return LatentShape(frames, shape.height // self.spatial, shape.width // self.spatial)

    def tokens(self, shape: VideoShape) -> int:
        """How many tokens the transformer sees of a video. Raises ValueError where it is off the grid."""
        return self.latent(shape).tokens(self.patch)

    @property
    def pixel_grid(self) -> int:
        """Pixels between neighbouring sizes: 16 for 8x compression and 2 x 2 patches."""
        return self.spatial * math.lcm(self.patch[1], self.patch[2])

    @property
    def frames_rule(self) -> str:
        """How many frames a video has, for users: "4k + 1"."""
        return f"{self.temporal}k + 1"


@dataclass(frozen=True)
class VideoShape:
    """A video in pixels."""

    num_frames: int
    height: int
    width: int

    @property
    def size(self) -> str:
        """The size as users write it, "width x height": "832x480"."""
        return format_size(self.width, self.height)


@dataclass(frozen=True)
class LatentShape:
    """A video in latents: frames, rows, columns."""

    num_frames: int
    rows: int
    columns: int

    def tokens(self, patch: tuple[int, int, int]) -> int:
        """How many tokens of `patch` latents these are. Raises ValueError where patches do not divide them."""
        frames, rows, columns = patch
        if self.num_frames % frames or self.rows % rows or self.columns % columns:
            raise ValueError(f"{self} does not divide into patches of {patch}")
        return (self.num_frames // frames) * (self.rows // rows) * (self.columns // columns)


def nearest_size(width: int, height: int, grid: int) -> tuple[int, int]:
    """The (width, height) on a grid of `grid` pixels nearest to this one, at least one cell each way."""
    return _nearest_multiple(width, grid), _nearest_multiple(height, grid)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of "832x480". Raises RequestError where it is not two positive whole numbers."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(width, height) < 1:
        is_lines = re.fullmatch(r"\s*\d{3,4}\s*", text)
        raise RequestError(
            f"size must be WIDTHxHEIGHT in pixels: got {text!r}",
            f"use --size {text.strip()}p" if is_lines else "use --size 832x480, 720p or 16:9",
        )
    return width, height


def format_size(width: int, height: int) -> str:
    """The size as users write it, "width x height": "832x480"."""
    return f"{width}x{height}"


def _nearest_multiple(pixels: int, grid: int) -> int:
    return grid * max(1, math.floor(pixels / grid + 0.5))
