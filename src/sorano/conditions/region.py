"""A part of a video made anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.conditions.base import Condition, check_number, encoded, picture
from sorano.conditions.edit import edited_frames
from sorano.errors import RequestError
from sorano.shapes import Geometry, VideoShape
from sorano.sources import open_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sorano.conditions.state import ConditionEncoder, LatentState
    from sorano.presets import Preset
    from sorano.segments import SegmentJob
    from sorano.sources import Source
    from sorano.video import Frames

    Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Region(Condition):
    """A part of a video made anew; everything outside it is copied.

    `box` is (left, top, width, height) in pixels of the video; or `mask` is a picture of the video's size, white where
    things are made anew. `start` and `end` bound it in time, in seconds. `strength` below 1 keeps some of what was
    there.
    """

    video: Any
    box: tuple[float, float, float, float] | None = None
    mask: str | Path | Frames | None = None
    start: float = 0.0
    end: float | None = None
    strength: float = 1.0

    name, flag, needs, files = "region", "--region", ("region",), ("video", "mask")
    is_verb, changes_prompt = True, True

    def __post_init__(self) -> None:
        check_number("the strength of an edit", self.strength, 0.02, 1)
        check_number("the start of a region", self.start, 0, 36_000)
        if self.end is not None and not self.end > self.start:
            raise RequestError(
                f"a region must end after it starts: got {self.start:g} to {self.end:g} s", "give --to a later second"
            )
        if (self.box is None) == (self.mask is None):
            raise RequestError("a region is a box or a mask", "give --region x,y,w,h or --mask m.png")
        if self.box is not None:
            box = tuple(float(value) for value in self.box)
            if len(box) != 4 or min(box[:2]) < 0 or min(box[2:]) <= 0:
                raise RequestError(
                    f"a region is x,y,width,height in pixels of the video: got {self.box}", "use --region 16,16,32,32"
                )
            object.__setattr__(self, "box", box)

    def source(self) -> Source:
        """The video, opened. Raises RequestError for a region that is not in it."""
        source = open_source(self.video)
        self.mask_HW(source)
        return source

    def mask_HW(self, source: Source) -> Mask:
        """True where things are made anew, in the video's pixels. Raises RequestError where it does not fit."""
        import numpy as np

        mask = np.zeros((source.height, source.width), bool)
        if self.mask is not None:
            given = picture(self.mask)
            if given.shape[:2] != mask.shape:
                raise RequestError(
                    f"the mask is {given.shape[1]}x{given.shape[0]}, {source.name} is {source.width}x{source.height}",
                    "draw the mask on a frame of the video",
                )
            mask = given.mean(-1) > 127
        else:
            assert self.box is not None
            left, top, width, height = self.box
            if left + width > source.width + 0.5 or top + height > source.height + 0.5:
                raise RequestError(
                    f"the region ends at {left + width:g}x{top + height:g}, beyond {source.name} of "
                    f"{source.width}x{source.height}",
                    f"the whole picture is --region 0,0,{source.width},{source.height}",
                )
            mask[round(top) : round(top + height), round(left) : round(left + width)] = True
        if not mask.any():
            raise RequestError("the region is empty: nothing would be made", "white is what is made anew")
        return mask

    def when(self, num_frames: int, fps: float) -> NDArray[np.bool_]:
        """True for the frames of the video in which it is made anew."""
        import numpy as np

        times = np.arange(num_frames) / fps
        return (times >= self.start - 1e-6) & (times < (self.end if self.end is not None else np.inf))

    def apply(
        self, state: LatentState, shape: VideoShape, encoder: ConditionEncoder, fps: float
    ) -> tuple[LatentState, str]:
        """The state in which every token that the region does not touch is known."""
        import numpy as np
        import torch

        source = self.source()
        data_BCTHW = encoded(source, shape, encoder, fps)
        mask_HW = self.mask_HW(source)
        _, high, wide = encoder.geometry.patch  # latents of a token
        cells = data_BCTHW.shape[3] // high, data_BCTHW.shape[4] // wide
        rows, columns = (np.linspace(0, side, n + 1).astype(int) for side, n in zip(mask_HW.shape, cells, strict=True))
        touched = np.add.reduceat(np.add.reduceat(mask_HW.astype(int), rows[:-1], 0), columns[:-1], 1) > 0
        touched_HW = touched.repeat(high, 0).repeat(wide, 1)
        when_F = self.when(shape.num_frames, fps)
        when_T = np.concatenate([when_F[:1], when_F[1:].reshape(-1, encoder.geometry.temporal).any(1)])
        if not when_T.any():
            raise RequestError(
                f"the region's time, from {self.start:g} s, is beyond the video's {source.seconds:.2f} s"
            )
        made_THW = torch.from_numpy(when_T[:, None, None] & touched_HW[None])
        state = replace(
            state,
            known_BCTHW=torch.where(made_THW, 0.0, data_BCTHW.to(state.known_BCTHW)),
            known_mask_BTHW=~made_THW[None],
            data_BCTHW=data_BCTHW if self.strength < 1 else None,
            strength=self.strength,
        )
        return state, f"{float(made_THW.float().mean()):.0%} of it is made anew; the rest is copied"

    def length(
        self, seconds: float | None, preset: Preset, source: Source | None, fps: float, geometry: Geometry
    ) -> int:
        """As long as the video."""
        assert source is not None
        return edited_frames(preset, source, fps, geometry)

    def compose(self, job: SegmentJob, chunks: Iterable[Frames]) -> Iterator[Frames]:
        """The video's own frames outside the region and its time, with a soft edge inside."""
        from sorano.frames import feathered_alpha

        assert job.source is not None
        alpha_HW1 = feathered_alpha(self.mask_HW(job.source))[..., None]
        when_F = self.when(job.source.num_frames, job.fps)
        own = (frame for chunk in job.source.frames() for frame in chunk)
        frames = (frame for chunk in chunks for frame in chunk)
        for frame_HWC, own_HWC, now in zip(frames, own, when_F, strict=False):
            mixed = own_HWC + alpha_HW1 * (frame_HWC.astype("float32") - own_HWC)
            yield (mixed.round().astype("uint8") if now else own_HWC)[None]
