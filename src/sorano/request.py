"""What a user can ask for, checked before any work begins.

`Request` is frozen data: the command's flags, the words of `sorano.generate` and the record inside each file
are its fields. `None` means "as the preset does best"; `resolve` fills every `None` from the preset, draws
the seed, and returns with it the exact shape and everything that was adjusted, as sentences for the user.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from sorano.conditions import (
    IN_MEMORY,
    Blend,
    Condition,
    Continue,
    Edit,
    FirstFrame,
    Keyframe,
    LastFrame,
    Loop,
    Region,
    as_condition,
    read_picture,
)
from sorano.errors import RequestError
from sorano.plan.model import ModelConfigs
from sorano.presets import DEFAULT_PRESET, PRESETS, REPO, Preset
from sorano.shapes import (
    TEMPORAL,
    VideoShape,
    format_size,
    nearest_num_frames,
    nearest_size,
    parse_size,
    pixel_grid,
    video_frames,
)
from sorano.sources import Source
from sorano.storyboard import as_shot
from sorano.units import is_size_name, parse_aspect, parse_frames, parse_lines, parse_seconds

MAX_PROMPT_CHARACTERS = 4000  # far beyond the 512 tokens that a model reads; the exact limit is checked there
MAX_SECONDS = 3600.0
MAX_FPS = 120.0
MAX_STEPS = 1000
MAX_VARIATIONS = 64
LEAST_DRAFT_STEPS = 8
MAX_GUIDANCE = 100.0
MAX_SHIFT = 1000.0
MAX_SEED = 2**63 - 1
MAX_UPSCALE = 16
MIN_OUTPUT_HEIGHT = 256  # pixels; what upscale="auto" reaches, so that a chat shows more than a stamp
LEAST_SIDE = 16  # pixels
MAX_OUTPUT_SIDE = 4096  # pixels; what players and phones decode
SAME_SHAPE = 0.05  # of the logarithm of width over height: 832x480 counts as 16:9
BRIDGE_SECONDS = 1.0  # of a loop or a blend, unless told
VERBS = (Continue, Loop, Blend, Edit, Region)  # of which a request has one
USUAL = {
    "seconds": 2, "fps": 16, "guidance": 5, "guidance_2": 4, "shift": 5, "num_frames": 17, "num_steps": 24,
    "variations": 4, "seed": 1,
}  # fmt: skip
AUDIENCES = ("none", "cn", "eu", "in", "us-ca")  # those of `trust.label`, whose table says what each gets
DTYPES = ("auto", "bfloat16", "float32")
DEVICES = r"auto|cpu|mps|(cuda|xpu)(:\d{1,2})?"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A video to make. Raises RequestError, with the next step, for a value that cannot be made."""

    prompt: str = ""  # may be left out where a video that is given says what it shows
    negative_prompt: str | None = None  # None: the preset's
    image: str | Path | None = None  # the first frame
    last: str | Path | None = None  # the last frame
    conditions: Sequence[Any] = ()  # more that is given: `sorano.conditions`, or the same as JSON
    shots: Sequence[Any] = ()  # of a film: `Shot`, or the same as JSON; the prompt is the first one's
    # what to make
    seconds: float | None = None  # also as text: "2s", "1.5 s", "50 frames"
    num_frames: int | None = None  # instead of seconds: 4k + 1; 1 is a picture
    fps: float | None = None
    size: str | None = None  # "width x height" in pixels: "64x64"; also "720p", "16:9"
    variations: int = 1  # videos of this request, with seeds one after the other
    # how to sample
    preset: str = DEFAULT_PRESET  # a name, the path of a diffusers folder, or OWNER/NAME that was pulled
    seed: int | None = None  # None: drawn once, then recorded
    num_steps: int | None = None
    force: bool = False  # make what is left of a prompt whose subject the model does not know
    draft: bool = False  # a quick look: a third of the steps; the same seed makes the final
    guidance: float | None = None
    guidance_2: float | None = None  # of the second expert, where a model has two
    shift: float | None = None  # towards more noise; what larger videos need
    settings: str | None = None  # a preset's other settings by name: "hub"
    lora: Sequence[str] = ()  # files to merge: FILE, FILE:SCALE; of two experts FILE@high or FILE:SCALE@low
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps", "xpu"
    dtype: str = "auto"  # what products are computed in: "auto" (the fastest there), "bfloat16", "float32"
    memory: str | None = None  # the most to use: "12GB"; None: what is free
    # the file
    output: str | Path | None = None  # None: named after the prompt and the seed
    sheet: str | Path | None = None  # also write a picture of evenly spaced frames
    upscale: int | str = "auto"  # "auto": at least 256 pixels high; "none" or 1: as made; 2 to 16: times
    overwrite: bool = False
    private: bool = False  # leave the words and the image's name out of the file
    audience: str = "none"  # whose law asks for labels: one of AUDIENCES; all files are marked and signed anyway
    visible_label: bool | None = None  # "AI-generated" on the first seconds; None: for cn and in
    producer: str = "Sorano"  # who the label names as producer: a name, or the 27-character code of a provider in China

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        _check_text("negative_prompt", self.negative_prompt or "")
        object.__setattr__(self, "conditions", tuple(as_condition(given) for given in self.conditions))
        object.__setattr__(self, "shots", tuple(as_shot(shot) for shot in self.shots))
        if not self.prompt.strip() and not any(one.files for one in self.conditions) and not self.shots:
            raise RequestError("the prompt is empty", 'say what to see: "a red ball bounces on the grass at sunset"')
        self._read_units()
        _check_number("seconds", self.seconds, above=0, most=MAX_SECONDS)
        _check_whole("num_frames", self.num_frames, 1, round(MAX_SECONDS * MAX_FPS))
        if self.num_frames is not None and (self.num_frames - 1) % TEMPORAL:
            near = nearest_num_frames(self.num_frames, 1)
            raise RequestError(f"a video has 4k + 1 frames: got {self.num_frames}", f"the nearest is {near}")
        _check_number("fps", self.fps, above=0, most=MAX_FPS)
        _check_number("guidance", self.guidance, least=0, most=MAX_GUIDANCE)
        _check_number("guidance_2", self.guidance_2, least=0, most=MAX_GUIDANCE)
        _check_number("shift", self.shift, above=0, most=MAX_SHIFT)
        _check_whole("num_steps", self.num_steps, 1, MAX_STEPS)
        _check_whole("variations", self.variations, 1, MAX_VARIATIONS)
        _check_whole("seed", self.seed, 0, MAX_SEED)
        self._check_length()
        if self.size is not None and not is_size_name(self.size):
            parse_size(self.size)
        if not re.fullmatch(DEVICES, self.device):
            raise RequestError(f"unknown device {self.device!r}", "use auto, cpu, cuda, cuda:1, mps or xpu")
        if self.dtype not in DTYPES:
            raise RequestError(f"unknown dtype {self.dtype!r}", f"use one of {', '.join(DTYPES)}")
        if self.memory is not None:
            parse_bytes(self.memory)
        object.__setattr__(self, "lora", tuple(str(text) for text in self.lora))
        for text in self.lora:
            if not parse_lora(text)[0].exists():
                raise RequestError(
                    f"there is no LoRA file {parse_lora(text)[0]}", "a LoRA is written FILE, FILE:SCALE or FILE@high"
                )
        object.__setattr__(self, "upscale", _parse_upscale(self.upscale))
        if self.audience not in AUDIENCES:
            raise RequestError(f"unknown audience {self.audience!r}", f"use one of {', '.join(AUDIENCES)}")
        if not (self.producer.strip() and len(self.producer) <= 200 and self.producer.isprintable()):
            raise RequestError(f"the producer must be a name of 1 to 200 characters: got {self.producer!r}")

    def _read_units(self) -> None:
        """Turns "2s" and "50 frames" into numbers."""
        for name in ("seconds", "num_frames"):
            text = getattr(self, name)
            if not isinstance(text, str):
                continue
            seconds, frames = parse_seconds(text), parse_frames(text)
            if frames is not None or name == "num_frames" and text.strip().isdecimal():
                frames = int(text) if frames is None else frames
                if name == "seconds":
                    object.__setattr__(self, "seconds", None)
                    frames = nearest_num_frames(max(1, frames), 1)
                object.__setattr__(self, "num_frames", frames)
            elif name == "seconds" and seconds is not None:
                object.__setattr__(self, "seconds", seconds)
            else:
                raise RequestError(f"{name} is no length: got {text!r}", 'use --seconds 2, or --seconds "50 frames"')

    def _check_length(self) -> None:
        """Raises RequestError where seconds and num_frames say different lengths. (A record holds both.)"""
        if self.seconds is None or self.num_frames is None:
            return
        if self.fps is None or abs(self.seconds * self.fps - self.num_frames) > 1:
            raise RequestError(
                f"{self.seconds:g} s and {self.num_frames} frames are two lengths", "give --seconds or --num-frames"
            )

    @property
    def given(self) -> tuple[Condition, ...]:
        """All that is given, pictures first."""
        pictures: list[Condition] = []
        if self.image is not None:
            pictures.append(FirstFrame(self.image))
        if self.last is not None:
            pictures.append(LastFrame(self.last))
        return (*pictures, *self.conditions)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is given, in order."""
        given = [path for one in (*self.given, *self.shots) for path in one.paths()]
        return tuple(dict.fromkeys(given))

    @property
    def named_files(self) -> dict[str, Path]:
        """The same by the names that they have in the record: their own, numbered where two share one."""
        named: dict[str, Path] = {}
        for file in {path.resolve(): path for path in self.files}.values():
            name, number = file.name, 1
            while name in named:
                number += 1
                name = f"{file.stem} ({number}){file.suffix}"
            named[name] = file
        return named

    def to_dict(self) -> dict[str, Any]:
        """The request as JSON: what to make and how, without where it was written on this machine."""
        known = {file.resolve(): name for name, file in self.named_files.items()}
        words = self._words(lambda file: known[file.resolve()])
        for name in ("output", "sheet", "overwrite"):
            del words[name]
        pulled = REPO.fullmatch(self.preset) and not Path(self.preset).is_dir()
        words["preset"] = self.preset if pulled else Path(self.preset).name
        words["lora"] = [Path(text).name for text in self.lora]
        if self.private:
            for name in ("prompt", "negative_prompt", "image", "last", "conditions", "shots"):
                del words[name]
        return words

    def to_json(self) -> dict[str, Any]:
        """All of the request as JSON, files by their whole paths: `Request(**words)` is the same again.

        Raises RequestError where it holds pictures or videos that are no files.
        """
        words = self._words(whole_path)
        if IN_MEMORY in json.dumps(words["conditions"]):
            raise RequestError("a request with pictures or videos in memory cannot be written down", "save them first")
        for name in ("output", "sheet"):
            words[name] = None if words[name] is None else whole_path(Path(words[name]))
        if Path(self.preset).is_dir():
            words["preset"] = whole_path(Path(self.preset))
        words["lora"] = [_whole_lora(text) for text in self.lora]
        return words

    def _words(self, called: Callable[[Path], str]) -> dict[str, Any]:
        words = {field.name: getattr(self, field.name) for field in fields(self)}
        words["conditions"] = [one.to_dict(called) for one in self.conditions]
        words["shots"] = [one.to_dict(called) for one in self.shots]
        for name in ("image", "last"):
            words[name] = None if words[name] is None else called(Path(words[name]))
        return words


def _whole_lora(text: str) -> str:
    (file, scale), expert = parse_lora(text), lora_expert(text)
    return f"{whole_path(file)}:{scale:.6f}" + (f"@{expert}" if expert else "")


def whole_path(file: Path) -> str:
    """The path from the root: the same file from any folder."""
    return str(file.resolve())


@dataclass(frozen=True)
class Resolved:
    """A request with nothing left open: each `None` filled, the shape exact, adjustments said in `notes`."""

    request: Request
    preset: Preset
    shape: VideoShape  # of what the model makes; a film is made in windows
    notes: tuple[str, ...] = ()
    source: Source | None = None  # the video that it is about: it says the size and the rate of the file
    is_film: bool = False  # made in more than one stretch: `stream.py`
    kinds: tuple[str, ...] = ()  # of known latents that the model takes
    scaled: tuple[int, int] | None = None  # (width, height) of the file where it is not the model's, times a number

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
        assert isinstance(self.request.upscale, int)
        return self.request.upscale

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) of the file in pixels."""
        if self.source is not None:
            return self.source.width, self.source.height
        if self.scaled is not None:
            return self.scaled
        return self.shape.width * self.upscale, self.shape.height * self.upscale


