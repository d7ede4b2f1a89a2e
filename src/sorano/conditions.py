"""What is given and what is to be made: every verb is a condition on one latent state.

A `LatentState` holds the noise that the solver starts from, the clean latents that are known, which latents those are,
and where in time each latent frame stands. Known latents are put into the network's input at timestep 0 and are never
integrated, so image-to-video is the same loop as text-to-video with one latent frame given.

What users give are the classes `FirstFrame` to `Region`: plain data, with files by their paths, so that a request can
be written down as JSON. Those that concern one stretch of video put what they know into the state (`apply`);
`Continue`, `Loop` and `Blend` say what lies before and after it, which `stream.py` lays out.

Models differ in how they take what is given, and a `Taker` speaks for the model: one with a timestep for each token
takes known latents as tokens; Wan's image to video takes them as channels beside the latent (a mask of each frame, and
the encoding of the video with grey where nothing is given), in 2.1 with an image encoder's tokens as well.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sorano.errors import RequestError, VideoError
from sorano.shapes import TEMPORAL, LatentShape, VideoShape
from sorano.sources import open_source
from sorano.video import fill, read_image, resize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sorano.sources import Source
    from sorano.video import Frames

    Mask = NDArray[np.bool_]

DEFAULT_STRENGTH = 0.8
IN_MEMORY = "in memory"  # what stands in JSON for pictures and videos that are no files
DIRECTIONS = ("forward", "backward")


class Taker(Protocol):
    """A model, as far as what is given concerns it."""

    @property
    def takes(self) -> str:
        """ "tokens", "channels" or "nothing"."""

    def encode(self, video_BCTHW: Tensor) -> Tensor:
        """Video in -1..1 to normalised latent_BCTHW: the autoencoder's `encode_latent`."""

    def see(self, frames: list[Frames]) -> Tensor | None:
        """The image encoder's tokens [1, S, D] of pictures [H, W, 3], one after the other; None without one."""


@dataclass(frozen=True)
class LatentState:
    """One batch of latents before denoising."""

    noise_BCTHW: Tensor  # float32 on the CPU, so that one seed gives one video on every device
    known_BCTHW: Tensor  # clean latents where known, zeros elsewhere
    known_mask_BTHW: Tensor  # bool: true where the latent is known
    positions_T: tuple[float, ...]  # where each latent frame stands in time, in latent frames; may be fractional
    known_noise: float = 0.0  # the share of noise that the known latents carry, and say that they do
    appended: int = 0  # keyframes: the last latent frames, which are no part of the video
    # an edit: what it starts from, and how much noise is put over that
    data_BCTHW: Tensor | None = None
    strength: float = 1.0
    # for models that take what is given as channels
    frames: tuple[tuple[int, Frames, Frames], ...] = ()  # place, picture [H, W, 3] of the video's size, and as given
    beside_BCTHW: Tensor | None = None
    image_BSD: Tensor | None = None

    @property
    def any_known(self) -> bool:
        """Whether anything is given."""
        return bool(self.known_mask_BTHW.any())

    def with_known(self, latent_BCTHW: Tensor, *, start: int = 0) -> LatentState:
        """The same state with these clean latents known from latent frame `start` on."""
        stop = start + latent_BCTHW.shape[2]
        known, mask = self.known_BCTHW.clone(), self.known_mask_BTHW.clone()
        known[:, :, start:stop] = latent_BCTHW.to(known)
        mask[:, start:stop] = True
        return replace(self, known_BCTHW=known, known_mask_BTHW=mask)

    def with_keyframe(self, latent_BCTHW: Tensor, position: float) -> LatentState:
        """The same state with a picture that was encoded alone, known at a place in time, in latent frames."""
        import torch

        mask_BTHW = torch.ones_like(self.known_mask_BTHW[:, :1])
        return replace(
            self,
            noise_BCTHW=torch.cat([self.noise_BCTHW, torch.zeros_like(self.noise_BCTHW[:, :, :1])], 2),
            known_BCTHW=torch.cat([self.known_BCTHW, latent_BCTHW.to(self.known_BCTHW)], 2),
            known_mask_BTHW=torch.cat([self.known_mask_BTHW, mask_BTHW], 1),
            positions_T=(*self.positions_T, position),
            appended=self.appended + 1,
        )

    def with_frame(self, place: int, frame_HWC: Frames, whole_HWC: Frames) -> LatentState:
        """The same state with this frame given, in pixels, at its place, and the picture that it was cut from."""
        given = [*self.frames, (place, frame_HWC, whole_HWC)]
        return replace(self, frames=tuple(sorted(given, key=lambda one: one[0])))


