"""The arithmetic between seconds, frames, pixels, latents and tokens. Every `// 8` and `4k + 1` lives here.

The causal autoencoder codes the first frame alone and every later latent frame from `temporal` (4) frames, so
a video has `4k + 1` frames for `k + 1` latent frames. Rows and columns shrink by `spatial` (8), and the
transformer groups 2 x 2 latents into one token, so heights and widths lie on a grid of 16 pixels.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sorano.errors import RequestError

TEMPORAL = 4  # frames for each latent frame after the first
SPATIAL = 8  # pixels for each latent row or column
PATCH = (1, 2, 2)  # latents for each token: frames, rows, columns


@dataclass(frozen=True)
class Geometry:
    """How a model family lays a video out as latents and tokens.

    The causal autoencoder codes the first frame alone and every later latent frame from `temporal` frames; rows and
    columns shrink by `spatial`, and `patch` latents (frames, rows, columns) are one token.
    """

    temporal: int = TEMPORAL
    spatial: int = SPATIAL
    patch: tuple[int, int, int] = PATCH

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video. Raises ValueError for a number of frames that the family does not code."""
        return latent_frames(num_frames, self.temporal)

    def video_frames(self, num_latents: int) -> int:
        """Frames that latent frames at the beginning of a video decode to."""
        return video_frames(num_latents, self.temporal)

    def nearest_num_frames(self, seconds: float, fps: float) -> int:
        """The number of frames that the family codes which lasts nearest to `seconds`."""
        return nearest_num_frames(seconds, fps, self.temporal)

    def floor_num_frames(self, num_frames: int) -> int:
        """The largest number of frames that the family codes, up to this one."""
        return self.video_frames(1 + (num_frames - 1) // self.temporal)

    def later_latents(self, num_frames: float) -> int:
        """Latent frames, at least 1, that code about so many frames after the beginning of a video."""
        return max(1, round(num_frames / self.temporal))

    def latent(self, shape: VideoShape) -> LatentShape:
        """The shape of a video's latents. Raises ValueError where the video is off the grid."""
        return shape.latent(spatial=self.spatial, temporal=self.temporal)

    @property
    def pixel_grid(self) -> int:
        """Pixels between neighbouring sizes."""
        return pixel_grid(self.spatial, self.patch)

    @property
    def frames_rule(self) -> str:
        """How many frames a video has, for users: "4k + 1"."""
        return f"{self.temporal}k + 1"


@dataclass(frozen=True)
class VideoShape:
    """A video in pixels. `num_frames` is 4k + 1, `height` and `width` are multiples of `SPATIAL`."""

    num_frames: int
    height: int
    width: int

    def latent(self, *, spatial: int = SPATIAL, temporal: int = TEMPORAL) -> LatentShape:
        """The shape of this video's latents. Raises ValueError where the video is off the grid."""
        if self.height % spatial or self.width % spatial:
            raise ValueError(f"{self.width}x{self.height} is not a multiple of {spatial} pixels")
        return LatentShape(latent_frames(self.num_frames, temporal), self.height // spatial, self.width // spatial)

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

    def tokens(self, patch: tuple[int, int, int] = PATCH) -> int:
        """How many tokens the transformer sees. Raises ValueError where patches do not divide the latents."""
        frames, rows, columns = patch
        if self.num_frames % frames or self.rows % rows or self.columns % columns:
            raise ValueError(f"{self} does not divide into patches of {patch}")
        return (self.num_frames // frames) * (self.rows // rows) * (self.columns // columns)

    def video(self, *, spatial: int = SPATIAL, temporal: int = TEMPORAL) -> VideoShape:
        """The shape of the video that these latents decode to."""
        return VideoShape(video_frames(self.num_frames, temporal), self.rows * spatial, self.columns * spatial)


def latent_frames(num_frames: int, temporal: int = TEMPORAL) -> int:
    """Latent frames of a video of 4k + 1 frames: k + 1. Raises ValueError for other counts."""
    if num_frames < 1 or (num_frames - 1) % temporal:
        raise ValueError(f"{num_frames} frames is not {temporal}k + 1")
    return 1 + (num_frames - 1) // temporal


def video_frames(num_latent_frames: int, temporal: int = TEMPORAL) -> int:
    """Frames that k + 1 latent frames decode to: 4k + 1."""
    return 1 + (num_latent_frames - 1) * temporal


def nearest_num_frames(seconds: float, fps: float, temporal: int = TEMPORAL) -> int:
    """The number of frames 4k + 1 (k at least 0) that lasts nearest to `seconds`."""
    return 1 + temporal * max(0, math.floor((seconds * fps - 1) / temporal + 0.5))


def nearest_size(width: int, height: int, grid: int) -> tuple[int, int]:
    """The (width, height) on a grid of `grid` pixels nearest to this one, at least one cell each way."""
    return _nearest_multiple(width, grid), _nearest_multiple(height, grid)


def pixel_grid(spatial: int = SPATIAL, patch: tuple[int, int, int] = PATCH) -> int:
    """Pixels between neighbouring sizes: 16 for 8x compression and 2 x 2 patches."""
    return spatial * math.lcm(patch[1], patch[2])


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of "832x480". Raises RequestError where it is not two positive whole numbers."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(width, height) < 1:
        raise RequestError(
            f"size must be WIDTHxHEIGHT in pixels: got {text!r}",
            'write it like size="64x64" or --size 832x480',
        )
    return width, height


def format_size(width: int, height: int) -> str:
    """The size as users write it, "width x height": "832x480"."""
    return f"{width}x{height}"


def _nearest_multiple(pixels: int, grid: int) -> int:
    return grid * max(1, math.floor(pixels / grid + 0.5))