def resolve(request: Request, preset: Preset, configs: ModelConfigs | None = None) -> Resolved:
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
    grid = configs.pixel_grid if configs else pixel_grid()
    if source is not None and request.size is None:
        width, height = _size_like(source.width, source.height, preset, grid)
        scaled = None
    else:
        width, height, scaled = _resolve_size(request, preset, grid, notes)
    fps, num_frames, is_film = _resolve_length(request, preset, source, configs, notes)
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
        seed=secrets.randbelow(2**32) if request.seed is None else request.seed,
        num_steps=num_steps,
        negative_prompt=preset.negative_prompt if request.negative_prompt is None else request.negative_prompt,
        guidance=preset.guidance if request.guidance is None else float(request.guidance),
        guidance_2=_resolve_guidance_2(request, preset, configs),
        shift=preset.shift if request.shift is None else float(request.shift),
        upscale=1 if source is not None or scaled else _resolve_upscale(request.upscale, width, height, notes),
    )
    job = Resolved(request, preset, VideoShape(num_frames, height, width), tuple(notes), source, is_film, kinds, scaled)
    for given in request.conditions:
        if isinstance(given, Keyframe) and any(isinstance(one, Loop) for one in request.conditions):
            raise RequestError(
                "--loop and --keyframe exclude each other: a loop's middle is made from its own end and beginning",
                "leave one of them out",
            )
        if isinstance(given, Keyframe) and is_film:
            raise RequestError("keyframes are for videos that are made at once", "make it shorter, or a film of shots")
        if isinstance(given, Keyframe):
            given.place(job.shape, job.rate)
    return job


