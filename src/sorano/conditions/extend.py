"""What comes after a video, or before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sorano.conditions.base import Condition, bridge_frames
from sorano.errors import RequestError
from sorano.segments import SUFFIX, CopiedSegment, GeneratedSegment, Segment, longest_window, require_length
from sorano.shapes import Geometry
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

    def length(
        self, seconds: float | None, preset: Preset, source: Source | None, fps: float, geometry: Geometry
    ) -> int:
        """As much as is asked for, or as the preset does best, after one latent of context.

        Unasked, never more than can be made before a video at once.
        """
        asked = bridge_frames(preset.num_frames, seconds, fps, geometry)
        if seconds is not None or self.direction == "forward" or preset.max_num_frames is None:
            return asked
        longest = geometry.latent_frames(geometry.floor_num_frames(preset.max_num_frames)) - SUFFIX
        return min(asked, geometry.video_frames(longest))

    def segments(self, job: SegmentJob) -> Sequence[Segment]:
        """The video and what follows it, or what leads to it and the video."""
        assert job.source is not None
        source, prompt, latents = job.source, job.request.prompt, job.geometry.latent_frames(job.shape.num_frames) - 1
        require_length(source, job.rate)
        if self.direction == "forward":
            return [CopiedSegment(source, source.num_frames), GeneratedSegment(prompt, latents)]
        most = longest_window(job) - SUFFIX
        longest = job.geometry.video_frames(most - 1) / job.rate
        if latents + 1 > most:
            raise RequestError(
                f"{job.preset.name} goes back by at most {longest:.2f} s at once",
                "do it again with the file that comes out",
            )
        before = GeneratedSegment(prompt, latents + 1, fresh=True, until=source)
        return [before, CopiedSegment(source, source.num_frames)]
