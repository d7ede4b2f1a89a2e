"""What comes after a video, or before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sorano.conditions.base import Condition, bridge_frames
from sorano.errors import RequestError
from sorano.segments import SUFFIX, CopiedSegment, GeneratedSegment, Segment, longest_window, require_length
from sorano.shapes import latent_frames, video_frames
from sorano.sources import open_source

if TYPE_CHECKING:
    from sorano.presets import Preset
    from sorano.segments import SegmentJob
    from sorano.sources import Source

DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class Continue(Condition):
    """What comes after a video ("forward") or before it ("backward"). Its own frames are copied."""

    video: Any
    direction: str = "forward"

    name, flag, files = "continue", "sorano extend", ("video",)
    is_verb, in_segments, changes_prompt = True, True, True

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise RequestError(f"a video goes on {' or '.join(DIRECTIONS)}: got {self.direction!r}")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Forward, a model that takes a first frame goes on from the last one."""
        return ("first",) if self.direction == "forward" else ("suffix",)

    def source(self) -> Source:
        """The video, opened."""
        return open_source(self.video)

    def length(self, seconds: float | None, preset: Preset, source: Source | None, fps: float) -> int:
        """As much as is asked for, or as the preset does best, after one latent of context."""
        return bridge_frames(preset.num_frames, seconds, fps)

    def segments(self, job: SegmentJob) -> Sequence[Segment]:
        """The video and what follows it, or what leads to it and the video."""
        assert job.source is not None
        source, prompt, latents = job.source, job.request.prompt, latent_frames(job.shape.num_frames) - 1
        require_length(source, job.rate)
        if self.direction == "forward":
            return [CopiedSegment(source, source.num_frames), GeneratedSegment(prompt, latents)]
        most = longest_window(job) - SUFFIX
        if latents + 1 > most:
            raise RequestError(
                f"{job.preset.name} goes back by at most {video_frames(most - 1) / job.rate:.2f} s at once",
                "do it again with the file that comes out",
            )
        before = GeneratedSegment(prompt, latents + 1, anew=True, until=source)
        return [before, CopiedSegment(source, source.num_frames)]