def _source_of(request: Request) -> Source | None:
    """The video that a request is about, opened; RequestError where there are two, or where it does not fit."""
    about = [one for one in request.conditions if isinstance(one, VERBS)]
    if len(about) > 1:
        raise RequestError(
            f"{about[0].flag} and {about[1].flag} are two things to do", "do one, then the other with its file"
        )
    if about and request.shots:
        raise RequestError("a film of shots has no other verb", "name the video in a shot")
    places = sorted(one.seconds for one in request.conditions if isinstance(one, Keyframe))
    for earlier, later in zip(places, places[1:], strict=False):
        if later - earlier < 0.02:
            raise RequestError(f"two keyframes are at {later:g} s", "give each its own time")
    return about[0].source() if about else None


def _resolve_prompt(request: Request, preset: Preset, source: Source | None, notes: list[str]) -> str:
    """The whole prompt: what is said, merged into what the video says of itself where it is only a change."""
    from sorano.wording import merged, saved_prompt

    if request.shots and not request.prompt.strip():
        return next((shot.prompt for shot in request.shots if shot.prompt), "")
    saved = saved_prompt(source.path) if source is not None and source.path is not None else None
    if not request.prompt.strip():
        if saved is None and source is not None:
            raise RequestError(f"{source.name} does not say what it shows", "say it: give a prompt")
        return saved or request.prompt
    if saved is None or not any(isinstance(one, Edit | Region | Continue) for one in request.conditions):
        return request.prompt
    whole = merged(saved, request.prompt, small_vocabulary=preset.small_vocabulary)
    if whole != request.prompt:
        notes.append(f"the prompt is now: {whole}")
    return whole


