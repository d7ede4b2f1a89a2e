"""A video made again by another prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sorano.conditions.base import Condition, check_number, encoded
from sorano.errors import RequestError
from sorano.shapes import VideoShape, nearest_num_frames
from sorano.sources import open_source

if TYPE_CHECKING:
    from sorano.conditions.state import ConditionEncoder, LatentState
    from sorano.presets import Preset
    from sorano.sources import Source

DEFAULT_STRENGTH = 0.8


def edited_frames(preset: Preset, source: Source, fps: float) -> int:
    """Frames (4k + 1) of a video that is made anew. Raises RequestError for a longer one than the model makes."""
    most, num_frames = preset.max_num_frames, nearest_num_frames(source.seconds, fps)
    if most is not None and num_frames > most:
        raise RequestError(
            f"preset {preset.name} edits {most / fps:.2f} s at most: {source.name} is {source.seconds:.2f} s long",
            "cut out the part to edit",
        )
    return num_frames


@dataclass(frozen=True)
class Edit(Condition):
    """A video made again by another prompt (SDEdit, Meng et al. 2022): noise is put over it, and taken away anew.

    `strength` is how much of it is noise: 0 keeps everything, 1 nothing.
    """

    video: Any
    strength: float = DEFAULT_STRENGTH

    name, flag, files = "edit", "sorano edit", ("video",)
    is_verb, changes_prompt = True, True

    def __post_init__(self) -> None:
        check_number("the strength of an edit", self.strength, 0.02, 1)

    def source(self) -> Source:
        """The video, opened."""
        return open_source(self.video)

    def apply(
        self, state: LatentState, shape: VideoShape, encoder: ConditionEncoder, fps: float
    ) -> tuple[LatentState, str]:
        """The state that starts from the video under noise."""
        data_BCTHW = encoded(self.source(), shape, encoder, fps)
        return replace(state, data_BCTHW=data_BCTHW, strength=self.strength), f"made again at {self.strength:g} noise"

    def length(self, seconds: float | None, preset: Preset, source: Source | None, fps: float) -> int:
        """As long as the video."""
        assert source is not None
        return edited_frames(preset, source, fps)
