"""What a video is made of, in order: frames that are copied, and latents that are generated.

    WholeSegment       the clip at once, with every condition on it
    GeneratedSegment   latents of a prompt, window by window, each going on from the one before
    CopiedSegment      frames of a given video, as they are

A clip is a video of one `WholeSegment`. Each condition that spans more (`extend`, `loop`, `blend`) lays out its own
segments; a storyboard's shots are laid out here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from sorano.errors import RequestError
from sorano.presets import Preset
from sorano.shapes import Geometry, VideoShape
from sorano.sources import Source, open_source

OVERLAP = 2  # latents of a window that are known from the one before
CONTEXT = 2  # latents that the last frames of a given video become: 5 frames
SUFFIX = 2  # latents that the first frames of a given video become: 8 frames


class SegmentJob(Protocol):
    """A job (`sorano.resolve.Job`) as far as segments and conditions are concerned."""

    @property
    def request(self) -> Any:
        """The `Request`, with nothing left open."""

    @property
    def preset(self) -> Preset:
        """The model's settings."""

    @property
    def shape(self) -> VideoShape:
        """Frames and pixels that the model makes."""

    @property
    def source(self) -> Source | None:
        """The video that the job is about."""

    @property
    def geometry(self) -> Geometry:
        """How the model lays pixels out as latents."""

    @property
    def is_film(self) -> bool:
        """Whether it is made in windows."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of conditioning latents that the model takes."""

    @property
    def rate(self) -> float:
        """Frames per second that the model makes."""

    @property
    def fps(self) -> float:
        """Frames per second of the file."""

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) of the file in pixels."""

    @property
    def first_image(self) -> Any:
        """The picture that the video begins with, or None."""


@dataclass(frozen=True)
class CopiedSegment:
    """Frames of a given video, as they are."""

    source: Source
    num_frames: int  # of the film


@dataclass(frozen=True)
class WholeSegment:
    """A clip that the model makes at once."""

    prompt: str

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt that it is made of."""
        return (self.prompt,)


@dataclass(frozen=True)
class GeneratedSegment:
    """Latents made of a prompt."""

    prompt: str
    num_latents: int
    fresh: bool = False  # begins anew, or goes on from what is on screen
    image: Any = None  # where it begins anew: its first frame
    until: Source | None = None  # leads to this video
    arriving: str | None = None  # what that one shows, where it is another scene; None: the prompt
    back_to_start: bool = False  # leads to the film's own beginning

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt that it is made of."""
        return tuple(prompt for prompt in (self.prompt, self.arriving) if prompt is not None)


Segment = CopiedSegment | WholeSegment | GeneratedSegment


def layout(job: SegmentJob) -> list[Segment]:
    """The segments of a job. Raises RequestError where they cannot be made."""
    if not job.is_film:
        return [WholeSegment(job.request.prompt)]
    for condition in job.request.conditions:
        if (segments := condition.segments(job)) is not None:
            return list(segments)
    if job.request.shots:
        return _of_shots(job)
    latents = job.geometry.latent_frames(job.shape.num_frames)
    return [GeneratedSegment(job.request.prompt, latents, fresh=True, image=job.first_image)]


def _of_shots(job: SegmentJob) -> list[Segment]:
    segments: list[CopiedSegment | GeneratedSegment] = []
    prompt = job.request.prompt
    for number, shot in enumerate(job.request.shots):
        prompt = shot.prompt or prompt
        if shot.video is not None:
            source = open_source(shot.video)
            seconds = min(source.seconds, shot.seconds or source.seconds)
            segments.append(CopiedSegment(source, max(1, round(seconds * job.fps))))
            continue
        if not prompt:
            raise RequestError(f"shot {number + 1} has no prompt, and there is none before it")
        fresh = not segments or shot.join == "cut"
        seconds = shot.seconds or job.preset.num_frames / job.rate
        latents = job.geometry.later_latents(seconds * job.rate) + fresh
        segments.append(GeneratedSegment(prompt, latents, fresh=fresh, image=shot.image))
    for index in range(1, len(segments) - 1):
        before, one, after = segments[index - 1 : index + 2]
        if not isinstance(one, GeneratedSegment) or one.fresh:
            continue
        if isinstance(before, CopiedSegment) and isinstance(after, CopiedSegment):
            segments[index] = replace(one, until=after.source)
    return list(segments)


def require_length(source: Source, rate: float) -> None:
    """Raises RequestError for a video that is too short to go on from."""
    if source.seconds * rate < 1.5:
        raise RequestError(
            f"{source.name} is {source.num_frames} frame{'s'[: source.num_frames > 1]} long: too short to go on from",
            "animate it as a picture instead: sorano generate PROMPT --image frame.png",
        )


def window_latents(job: SegmentJob) -> int:
    """Latents of a usual window: what the model does best."""
    return job.geometry.latent_frames(job.preset.num_frames)


def longest_window(job: SegmentJob) -> int:
    """Latents of the longest window that the model was trained on."""
    most = job.preset.max_num_frames
    if most is None:
        return window_latents(job)
    return job.geometry.latent_frames(job.geometry.floor_num_frames(most))


def windows(job: SegmentJob) -> tuple[VideoShape, int]:
    """The largest window of a job, and how many of the usual ones it takes, for the plan."""
    if not job.is_film:
        return job.shape, 1
    usual = window_latents(job)
    count = 0
    largest = 1
    for segment in layout(job):
        if isinstance(segment, GeneratedSegment):
            count += max(1, -(-segment.num_latents // max(1, usual - OVERLAP)))
            largest = max(largest, usual, min(longest_window(job), segment.num_latents + CONTEXT + SUFFIX))
    return replace(job.shape, num_frames=job.geometry.video_frames(min(largest, longest_window(job)))), max(1, count)


def frames_of(job: SegmentJob, segment: Segment) -> int:
    """Frames of the file that a segment adds."""
    if isinstance(segment, CopiedSegment):
        return segment.num_frames
    if isinstance(segment, WholeSegment):
        return job.shape.num_frames if job.source is None else job.source.num_frames
    if segment.fresh:
        made = job.geometry.video_frames(segment.num_latents)
    else:
        made = job.geometry.temporal * segment.num_latents
    return made if job.rate == job.fps else max(1, round(made * job.fps / job.rate))