def parse_bytes(text: str) -> int:
    """Bytes of "12GB", "800 MB" or "11.5GiB". Raises RequestError where it is not an amount of memory."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not match or float(match[1]) <= 0:
        raise RequestError(f"memory must be an amount like 12GB: got {text!r}", "use --memory 12GB")
    if not match[2] and not text.strip().lower().endswith("b"):
        raise RequestError(f"memory has no unit: got {text!r}", f"use --memory {match[1]}GB, or --memory {match[1]}MB")
    unit = 1024 if match[3] else 1000
    return int(float(match[1]) * unit ** " kmgt".index(match[2] or " "))


def parse_lora(text: str) -> tuple[Path, float]:
    """The file and the scale (1 unless told) of "style.safetensors:0.8", or of "style.safetensors:0.8@high"."""
    text = _without_expert(text)[0]
    match = re.fullmatch(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)", text, re.IGNORECASE | re.DOTALL)
    return (Path(match[1]), float(match[2])) if match else (Path(text), 1.0)


def lora_expert(text: str) -> str | None:
    """The expert that a LoRA is for, "high" or "low" (noise): as it was said with @, else by the file's name; None
    where neither says."""
    text, said = _without_expert(text)
    if said is not None:
        return said
    name = parse_lora(text)[0].name
    found = set(re.findall(r"(?<![a-z])(high|low)(?=[-_ ]?noise|[-_ .]|$)", name.lower()))
    return found.pop() if len(found) == 1 else None


def _without_expert(text: str) -> tuple[str, str | None]:
    """A LoRA's text without "@high" or "@low" at its end, and which of them was there."""
    match = re.fullmatch(r"(.+)@(high|low)", text, re.IGNORECASE | re.DOTALL)
    if match is None or os.path.exists(text):
        return text, None
    return match[1], match[2].lower()