# What users give.


class Condition:
    """Something that is given. `needs` are the kinds of known latents that a model must take for it."""

    name: ClassVar[str]
    flag: ClassVar[str]  # of the command
    needs: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()  # the fields that are files

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

    def source(self) -> Source | None:
        """The video that it is about, opened; None where it is about pictures."""
        return None


@dataclass(frozen=True)
class FirstFrame(Condition):
    """The video begins with this picture: a file, or [H, W, 3]. It is encoded alone, as every video's first frame."""

    image: str | Path | Frames

    name, flag, needs, files = "first_frame", "--image", ("first",), ("image",)

    def apply(self, state: LatentState, shape: VideoShape, model: Taker, fps: float = 0.0) -> tuple[LatentState, str]:
        """The state with its first frame given; the picture is scaled to fill the video and cropped."""
        return _at(self.image, 0, state, shape, model)


@dataclass(frozen=True)
class LastFrame(Condition):
    """The video ends with this picture: a file, or [H, W, 3]."""

    image: str | Path | Frames

    name, flag, needs, files = "last_frame", "--last", ("last",), ("image",)

    def apply(self, state: LatentState, shape: VideoShape, model: Taker, fps: float = 0.0) -> tuple[LatentState, str]:
        """The state with its last frame given; the picture is scaled to fill the video and cropped."""
        return _at(self.image, shape.num_frames - 1, state, shape, model)


@dataclass(frozen=True)
class Keyframe(Condition):
    """The video comes to this picture at a time in seconds."""

    seconds: float
    image: str | Path | Frames

    name, flag, needs, files = "keyframe", "--keyframe", ("keyframe",), ("image",)

    def __post_init__(self) -> None:
        _check_number("the time of a keyframe", self.seconds, 0, 36_000)

    def apply(self, state: LatentState, shape: VideoShape, model: Taker, fps: float) -> tuple[LatentState, str]:
        """The state with a picture known at its time. Raises RequestError for a time beyond the end."""
        return _at(self.image, self.place(shape, fps), state, shape, model)

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


@dataclass(frozen=True)
class Continue(Condition):
    """What comes after a video ("forward") or before it ("backward"). Its own frames are copied."""

    video: Any
    direction: str = "forward"

    name, flag, files = "continue", "sorano extend", ("video",)

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


@dataclass(frozen=True)
class Loop(Condition):
    """A video whose end leads into its beginning: of a given video, or of the one that is made."""

    video: Any = None

    name, flag, needs, files = "loop", "--loop", ("prefix", "suffix"), ("video",)

    def source(self) -> Source | None:
        """The video, opened; None where it is to be made."""
        return None if self.video is None else open_source(self.video)


@dataclass(frozen=True)
class Blend(Condition):
    """What leads from the end of one video to the beginning of another. Their own frames are copied."""

    first: Any
    second: Any

    name, flag, needs, files = "blend", "sorano blend", ("prefix", "suffix"), ("first", "second")

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


