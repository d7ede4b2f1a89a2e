"""What every condition has, and the model as conditions see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sorano.errors import RequestError, VideoError
from sorano.video import read_image, resize

if TYPE_CHECKING:
    from torch import Tensor

    from sorano.conditions.state import ConditionEncoder, LatentState
    from sorano.presets import Preset
    from sorano.segments import Segment, SegmentJob
    from sorano.shapes import Geometry, VideoShape
    from sorano.sources import Source
    from sorano.video import Frames

IN_MEMORY = "in memory"  # what stands in JSON for pictures and videos that are no files
BRIDGE_SECONDS = 1.0  # of what leads from one given video to another, unless told


class Condition:
    """Something that is given beside the prompt."""

    name: ClassVar[str]  # in JSON
    flag: ClassVar[str]  # of the command
    needs: ClassVar[tuple[str, ...]] = ()  # kinds of conditioning latents that a model must take for it
    files: ClassVar[tuple[str, ...]] = ()  # the fields that are files
    is_verb: ClassVar[bool] = False  # of which a request has one at most
    in_segments: ClassVar[bool] = False  # the video is made in more than one segment
    changes_prompt: ClassVar[bool] = False  # a prompt that is a change is merged into what its video says of itself
    begins: ClassVar[bool] = False  # gives the first frame
    ends: ClassVar[bool] = False  # gives the last frame

    @property
    def place_seconds(self) -> float | None:
        """When it is to be seen, for a picture at a time."""
        return None

    def to_dict(self, called: Callable[[Path], str] = attrgetter("name")) -> dict[str, Any]:
        """The condition as JSON, files as they are `called`: by their names, unless told."""
        words: dict[str, Any] = {"kind": self.name}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name in self.files and value is not None:
                file = Path(value) if isinstance(value, str | Path) else None
                value = IN_MEMORY if file is None else called(file)
            words[field.name] = list(value) if isinstance(value, tuple) else value
        return words

    def paths(self) -> list[Path]:
        """The files that it names."""
        given = [getattr(self, name) for name in self.files]
        return [Path(value) for value in given if isinstance(value, str | Path)]

    def taken_by(self, kinds: Sequence[str]) -> bool:
        """Whether a model that takes these kinds of conditioning latents takes it."""
        return set(self.needs) <= set(kinds)

    def source(self) -> Source | None:
        """The video that it is about, opened; None where it is about pictures."""
        return None

    def length(
        self, seconds: float | None, preset: Preset, source: Source | None, fps: float, geometry: Geometry
    ) -> int | None:
        """Frames at `fps` that the model makes, where it decides that. Raises RequestError where it cannot be made."""
        return None

    def check(self, job: SegmentJob) -> None:
        """Raises RequestError where it does not go with the rest of the job."""

    def segments(self, job: SegmentJob) -> Sequence[Segment] | None:
        """What the video is made of, where it decides that."""
        return None

    def apply(
        self, state: LatentState, shape: VideoShape, encoder: ConditionEncoder, fps: float
    ) -> tuple[LatentState, str]:
        """The state with its conditioning latents, and a note for the user."""
        raise NotImplementedError(f"{self.name} adds no latents of its own")

    def compose(self, job: SegmentJob, chunks: Iterable[Frames]) -> Iterator[Frames]:
        """The decoded frames [T, H, W, 3] at the file's size and rate, with what was given in its place."""
        yield from chunks


def bridge_frames(preset_frames: int, seconds: float | None, fps: float, geometry: Geometry) -> int:
    """Frames of a window that makes `seconds` of new video, or as many as the preset does best, after one latent."""
    latents = geometry.later_latents(preset_frames - 1 if seconds is None else seconds * fps)
    return geometry.video_frames(latents + 1)


def picture(image: str | Path | Frames) -> Frames:
    """A picture [H, W, 3], from a file or as it is. Raises RequestError for one that cannot be read."""
    return read_picture(image) if isinstance(image, str | Path) else image


def read_picture(path: str | Path) -> Frames:
    """A picture [H, W, 3]. Raises RequestError for a file that is missing, broken or too large."""
    try:
        return read_image(path)
    except VideoError as error:
        raise RequestError(error.message, error.hint) from error


def encoded(source: Source, shape: VideoShape, encoder: ConditionEncoder, fps: float) -> Tensor:
    """The latents of a source's beginning, at the model's size and rate; the last frame is held."""
    from sorano.conditions.state import frames_to_video

    frames = source.sampled([place / fps for place in range(shape.num_frames)])
    return encoder.encode(frames_to_video(resize(frames, shape.width, shape.height)))


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Raises RequestError for what is no number from `least` to `most`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise RequestError(
            f"{name} must be a number from {least:g} to {most:g}: got {value!r}", f"use one from {least:g} to {most:g}"
        )