def slug(prompt: str, limit: int = 48) -> str:
    """The prompt as the beginning of a file name: "A red ball, bouncing!" -> "a-red-ball-bouncing"."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).lower())
    name = ""
    for word in words:
        if len(name) + 1 + len(word) > limit:
            return name or word[:limit]
        name = f"{name}-{word}" if name else word
    return name or "video"


def _check_given(request: Request, preset: Preset, configs: ModelConfigs) -> None:
    """Raises RequestError where something is given that the model does not take, or missing where it needs it."""
    kinds = preset.kinds(configs)
    wanted = [*request.given, *(FirstFrame(shot.image) for shot in request.shots if shot.image is not None)]

    def takes(one: Condition, kinds: Sequence[str]) -> bool:
        return set(one.needs) <= set(kinds) or isinstance(one, LastFrame) and "keyframe" in kinds

    for one in wanted:
        if not takes(one, kinds):
            able = [name for name, other in PRESETS.items() if takes(one, other.kinds(other.read_configs()))]
            what = {"--image": "a first picture", "--last": "a last picture"}.get(one.flag, one.flag)
            raise RequestError(f"preset {preset.name} does not take {what}", f"these do: {', '.join(able)}")
    begins = any(FirstFrame.needs[0] in one.needs for one in request.given)
    ends = any(isinstance(one, LastFrame) for one in request.given)
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
                raise RequestError(error.message, "HEIC and AVIF are not read: save it as PNG or JPEG first") from error
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

    A size off the model's grid, or larger than it makes, is made at the nearest aspect that it can, and scaled.
    """
    native = parse_size(preset.size)
    width, height = _wanted_size(request.size, preset, grid, notes) if request.size else native
    if max(width, height) > MAX_OUTPUT_SIDE or min(width, height) < LEAST_SIDE:
        raise RequestError(
            f"a video has {LEAST_SIDE} to {MAX_OUTPUT_SIDE} pixels a side: got {width}x{height}",
            f"{preset.name} does best at --size {preset.size}",
        )
    most = preset.max_side // grid * grid if preset.max_side else MAX_OUTPUT_SIDE
    if (width, height) == nearest_size(width, height, grid) and max(width, height) <= most:
        if preset.max_side and (width, height) != native:
            notes.append(f"{preset.name} was trained at {preset.size}; at {width}x{height} its quality is lower")
        return width, height, None
    if preset.max_side or max(width, height) > max(native):
        made = _size_like(width, height, preset, grid)
    else:
        made = nearest_size(width, height, grid)
    notes.append(f"made at {format_size(*made)}, in the model's steps of {grid} pixels, and scaled to {width}x{height}")
    return *made, (width, height)


