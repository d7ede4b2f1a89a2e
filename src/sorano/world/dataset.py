"""Clips with captions and truth: a pure function of (split, seed, settings)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sorano.world import caption as captions
from sorano.world.physics import Cameras, place
from sorano.world.render import RenderScene, prepare, render
from sorano.world.scene import Attributes, Stream, draw_attributes


@dataclass(frozen=True)
class Sample:
    """A clip, its caption and its truth."""

    frames_THWC: NDArray[np.uint8]
    caption: str
    attributes: Attributes
    tracks_TN3: NDArray[np.float64]  # metres; x right, y up, z away from the camera
    velocities_TN3: NDArray[np.float64]  # m/s
    contacts_TN: NDArray[np.bool_]  # touched the ground since the frame before
    sizes_N: NDArray[np.float64]  # metres
    cameras: Cameras
    mask_THW: NDArray[np.uint8]  # 0 none, i+1 thing i
    depth_THW: NDArray[np.float32]  # metres along the view; the sky is render.FAR
    fps: float


@dataclass(frozen=True)
class Laid:
    """A scene with its truth, ready to be rendered at any size."""

    attributes: Attributes
    scene: RenderScene
    tracks_TN3: NDArray[np.float64]
    velocities_TN3: NDArray[np.float64]
    contacts_TN: NDArray[np.bool_]
    cameras: Cameras


def lay(
    split: str,
    seed: int,
    *,
    world: str = "core",
    num_frames: int = 17,
    height: int = 64,
    width: int = 64,
    fps: float = 12.0,
) -> Laid:
    """Draw, place and simulate a scene without rendering it."""
    if num_frames < 1 or height < 1 or width < 1 or not fps > 0:
        raise ValueError(f"cannot render {num_frames} frames of {width}x{height} at {fps} fps")
    attributes = draw_attributes(split, seed, world)
    stream = Stream(world, split, seed, "layout")
    bodies, tracks, cameras = place(
        attributes, stream, outside=split == "physics", num_frames=num_frames, fps=fps, height=height, width=width
    )
    scene = prepare(attributes, bodies, tracks, cameras, stream, fps, full=world == "full")
    return Laid(attributes, scene, tracks.position_TN3, tracks.velocity_TN3, tracks.contact_TN, cameras)


def caption_of(split: str, seed: int, language: str | None = "en", *, world: str = "core", variant: int = 0) -> str:
    """The caption of a clip without rendering it. language None: two thirds English, one third Chinese."""
    attributes = draw_attributes(split, seed, world)
    if language is None:
        language = "en" if Stream(world, split, seed, "language", variant).chance(2 / 3) else "zh"
    return captions.describe(attributes, f"{world}:{split}:{seed}:{variant}", language)


def sample(
    split: str,
    seed: int,
    *,
    world: str = "core",
    num_frames: int = 17,
    height: int = 64,
    width: int = 64,
    fps: float = 12.0,
    language: str | None = "en",
    antialias: int = 1,
) -> Sample:
    """Clip `seed` of `split` ("train", "heldout", "combinations", "physics"), with its caption and truth.

    The attributes depend on (split, seed, world) only; the layout also on the clip's length, fps and aspect, so
    that things stay in view. language None mixes English and Chinese. Raises ValueError for bad settings.
    """
    laid = lay(split, seed, world=world, num_frames=num_frames, height=height, width=width, fps=fps)
    frames_THWC, mask_THW, depth_THW = render(laid.scene, height, width, antialias=antialias)
    return Sample(
        frames_THWC,
        caption_of(split, seed, language, world=world),
        laid.attributes,
        laid.tracks_TN3,
        laid.velocities_TN3,
        laid.contacts_TN,
        laid.scene.size_N[: len(laid.attributes.things)],
        laid.cameras,
        mask_THW,
        depth_THW,
        fps,
    )


def samples(split: str, seeds: Iterable[int], *, workers: int = 1, **settings: object) -> list[Sample]:
    """Many clips, in the order of the seeds, on `workers` threads (the renderer releases the interpreter lock)."""
    if workers <= 1:
        return [sample(split, seed, **settings) for seed in seeds]  # type: ignore[arg-type]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda seed: sample(split, seed, **settings), seeds))  # type: ignore[arg-type]
