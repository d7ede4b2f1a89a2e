"""A video whose end leads into its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sorano.conditions.base import BRIDGE_SECONDS, Condition, bridge_frames
from sorano.errors import RequestError
from sorano.segments import CONTEXT, SUFFIX, CopiedSegment, GeneratedSegment, Segment, longest_window, require_length
from sorano.shapes import Geometry
from sorano.sources import open_source

if TYPE_CHECKING:
    from sorano.presets import Preset
    from sorano.segments import SegmentJob
    from sorano.sources import Source


@dataclass(frozen=True)
class Loop(Condition):
    """A video whose end leads into its beginning: of a given video, or of the one that is made."""

    video: Any = None

    name, flag, needs, files = "loop", "--loop", ("prefix", "suffix"), ("video",)
    is_verb, in_segments = True, True

    def source(self) -> Source | None:
        """The video, opened; None where it is to be made."""
        return None if self.video is None else open_source(self.video)

    def length(
        self, seconds: float | None, preset: Preset, source: Source | None, fps: float, geometry: Geometry
    ) -> int | None:
        """Of a given video: what leads from its end to its beginning; else the request's own length."""
        if self.video is None:
            return None
        return bridge_frames(preset.num_frames, seconds or BRIDGE_SECONDS, fps, geometry)

    def segments(self, job: SegmentJob) -> Sequence[Segment]:
        """A video, given or made, and what leads back to its beginning."""
        request, latents = job.request, job.geometry.latent_frames(job.shape.num_frames)
        if job.source is not None:
            require_length(job.source, job.rate)
            back_to_it = GeneratedSegment(request.prompt, latents - 1, until=job.source)
            return [CopiedSegment(job.source, job.source.num_frames), back_to_it]
        back = min(longest_window(job) - CONTEXT - SUFFIX, latents // 2)
        if latents - back < SUFFIX + 1:
            raise RequestError(f"a loop of {request.seconds:g} s is too short", "give it more --seconds")
        first = GeneratedSegment(request.prompt, latents - back, fresh=True, image=job.first_image)
        return [first, GeneratedSegment(request.prompt, back, back_to_start=True)]