def _resolve_length(
    request: Request, preset: Preset, source: Source | None, configs: ModelConfigs | None, notes: list[str]
) -> tuple[float, int, bool]:
    """Frames per second and frames that the model makes, and whether as a film. (Notes say what was adjusted.)"""
    fps = float(request.fps or preset.fps)
    most = preset.max_num_frames
    if any(isinstance(one, Edit | Region) for one in request.conditions):
        assert source is not None
        num_frames = nearest_num_frames(source.seconds, fps)
        if most is not None and num_frames > most:
            raise RequestError(
                f"preset {preset.name} edits {most / fps:.2f} s at most: {source.name} is {source.seconds:.2f} s long",
                "cut out the part to edit",
            )
        return fps, num_frames, False
    if any(isinstance(one, Continue | Blend) or isinstance(one, Loop) and one.video for one in request.conditions):
        seconds = request.seconds or (BRIDGE_SECONDS if not isinstance(request.conditions[-1], Continue) else None)
        latents = max(1, round((preset.num_frames - 1 if seconds is None else seconds * fps) / TEMPORAL))
        return fps, video_frames(latents + 1), True
    if request.shots:
        lengths = [shot.seconds or preset.num_frames / fps for shot in request.shots if shot.video is None]
        return fps, nearest_num_frames(max(sum(lengths), 1 / fps), fps), True
    seconds = request.seconds if request.num_frames is None else request.num_frames / fps
    if seconds is None:
        if fps != preset.fps:
            notes.append(f"{preset.name} moves at {preset.fps:g} fps; at {fps:g} fps it plays faster or slower")
        return fps, preset.num_frames, any(isinstance(one, Loop) for one in request.conditions)
    if seconds * fps < 0.5:
        raise RequestError(
            f"{seconds:g} s at {fps:g} fps is less than one frame",
            f"the shortest is --seconds {1 / fps:.3g}",
        )
    num_frames = nearest_num_frames(seconds, fps)
    is_film = any(isinstance(one, Loop) for one in request.conditions)
    if most is not None and num_frames > most:
        is_film = True
        if configs is not None and "first" not in preset.kinds(configs):
            longest = math.floor(most / fps * 100) / 100
            raise RequestError(
                f"preset {preset.name} makes at most {most} frames, {longest:g} s at {fps:g} fps: got {seconds:g} s",
                f"use --seconds {longest:g}; longer films need a preset that can go on from what it made",
            )
    if abs(num_frames - seconds * fps) > 0.5:
        notes.append(f"{seconds:g} s at {fps:g} fps becomes {num_frames} frames (4k + 1), {num_frames / fps:.2f} s")
    return fps, num_frames, is_film


def _resolve_upscale(upscale: int | str, width: int, height: int, notes: list[str]) -> int:
    most = max(1, min(MAX_UPSCALE, MAX_OUTPUT_SIDE // max(width, height)))
    if upscale == "auto":
        factor = min(most, max(1, math.ceil(MIN_OUTPUT_HEIGHT / height)))
    else:
        factor = int(upscale)
    if factor > most:
        raise RequestError(
            f"{width}x{height} upscaled {factor} times is beyond {MAX_OUTPUT_SIDE} pixels",
            f"the most is --upscale {most}",
        )
    if factor > 1:
        larger = format_size(width * factor, height * factor)
        notes.append(f"made at {width}x{height}, upscaled {factor}x to {larger} (Lanczos); --upscale 1 keeps it")
    return factor


def _parse_upscale(value: int | str) -> int | str:
    text = str(value).strip().lower()
    if text == "auto":
        return text
    factor = 1 if text == "none" else int(text) if re.fullmatch(r"\d{1,3}", text) else 0
    if not 1 <= factor <= MAX_UPSCALE:
        raise RequestError(
            f"upscale must be auto, none, or a whole number from 1 to {MAX_UPSCALE}: got {value!r}",
            "--upscale 1 keeps the size that the model made",
        )
    return factor


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise RequestError(f"{name} must be text: got {type(text).__name__}")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise RequestError(
            f"{name} is {len(text)} characters long; the most is {MAX_PROMPT_CHARACTERS}",
            "say it in a few sentences",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(f"{name} is not valid Unicode text: {error.reason}") from error


def _check_number(name: str, value: object, *, above: float = -math.inf, least: float = -math.inf, most: float) -> None:
    if value is None:
        return
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not right or not (value > above and least <= value <= most):  # type: ignore[operator]
        lowest = f"above {above:g}" if above > -math.inf else f"at least {least:g}"
        near = most if right and value > most else USUAL[name]  # type: ignore[operator]
        raise RequestError(
            f"{name} must be a number {lowest} and at most {most:g}: got {value!r}", f"use {_flag(name)} {near:g}"
        )


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        near = max(least, min(most, round(value))) if is_number else USUAL[name]  # type: ignore[call-overload]
        raise RequestError(
            f"{name} must be a whole number from {least} to {most}: got {value!r}", f"use {_flag(name)} {near}"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
