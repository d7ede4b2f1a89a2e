"""Pictures that a video begins with, ends with, or comes to at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.conditions.base import Condition, check_number, picture
from sorano.errors import RequestError
from sorano.shapes import TEMPORAL, VideoShape
from sorano.video import fill

if TYPE_CHECKING:
    from sorano.conditions.state import ConditionEncoder, LatentState
    from sorano.segments import SegmentJob
    from sorano.video import Frames


@dataclass(frozen=True)
class FirstFrame(Condition):
    """The video begins with this picture: a file, or [H, W, 3]. It is encoded alone, as every video's first frame."""

    image: str | Path | Frames

    name, flag, needs, files = "first_frame", "--image", ("first",), ("image",)
    begins = True

    def apply(
        self, state: LatentState, shape: VideoShape, encoder: ConditionEncoder, fps: float = 0.0
    ) -> tuple[LatentState, str]:
        """The state with its first frame given; the picture is scaled to fill the video and cropped."""
        return _at(self.image, 0, state, shape, encoder)


@dataclass(frozen=True)
class LastFrame(Condition):
    """The video ends with this picture: a file, or [H, W, 3]."""

    image: str | Path | Frames

    name, flag, needs, files = "last_frame", "--last", ("last",), ("image",)
    ends = True

    def taken_by(self, kinds: Sequence[str]) -> bool:
        """A model that takes keyframes takes the last one."""
        return super().taken_by(kinds) or "keyframe" in kinds

    def apply(
        self, state: LatentState, shape: VideoShape, encoder: ConditionEncoder, fps: float = 0.0
    ) -> tuple[LatentState, str]:
        """The state with its last frame given; the picture is scaled to fill the video and cropped."""
        return _at(self.image, shape.num_frames - 1, state, shape, encoder)

    def compose(self, job: SegmentJob, chunks: Iterable[Frames]) -> Iterator[Frames]:
        """Frames that reach the picture itself, where the model was led to it by a token."""
        if "keyframe" in job.kinds:
            yield _through(chunks, -1, self.image, job.output_size)
        else:
            yield from chunks


@dataclass(frozen=True)
class Keyframe(Condition):
    """The video comes to this picture at a time in seconds."""

    seconds: float
    image: str | Path | Frames

    name, flag, needs, files = "keyframe", "--keyframe", ("keyframe",), ("image",)

    def __post_init__(self) -> None:
        check_number("the time of a keyframe", self.seconds, 0, 36_000)

    def apply(
        self, state: LatentState, shape: VideoShape, encoder: ConditionEncoder, fps: float
    ) -> tuple[LatentState, str]:
        """The state with a picture known at its time. Raises RequestError for a time beyond the end."""
        return _at(self.image, self.place(shape, fps), state, shape, encoder)

    @property
    def place_seconds(self) -> float:
        """Its time."""
        return self.seconds

    def place(self, shape: VideoShape, fps: float) -> int:
        """Its frame. Raises RequestError for a time beyond the last one."""
        place = round(self.seconds * fps)
        if place >= shape.num_frames:
            last = (shape.num_frames - 1) / fps
            raise RequestError(
                f"the keyframe at {self.seconds:g} s is beyond the last frame, at {last:.2f} s",
                "give an earlier time, or more --seconds",
            )
        return place

    def compose(self, job: SegmentJob, chunks: Iterable[Frames]) -> Iterator[Frames]:
        """Frames that reach the picture itself, where the model was led to it by a token."""
        if "keyframe" in job.kinds:
            yield _through(chunks, self.place(job.shape, job.rate), self.image, job.output_size)
        else:
            yield from chunks

    def check(self, job: SegmentJob) -> None:
        """Raises RequestError beside a loop, in a film, or beyond the end."""
        if any(one.name == "loop" for one in job.request.conditions):
            raise RequestError(
                "--loop and --keyframe exclude each other: a loop's middle is made from its own end and beginning",
                "leave one of them out",
            )
        if job.is_film:
            raise RequestError("keyframes are for videos that are made at once", "make it shorter, or a film of shots")
        self.place(job.shape, job.rate)


def _at(
    image: str | Path | Frames, place: int, state: LatentState, shape: VideoShape, encoder: ConditionEncoder
) -> tuple[LatentState, str]:
    """The state with a picture given at a frame."""
    from sorano.conditions.state import frames_to_video

    whole_HWC = picture(image)
    frame_HWC, note = fill(whole_HWC, shape.width, shape.height)
    if encoder.takes != "tokens":
        return state.with_frame(place, frame_HWC, whole_HWC), note
    latent = encoder.encode(frames_to_video(frame_HWC[None]))
    return (state.with_keyframe(latent, place / TEMPORAL) if place else state.with_known(latent)), note


def _through(frames: Iterable[Frames], place: int, image: str | Path | Frames, size: tuple[int, int]) -> Frames:
    """All frames, brought to a picture at a place: a model that was led there by a token comes close to it only."""
    import numpy as np

    from sorano.frames import through

    frames_THWC = np.concatenate(list(frames))
    place = len(frames_THWC) - 1 if place < 0 else place
    return through(frames_THWC, place, fill(picture(image), *size)[0])
