"""What leads from one video to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sorano.conditions.base import BRIDGE_SECONDS, Condition, bridge_frames
from sorano.errors import RequestError
from sorano.segments import CopiedSegment, GeneratedSegment, Segment, require_length
from sorano.shapes import latent_frames
from sorano.sources import open_source, saved_prompt

if TYPE_CHECKING:
    from sorano.presets import Preset
    from sorano.segments import SegmentJob
    from sorano.sources import Source


@dataclass(frozen=True)
class Blend(Condition):
    """What leads from the end of one video to the beginning of another. Their own frames are copied."""

    first: Any
    second: Any

    name, flag, needs, files = "blend", "sorano blend", ("prefix", "suffix"), ("first", "second")
    is_verb, in_segments = True, True

    def source(self) -> Source:
        """The first one, opened. Raises RequestError where the second does not fit to it."""
        a, b = open_source(self.first), open_source(self.second)
        if (a.width, a.height) != (b.width, b.height):
            raise RequestError(
                f"{a.name} is {a.width}x{a.height} and {b.name} is {b.width}x{b.height}: they do not fit together",
                "scale one of them to the other's size first",
            )
        if abs(a.fps / b.fps - 1) > 0.01:
            raise RequestError(
                f"{a.name} has {a.fps:g} frames a second and {b.name} has {b.fps:g}: they do not fit together",
                "bring one of them to the other's rate first",
            )
        return a

    def length(self, seconds: float | None, preset: Preset, source: Source | None, fps: float) -> int:
        """What leads from the one to the other."""
        return bridge_frames(preset.num_frames, seconds or BRIDGE_SECONDS, fps)

    def segments(self, job: SegmentJob) -> Sequence[Segment]:
        """The first video, what leads over, the second."""
        assert job.source is not None
        first, second = job.source, open_source(self.second)
        for one in (first, second):
            require_length(one, job.rate)
        arriving = saved_prompt(second.path) if second.path is not None else None
        latents = latent_frames(job.shape.num_frames) - 1
        bridge = GeneratedSegment(job.request.prompt, latents, until=second, arriving=arriving)
        return [CopiedSegment(first, first.num_frames), bridge, CopiedSegment(second, second.num_frames)]
