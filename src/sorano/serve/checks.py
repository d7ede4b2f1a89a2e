"""What a request will become, found before it is a job: its shape, its length, its seed, its cost.

`describe` needs no torch. Requests with files are described in a child process with limits (`sorano.trust.sandbox`),
for their files are opened.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sorano.errors import RequestError, SoranoError
from sorano.models.wan.configs import ModelConfigs
from sorano.plan import Machine
from sorano.plan.machine import Profile
from sorano.presets import Preset, find_preset
from sorano.request import Request
from sorano.segments import frames_of, layout
from sorano.serve.policy import check_frames
from sorano.shapes import format_size

_configs: dict[str, tuple[Preset, ModelConfigs]] = {}


def machine_words(machine: Machine) -> dict[str, Any]:
    """A machine as JSON."""
    return asdict(machine)


def machine_of(words: dict[str, Any]) -> Machine:
    """The reverse of `machine_words`."""
    measured = words.get("measured")
    return Machine(**{**words, "measured": None if measured is None else Profile(**measured)})


def request_of(words: dict[str, Any], **more: Any) -> Request:
    """A `Request` of JSON. Raises RequestError."""
    try:
        return Request(**{**words, **more})
    except TypeError as error:
        raise RequestError(f"the request cannot be read: {error}") from error


def describe(words: dict[str, Any], machine: dict[str, Any] | None = None) -> dict[str, Any]:
    """What fields of `Request` become: `shown` for the video object, `planned` where a machine is given.

    Raises the errors of `Request`, `resolve` and the plan.
    """
    from sorano.pipeline import plan
    from sorano.prompt_editing import check_words
    from sorano.resolve import resolve

    request = request_of(words, output="video.mp4")
    preset, configs = _preset(request.preset)
    job = resolve(request, preset, configs)
    notes = [*configs.notes, *job.notes, *check_words(job.request, preset)]
    num_frames = sum(frames_of(job, one) for one in layout(job))
    if not job.is_film and job.source is None:
        num_frames = job.shape.num_frames
    shown = {
        "prompt": job.request.prompt,
        "negative_prompt": words.get("negative_prompt"),
        "size": format_size(*job.output_size),
        "native_size": job.shape.size,
        "num_frames": num_frames,
        "fps": job.fps,
        "seconds": round(num_frames / job.fps, 3),
        "seed": job.request.seed,
        "num_steps": job.request.num_steps,
        "notes": notes,
    }
    planned = None
    if machine is not None:
        estimate = plan(job, configs, machine_of(machine))
        planned = {
            "seconds": round(estimate.seconds, 3),
            "peak_bytes": estimate.peak_bytes,
            "device": machine["device"],
            "dtype": machine["dtype"],
            "fits": True,
        }
        try:
            estimate.require()
        except SoranoError as error:
            planned |= {"fits": False, "problem": error.message, "hint": error.hint}
    return {"shown": shown, "planned": planned, "video_seconds": shown["seconds"]}


def merge_prompt(words: dict[str, Any], change: str) -> str:
    """The prompt of a video with a change merged into it, as `sorano remix` does."""
    from sorano.prompt_editing import merged

    preset, _ = _preset(str(words.get("preset")))
    return merged(str(words.get("prompt") or ""), change, preset.captions)


def inspect_here(path: str, most_seconds: float, most_pixels: int, picture_classifier: str = "") -> dict[str, Any]:
    """What an upload is, found by decoding all of it; called in a child.

    Raises VideoError, RequestError, and PolicyError for what the classifier refuses.
    """
    found = _looked_at(path, most_seconds, most_pixels)
    if picture_classifier:
        check_frames(path, picture_classifier, found["seconds"])
    return found


def _looked_at(path: str, most_seconds: float, most_pixels: int) -> dict[str, Any]:
    from sorano.media import read
    from sorano.video import read_image

    found = read.probe(Path(path))
    if found.width * found.height > most_pixels:
        raise RequestError(f"it has {found.width}x{found.height} pixels; the most is {most_pixels}", "scale it down")
    if found.is_image and not found.is_animated:
        height, width, _ = read_image(path).shape
        return {"kind": "picture", "width": width, "height": height, "seconds": None}
    if (found.seconds or 0.0) > most_seconds:
        raise RequestError(f"it is {found.seconds:g} s long; the most is {most_seconds:g}", "cut the part that matters")
    end = 0.0
    for picture in read.pictures_of(found):
        end = picture.start
        if end > most_seconds:
            raise RequestError(f"it is longer than {most_seconds:g} s", "cut the part that matters out of it")
    return {"kind": "video", "width": found.width, "height": found.height, "seconds": found.seconds or end}


def _preset(name: str) -> tuple[Preset, ModelConfigs]:
    """A preset and its configs, which are read once. Raises CheckpointError where it is not on this machine."""
    from sorano.pipeline import located

    if name not in _configs:
        preset = find_preset(name)
        preset = located(preset) if preset.folder is None else preset
        _configs[name] = preset, preset.read_configs()
    preset, configs = _configs[name]
    if preset.folder is not None and not preset.folder.is_dir():
        del _configs[name]
        return _preset(name)
    return replace(preset), configs