@dataclass(frozen=True)
class Edit(Condition):
    """A video made again by another prompt (SDEdit, Meng et al. 2022): noise is put over it, and taken away anew.

    `strength` is how much of it is noise: 0 keeps everything, 1 nothing.
    """

    video: Any
    strength: float = DEFAULT_STRENGTH

    name, flag, files = "edit", "sorano edit", ("video",)

    def __post_init__(self) -> None:
        _check_number("the strength of an edit", self.strength, 0.02, 1)

    def source(self) -> Source:
        """The video, opened."""
        return open_source(self.video)

    def apply(self, state: LatentState, shape: VideoShape, model: Taker, fps: float) -> tuple[LatentState, str]:
        """The state that starts from the video under noise."""
        data_BCTHW = _encoded(self.source(), shape, model, fps)
        return replace(state, data_BCTHW=data_BCTHW, strength=self.strength), f"made again at {self.strength:g} noise"


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

    def __post_init__(self) -> None:
        _check_number("the strength of an edit", self.strength, 0.02, 1)
        _check_number("the start of a region", self.start, 0, 36_000)
        if self.end is not None and not self.end > self.start:
            raise RequestError(f"a region must end after it starts: got {self.start:g} to {self.end:g} s")
        if (self.box is None) == (self.mask is None):
            raise RequestError("a region is a box or a mask", "give --region x,y,w,h or --mask m.png")
        if self.box is not None:
            box = tuple(float(value) for value in self.box)
            if len(box) != 4 or min(box[:2]) < 0 or min(box[2:]) <= 0:
                raise RequestError(f"a region is x,y,width,height in pixels of the video: got {self.box}")
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
                    f"{source.width}x{source.height}"
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

    def apply(self, state: LatentState, shape: VideoShape, model: Taker, fps: float) -> tuple[LatentState, str]:
        """The state in which every token that the region does not touch is known."""
        import numpy as np
        import torch

        source = self.source()
        data_BCTHW = _encoded(source, shape, model, fps)
        mask_HW = self.mask_HW(source)
        cells = data_BCTHW.shape[3] // 2, data_BCTHW.shape[4] // 2  # tokens, of 2 x 2 latents
        rows, columns = (np.linspace(0, side, n + 1).astype(int) for side, n in zip(mask_HW.shape, cells, strict=True))
        touched = np.add.reduceat(np.add.reduceat(mask_HW.astype(int), rows[:-1], 0), columns[:-1], 1) > 0
        touched_HW = touched.repeat(2, 0).repeat(2, 1)
        when_F = self.when(shape.num_frames, fps)
        when_T = np.concatenate([when_F[:1], when_F[1:].reshape(-1, TEMPORAL).any(1)])
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


CONDITIONS: dict[str, type[Condition]] = {
    one.name: one for one in (FirstFrame, LastFrame, Keyframe, Continue, Loop, Blend, Edit, Region)
}


