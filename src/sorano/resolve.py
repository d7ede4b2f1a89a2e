"""A request and a preset become a job: nothing left open.

`resolve` fills every `None` of a `Request` from the preset, draws the seed, and returns with it the exact shape and
everything that was adjusted, as notes for the user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from sorano.conditions import FirstFrame, read_picture
from sorano.errors import RequestError
from sorano.models.wan.configs import ModelConfigs
from sorano.models.wan.family import WAN
from sorano.presets import PRESETS, Preset
from sorano.prompt_editing import merged
from sorano.request import MAX_UPSCALE, Request, drawn_seed
from sorano.shapes import (
    Geometry,
    VideoShape,
    format_size,
    nearest_size,
    parse_size,
)
from sorano.sources import Source, saved_prompt
from sorano.units import parse_aspect, parse_lines

LEAST_DRAFT_STEPS = 8
MIN_OUTPUT_HEIGHT = 256  # pixels; what upscale="auto" reaches, so that a chat shows more than a stamp
LEAST_SIDE = 16  # pixels
MAX_OUTPUT_SIDE = 4096  # pixels; what players and phones decode
SAME_SHAPE = 0.05  # of the logarithm of width over height: 832x480 counts as 16:9


@dataclass(frozen=True)
class Job:
    """A request with nothing left open: each `None` filled, the shape exact, adjustments said in `notes`."""

    request: Request
    preset: Preset
    shape: VideoShape  # of what the model makes; a film is made in windows
    geometry: Geometry  # how the model lays pixels out as latents
    notes: tuple[str, ...] = ()
    source: Source | None = None  # the video that it is about: it says the size and the rate of the file
    is_film: bool = False  # made in more than one stretch: `stream.py`
    kinds: tuple[str, ...] = ()  # of known latents that the model takes
    scaled: tuple[int, int] | None = None  # (width, height) of the file where it is not the model's, times a number

    @property
    def first_image(self) -> Any:
        """The picture that the video begins with: a file, or [H, W, 3]; None where none is given."""
        return next((getattr(one, "image", None) for one in self.request.given if one.begins), None)

    @property
    def rate(self) -> float:
        """Frames per second that the model makes."""
        assert self.request.fps is not None
        return self.request.fps

    @property
    def fps(self) -> float:
        """Frames per second of the file."""
        return self.rate if self.source is None else self.source.fps

    @property
    def aspect(self) -> Fraction:
        """What rounding a given video to square pixels left: a pixel's width over its height."""
        return Fraction(1) if self.source is None else self.source.aspect

    @property
    def upscale(self) -> int:
        """How many times larger than the model's frames the file is, each way, where no source says how large."""
        return 1 if self.request.upscale == "fit" else int(self.request.upscale)

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) of the file in pixels."""
        if self.source is not None:
            return self.source.width, self.source.height
        if self.scaled is not None:
            return self.scaled
        return self.shape.width * self.upscale, self.shape.height * self.upscale


def resolve(request: Request, preset: Preset, configs: ModelConfigs | None = None) -> Job:
    """Fills in what the request leaves open, from the preset.

    `configs` are those of the model's networks: they say its grid in pixels and which pictures it takes. Raises
    RequestError, with the nearest value that works, where the preset cannot make the size or the length, and with a
    preset that can where it does not take what is given.
    """
    notes = [preset.note] if preset.note else []
    preset = preset.with_settings(request.settings)
    if configs is not None:
        _check_given(request, preset, configs)
        _check_pictures(request)
    source = _source_of(request)
    notes += source.notes if source is not None else ()
    request = replace(request, prompt=_resolve_prompt(request, preset, source, notes))
    geometry = configs.geometry if configs is not None else WAN.geometry
    grid = geometry.pixel_grid
    if source is not None and request.size is None:
        width, height = _size_like(source.width, source.height, preset, grid)
        scaled = None
    else:
        width, height, scaled = _resolve_size(request, preset, grid, notes)
    fps, num_frames, is_film = _resolve_length(request, preset, source, configs, geometry, notes)
    kinds = preset.kinds(configs) if configs is not None else ()
    between = is_film and source is not None  # new frames only: none begins the video
    num_steps = request.num_steps or preset.num_steps
    if request.draft and request.num_steps is None:
        num_steps = max(LEAST_DRAFT_STEPS, num_steps // 3)
        notes.append(f"a draft of {num_steps} steps; the same seed without --draft makes the final")
    request = replace(
        request,
        seconds=round((num_frames - between) / fps, 6),
        num_frames=request.num_frames if request.num_frames == num_frames else None,
        fps=fps,
        size=format_size(*(scaled or (width, height))),
        seed=drawn_seed() if request.seed is None else request.seed,
        num_steps=num_steps,
        negative_prompt=preset.negative_prompt if request.negative_prompt is None else request.negative_prompt,
        guidance=preset.guidance if request.guidance is None else float(request.guidance),
        guidance_2=_resolve_guidance_2(request, preset, configs),
        shift=preset.shift if request.shift is None else float(request.shift),
        upscale=_resolve_upscale(request, width, height, notes, is_said=source is not None or scaled is not None),
    )
    shape = VideoShape(num_frames, height, width)
    job = Job(request, preset, shape, geometry, tuple(notes), source, is_film, kinds, scaled)
    for given in request.conditions:
        given.check(job)
    return job


def _source_of(request: Request) -> Source | None:
    """The video that a request is about, opened; RequestError where there are two, or where it does not fit."""
    about = [one for one in request.conditions if one.is_verb]
    if len(about) > 1:
        raise RequestError(
            f"{about[0].flag} and {about[1].flag} are two things to do", "do one, then the other with its file"
        )
    if about and request.shots:
        raise RequestError("a film of shots has no other verb", "name the video in a shot")
    places = sorted(one.place_seconds for one in request.conditions if one.place_seconds is not None)
    for earlier, later in zip(places, places[1:], strict=False):
        if later - earlier < 0.02:
            raise RequestError(f"two keyframes are at {later:g} s", "give each its own time")
    return about[0].source() if about else None


def _resolve_prompt(request: Request, preset: Preset, source: Source | None, notes: list[str]) -> str:
    """The whole prompt: what is said, merged into what the video says of itself where it is only a change."""
    if request.shots and not request.prompt.strip():
        return next((shot.prompt for shot in request.shots if shot.prompt), "")
    saved = saved_prompt(source.path) if source is not None and source.path is not None else None
    if not request.prompt.strip():
        if saved is None and source is not None:
            raise RequestError(f"{source.name} does not say what it shows", "say it: give a prompt")
        return saved or request.prompt
    if saved is None or not any(one.changes_prompt for one in request.conditions):
        return request.prompt
    whole = merged(saved, request.prompt, preset.captions)
    if whole != request.prompt:
        notes.append(f"the prompt is now: {whole}")
    return whole


def _check_given(request: Request, preset: Preset, configs: ModelConfigs) -> None:
    """Raises RequestError where something is given that the model does not take, or missing where it needs it."""
    kinds = preset.kinds(configs)
    wanted = [*request.given, *(FirstFrame(shot.image) for shot in request.shots if shot.image is not None)]

    for one in wanted:
        if not one.taken_by(kinds):
            able = [name for name, other in PRESETS.items() if one.taken_by(other.kinds(other.read_configs()))]
            what = {"--image": "a first picture", "--last": "a last picture"}.get(one.flag, one.flag)
            raise RequestError(f"preset {preset.name} does not take {what}", f"these do: {', '.join(able)}")
    begins = any(FirstFrame.needs[0] in one.needs for one in request.given)
    ends = any(one.ends for one in request.given)
    if configs.first_picture == "required" and not begins:
        raise RequestError(f"preset {preset.name} needs a first picture", "give --image picture.png")
    if configs.last_picture == "required" and not ends:
        raise RequestError(f"preset {preset.name} needs a last picture", "give --last picture.png")
    if request.last is not None and request.image is None and "keyframe" not in kinds:
        raise RequestError("a last picture needs a first one", "give --image first.png as well")


def _check_pictures(request: Request) -> None:
    """Reads every picture that is given. Raises RequestError for one that cannot be read, before weights are loaded."""
    given = [getattr(one, name, None) for one in (*request.given, *request.shots) for name in ("image", "mask")]
    for path in (one for one in given if isinstance(one, str | Path)):
        try:
            read_picture(path)
        except RequestError as error:
            if Path(path).exists() and Path(path).suffix.lower() in (".heic", ".heif", ".avif"):
                hint = "HEIC is not read, and AVIF only where Pillow reads it: save it as PNG or JPEG first"
                raise RequestError(error.message, hint) from error
            raise


def _resolve_guidance_2(request: Request, preset: Preset, configs: ModelConfigs | None) -> float | None:
    if configs is None or configs.transformer_2 is None:
        if request.guidance_2 is not None:
            raise RequestError(f"preset {preset.name} has one transformer and no second guidance", "use --guidance")
        return None
    if request.guidance_2 is not None:
        return float(request.guidance_2)
    first = preset.guidance if request.guidance is None else request.guidance
    return float(first if preset.guidance_2 is None or request.guidance is not None else preset.guidance_2)


def _size_like(wide: int, high: int, preset: Preset, grid: int) -> tuple[int, int]:
    """The size that the model makes for another: of its aspect, and of about the area that the preset does best."""
    native = parse_size(preset.size)
    side = math.sqrt(native[0] * native[1])
    stretch = math.sqrt(wide / high)
    width, height = nearest_size(round(side * stretch), round(side / stretch), grid)
    most = preset.max_side // grid * grid if preset.max_side else max(width, height)
    return min(width, most), min(height, most)


def _wanted_size(size: str, preset: Preset, grid: int, notes: list[str]) -> tuple[int, int]:
    """(width, height) of "64x64", of "720p" (the preset's own size of so many lines, else 16:9), or of "16:9" (the
    preset's own size of about that shape, else one of the area that it does best)."""
    lines, aspect = parse_lines(size), parse_aspect(size)
    own = [parse_size(one) for one in (preset.sizes or (preset.size,))]
    if lines is not None:
        fitting = [one for one in own if one[1] == lines] or [one for one in own if min(one) == lines]
        return fitting[0] if fitting else (round(lines * 16 / 9 / 2) * 2, lines)
    if aspect is None:
        return parse_size(size)
    near = min(own, key=lambda one: abs(math.log(one[0] / one[1] / aspect)))
    if abs(math.log(near[0] / near[1] / aspect)) > SAME_SHAPE:
        near = _size_like(round(1000 * aspect), 1000, preset, grid)
    notes.append(f"{size} is {format_size(*near)} with {preset.name}")
    return near


def _resolve_size(
    request: Request, preset: Preset, grid: int, notes: list[str]
) -> tuple[int, int, tuple[int, int] | None]:
    """The size that the model makes, and the one that is written where that is another.

    A size off the model's grid, or larger than it makes, is made at the nearest aspect that it can, and scaled. So is
    every size but its own that is to fit, where the model was trained at one.
    """
    native = parse_size(preset.size)
    width, height = _wanted_size(request.size, preset, grid, notes) if request.size else native
    if max(width, height) > MAX_OUTPUT_SIDE or min(width, height) < LEAST_SIDE:
        raise RequestError(
            f"a video has {LEAST_SIDE} to {MAX_OUTPUT_SIDE} pixels a side: got {width}x{height}",
            f"{preset.name} does best at --size {preset.size}",
        )
    most = preset.max_side // grid * grid if preset.max_side else MAX_OUTPUT_SIDE
    is_made = (width, height) == native or not (preset.max_side and _is_fit(request))
    if is_made and (width, height) == nearest_size(width, height, grid) and max(width, height) <= most:
        if preset.max_side and (width, height) != native:
            notes.append(f"{preset.name} was trained at {preset.size}; at {width}x{height} its quality is lower")
        return width, height, None
    if preset.max_side or max(width, height) > max(native):
        made = _size_like(width, height, preset, grid)
    else:
        made = nearest_size(width, height, grid)
    if made == (width, height):
        return *made, None
    notes.append(f"made at {format_size(*made)}, in the model's steps of {grid} pixels, and scaled to {width}x{height}")
    return *made, (width, height)


def _resolve_length(
    request: Request,
    preset: Preset,
    source: Source | None,
    configs: ModelConfigs | None,
    geometry: Geometry,
    notes: list[str],
) -> tuple[float, int, bool]:
    """Frames per second and frames that the model makes, and whether as a film. (Notes say what was adjusted.)"""
    fps = float(request.fps or preset.fps)
    most = preset.max_num_frames
    in_segments = any(one.in_segments for one in request.conditions)
    for verb in (one for one in request.conditions if one.is_verb):
        if (own := verb.length(request.seconds, preset, source, fps, geometry)) is not None:
            return fps, own, in_segments
    if request.shots:
        lengths = [shot.seconds or preset.num_frames / fps for shot in request.shots if shot.video is None]
        return fps, geometry.nearest_num_frames(max(sum(lengths), 1 / fps), fps), True
    seconds = request.seconds if request.num_frames is None else request.num_frames / fps
    if seconds is None:
        if fps != preset.fps:
            notes.append(f"{preset.name} moves at {preset.fps:g} fps; at {fps:g} fps it plays faster or slower")
        return fps, preset.num_frames, in_segments
    if seconds * fps < 0.5:
        raise RequestError(
            f"{seconds:g} s at {fps:g} fps is less than one frame",
            f"the shortest is --seconds {1 / fps:.3g}",
        )
    num_frames = geometry.nearest_num_frames(seconds, fps)
    is_film = in_segments
    if most is not None and num_frames > most:
        is_film = True
        if configs is not None and "first" not in preset.kinds(configs):
            longest = math.floor(most / fps * 100) / 100
            raise RequestError(
                f"preset {preset.name} makes at most {most} frames, {longest:g} s at {fps:g} fps: got {seconds:g} s",
                f"use --seconds {longest:g}; longer films need a preset that can go on from what it made",
            )
    if abs(num_frames - seconds * fps) > 0.5:
        becomes = f"becomes {num_frames} frames ({geometry.frames_rule}), {num_frames / fps:.2f} s"
        notes.append(f"{seconds:g} s at {fps:g} fps {becomes}")
    return fps, num_frames, is_film


def _is_fit(request: Request) -> bool:
    """Whether the file has exactly the pixels that are named, whatever the model makes. (An aspect names none.)"""
    return request.upscale == "fit" and request.size is not None and parse_aspect(request.size) is None


def _resolve_upscale(request: Request, width: int, height: int, notes: list[str], *, is_said: bool) -> int | str:
    """How many times larger the file is; 1 where its size `is_said` otherwise. "fit" stays, to be resolved alike."""
    if _is_fit(request) or is_said:
        return "fit" if _is_fit(request) else 1
    most = max(1, min(MAX_UPSCALE, MAX_OUTPUT_SIDE // max(width, height)))
    if request.upscale in ("auto", "fit"):
        factor = min(most, max(1, math.ceil(MIN_OUTPUT_HEIGHT / height)))
    else:
        factor = int(request.upscale)
    if factor > most:
        raise RequestError(
            f"{width}x{height} upscaled {factor} times is beyond {MAX_OUTPUT_SIDE} pixels",
            f"the most is --upscale {most}",
        )
    if factor > 1:
        larger = format_size(width * factor, height * factor)
        notes.append(f"made at {width}x{height}, upscaled {factor}x to {larger} (Lanczos); --upscale 1 keeps it")
    return factor
