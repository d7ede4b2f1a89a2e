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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sorano.conditions import IN_MEMORY, Condition, FirstFrame, LastFrame, as_condition
from sorano.errors import RequestError
from sorano.presets import DEFAULT_PRESET, PRESETS, REPO
from sorano.shapes import (
    parse_size,
)
from sorano.storyboard import as_shot
from sorano.units import is_size_name, parse_frames, parse_seconds

MAX_PROMPT_CHARACTERS = 4000  # far beyond the 512 tokens that a model reads; the exact limit is checked there
MAX_SECONDS = 3600.0
MAX_FPS = 120.0
MAX_STEPS = 1000
MAX_VARIATIONS = 64
MAX_GUIDANCE = 100.0
MAX_SHIFT = 1000.0
MAX_SEED = 2**63 - 1
MAX_UPSCALE = 16
USUAL = {
    "seconds": 2, "fps": 16, "guidance": 5, "guidance_2": 4, "shift": 5, "num_frames": 17, "num_steps": 24,
    "variations": 4, "seed": 1,
}  # fmt: skip
AUDIENCES = ("none", "cn", "eu", "in", "us-ca")  # those of `trust.provenance.label`, whose table says what each gets
DTYPES = ("auto", "bfloat16", "float32")
DTYPE_NAMES = {"bf16": "bfloat16", "fp32": "float32", "f32": "float32"}  # as others write them
DEVICES = r"auto|cpu|mps|(cuda|xpu)(:\d{1,2})?"


def _option(help_text: str, default: Any = None) -> Any:
    """A field with the sentence that explains it in the command's help, the API's schema and `help(Request)`."""
    return field(default=default, metadata={"help": help_text})


def drawn_seed() -> int:
    """A seed for a request that has none: 32 random bits."""
    return secrets.randbelow(2**32)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A video to make. Raises RequestError, with the next step, for a value that cannot be made."""

    prompt: str = _option("What to see. May be left out where a video that is given says what it shows.", "")
    image: str | Path | None = _option("Begin with this picture (PNG, JPEG, WebP); it is scaled to fill.")
    last: str | Path | None = _option("End with this picture.")
    conditions: Sequence[Any] = _option("More that is given: `sorano.conditions`, or the same as JSON.", ())
    shots: Sequence[Any] = _option("Of a film: `Shot`, or the same as JSON; the prompt is the first one's.", ())
    # what to make
    seconds: float | None = _option(
        'Length, like 2 or 1.5s or "50 frames"; the nearest that the model makes. Default: the preset\'s.'
    )
    num_frames: int | None = _option("The same in frames; 1 is a picture.")
    fps: float | None = _option("Frames per second. Default: the preset's.")
    size: str | None = _option("Width x height in pixels, like 64x64; or 720p, 16:9. Default: the preset's.")
    negative_prompt: str | None = _option("What to steer away from. Default: the preset's.")
    force: bool = _option("Make what is left of a prompt whose subject the model does not know.", False)
    # how to sample
    preset: str = _option(f"A model: {', '.join(PRESETS)}, a diffusers folder, or a pulled OWNER/NAME.", DEFAULT_PRESET)
    draft: bool = _option("A quick look with a third of the steps; the same seed makes the final.", False)
    variations: int = _option("How many, with seeds one after the other.", 1)
    seed: int | None = _option("The same seed gives the same video. Default: drawn, and printed.")
    num_steps: int | None = _option("More steps: finer and slower. Default: the preset's.")
    guidance: float | None = _option("How strictly to follow the prompt; 1 is plain. Default: the preset's.")
    guidance_2: float | None = _option("The same for the second of two experts (Wan 2.2 A14B).")
    shift: float | None = _option("Spend more steps on noise, as large videos need. Default: the preset's.")
    settings: str | None = _option("A preset's other settings by name, like hub; sorano show lists them.")
    lora: Sequence[str] = _option(
        "A LoRA file to merge, and how much of it; @high or @low for one of two experts. May be given again.", ()
    )
    device: str = _option("auto, cpu, cuda, cuda:1, mps or xpu.", "auto")
    dtype: str = _option("auto (the fastest there), bfloat16, or float32.", "auto")
    memory: str | None = _option("The most memory to use, like 12GB. Default: what is free.")
    # the file
    output: str | Path | None = _option(
        "Where to write: .mp4, .gif, .webp, .webm. Default: an MP4 named after the prompt, here."
    )
    sheet: str | Path | None = _option("Also write a picture of evenly spaced frames.")
    upscale: int | str = _option(
        "auto: to at least 256 pixels high; none or 1: as made; 2 to 16: times; fit: a small model works as it was"
        " trained, and the file has the size that is named (Lanczos).",
        "auto",
    )
    overwrite: bool = _option("Replace existing files.", False)
    private: bool = _option("Keep the prompt and the image's name out of the file.", False)
    audience: str = _option(
        "Whose law asks for labels: cn, in (both draw a sign), eu, us-ca, none. All is marked and signed.", "none"
    )
    visible_label: bool | None = _option('Draw "AI-generated" on the first seconds. Default: for cn and in.')
    producer: str = _option("Who the label names: a name, or a provider's 27-character code.", "Sorano")

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
        for name in ("device", "dtype", "audience"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, getattr(self, name).strip().lower())
        object.__setattr__(self, "dtype", DTYPE_NAMES.get(self.dtype, self.dtype))
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
                    frames = max(1, frames)
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


def _parse_upscale(value: int | str) -> int | str:
    text = str(value).strip().lower()
    if text in ("auto", "fit"):
        return text
    times = re.fullmatch(r"[x×]?(\d{1,3})[x×]?", text)
    factor = 1 if text == "none" else int(times[1]) if times else 0
    if not 1 <= factor <= MAX_UPSCALE:
        raise RequestError(
            f"upscale must be auto, none, fit, or a whole number from 1 to {MAX_UPSCALE}: got {value!r}",
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