def as_condition(given: Condition | Mapping[str, Any]) -> Condition:
    """A condition, or one of JSON. Raises RequestError, naming what it does not know."""
    if isinstance(given, Condition):
        return given
    if not isinstance(given, Mapping):
        raise RequestError(f"a condition is an object with a kind: got {given!r}")
    words = dict(given)
    kind = CONDITIONS.get(str(words.pop("kind", "")))
    if kind is None:
        raise RequestError(f"unknown condition {given.get('kind')!r}", f"kinds are {', '.join(CONDITIONS)}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for word in words:
        if word not in known:
            raise RequestError(f"a {kind.name} has no {word!r}", f"it has {', '.join(sorted(known))}")
    try:
        return kind(**words)
    except TypeError as error:
        raise RequestError(f"a {kind.name} needs more: {error}") from error


def _at(
    image: str | Path | Frames, place: int, state: LatentState, shape: VideoShape, model: Taker
) -> tuple[LatentState, str]:
    """The state with a picture given at a frame."""
    whole_HWC = picture(image)
    frame_HWC, said = fill(whole_HWC, shape.width, shape.height)
    if model.takes != "tokens":
        return state.with_frame(place, frame_HWC, whole_HWC), said
    latent = model.encode(frames_to_video(frame_HWC[None]))
    return (state.with_keyframe(latent, place / TEMPORAL) if place else state.with_known(latent)), said


def _encoded(source: Source, shape: VideoShape, model: Taker, fps: float) -> Tensor:
    """The latents of a source's beginning, at the model's size and rate."""
    return model.encode(frames_to_video(at_model(source, shape, fps)))


def at_model(source: Source, shape: VideoShape, fps: float) -> Frames:
    """The first frames of a source at a model's size and rate, as many as the shape has; the last one is held."""
    frames = source.sampled([place / fps for place in range(shape.num_frames)])
    return resize(frames, shape.width, shape.height)


def as_channels(state: LatentState, shape: VideoShape, model: Taker) -> LatentState:
    """The given frames as channels beside the latent, and as image tokens, where the model takes them so."""
    import torch

    if model.takes != "channels":
        return state
    video_BCTHW = torch.zeros(1, 3, shape.num_frames, shape.height, shape.width)
    given_F = torch.zeros(shape.num_frames)
    for place, frame_HWC, _ in state.frames:
        video_BCTHW[:, :, place] = frames_to_video(frame_HWC[None])[:, :, 0]
        given_F[place] = 1
    latent_BCTHW = model.encode(video_BCTHW)
    # a latent frame codes four frames and has a channel for each; the first codes one, which counts four times
    given_F = torch.cat([given_F[:1].expand(TEMPORAL), given_F[1:]])
    mask_BCTHW = given_F.view(-1, TEMPORAL).T[None, :, :, None, None].expand(1, -1, *latent_BCTHW.shape[2:])
    image_BSD = model.see([whole_HWC for _, _, whole_HWC in state.frames])  # all of it, as stock pipelines show it
    return replace(state, beside_BCTHW=torch.cat([mask_BCTHW, latent_BCTHW], dim=1), image_BSD=image_BSD)


def picture(image: str | Path | Frames) -> Frames:
    """A picture [H, W, 3], from a file or as it is. Raises RequestError for one that cannot be read."""
    return read_picture(image) if isinstance(image, str | Path) else image


def read_picture(path: str | Path) -> Frames:
    """A picture [H, W, 3]. Raises RequestError for a file that is missing, broken or too large."""
    try:
        return read_image(path)
    except VideoError as error:
        raise RequestError(error.message, error.hint) from error


def start_state(seeds: Iterable[int], channels: int, latent: LatentShape) -> LatentState:
    """Nothing known yet: noise drawn in float32 on the CPU, for each video from a generator of its own seed."""
    import torch

    shape = (channels, latent.num_frames, latent.rows, latent.columns)
    noise = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    return unknown(torch.stack(noise))


def unknown(noise_BCTHW: Tensor) -> LatentState:
    """Nothing known yet but the noise."""
    import torch

    b, _, t, h, w = noise_BCTHW.shape
    return LatentState(
        noise_BCTHW=noise_BCTHW,
        known_BCTHW=torch.zeros_like(noise_BCTHW),
        known_mask_BTHW=torch.zeros(b, t, h, w, dtype=torch.bool),
        positions_T=tuple(float(index) for index in range(t)),
    )


def frames_to_video(frames_THWC: Frames) -> Tensor:
    """uint8 frames to video_BCTHW, float32 in -1..1, a batch of one."""
    import torch

    video_CTHW = torch.from_numpy(frames_THWC.copy()).permute(3, 0, 1, 2)
    return video_CTHW[None].float() / 127.5 - 1


def video_to_frames(video_BCTHW: Tensor) -> Frames:
    """The first video of a batch, -1..1, as uint8 frames_THWC; values beyond are clipped."""
    import torch

    video_THWC = video_BCTHW[0].float().clamp(-1, 1).permute(1, 2, 3, 0)
    frames: Frames = ((video_THWC + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    return frames


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise RequestError(f"{name} must be a number from {least:g} to {most:g}: got {value!r}")
