"""The signed fingerprint of a video or a picture (version 2): what a copy is compared with, frame by frame.

It holds, in at most 2 MB whatever the length: the presentation time of every frame with a 12 x 12 perceptual hash (luma
means, coarsely quantised); finer pictures, 64 luma cells on the long side and half as many for each colour difference,
four a second; with each of them the energy of the detail that is finer than a cell, in two bands, in 4 bits for each
cell of the colour differences; and a fingerprint of the audio (`audio_fingerprint`), or the statement that there was
none. Where 2 MB do not suffice the hashes get coarser, then every part keeps every second, fourth ... of its items.
Taking it needs constant memory. Prints without the energy (signed before it was taken) are still read, and so is
version 1 (24 x 24 thumbnails every half second), which cannot tell a copy from a forgery.

Not covered: what is smaller than the cells or shorter than their distance in time (docs/trust.md has the measured
limits). It is no secret: it shows the clip in 64 x 36 cells.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sorano.errors import TrustError
from sorano.trust.copies.audio_fingerprint import SoundPrint, SoundPrintBuilder

if TYPE_CHECKING:
    from sorano.video import Frames

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

VERSION, OLD_VERSION = 2, 1
MAX_BYTES = 2_000_000
HASH_BYTES, SOUND_BYTES = 800_000, 300_000  # of them; the finer pictures get what is left
HASH = 12  # cells on each side of a hash
HASH_STEPS = (4, 8, 16)  # luma levels between two quantisation steps, the coarser where the bound asks for it
LONG = 64  # cells on the long side of a finer picture
BRIGHTEST, DARKEST = 250, 5  # levels of 255 of a channel from which, and to which, it is taken for clipped
LUMA_STEP, CHROMA_STEP = 2, 2  # levels between two quantisation steps of the finer pictures
FINER = 4  # samples of a cell on each side from which its detail is measured
DETAIL_UNIT, DETAIL_FLOOR, DETAIL_STEP = 10.0, 2.0, 4  # energy e: 10 log2(1 + rms / 2 levels), signed in steps of 4
PICTURE_SECONDS = 0.25  # between two finer pictures
MOST_FRAMES = 1 << 17  # hashes that are held while taking: 73 minutes at 30 frames a second, then every second one
MOST_PICTURES = 2048  # finer pictures that are held while taking
TIME_UNIT = 1e-4  # seconds
SHORTEST_SIDE = 8  # cells
THUMB, MOST_THUMBS = 24, 4096  # cells on each side of a thumbnail; thumbnails of a clip

HEAD = struct.Struct(">BBHHBIIId")  # version, flags, height, width, hash step, frames, pictures, sound bytes, length
STILL, SOUND_KNOWN, DETAIL_KNOWN = 1, 2, 4  # flags


@dataclass(frozen=True)
class Fingerprint:
    """A signed fingerprint. `sound` is None where nothing is said about audio, and empty where there was none."""

    starts_T: NDArray[np.float64]  # presentation times of the hashed frames, seconds; the first frame shown is at 0
    hashes_TYX: Bytes  # [T, 12, 12]
    length: float  # seconds; 0 for a still picture
    still: bool
    picture_starts_K: NDArray[np.float64]
    luma_KYX: Bytes
    chroma_K2YX: Bytes
    size: tuple[int, int]  # height and width in pixels
    sound: SoundPrint | None = None
    hash_step: int = HASH_STEPS[0]
    detail_K2YX: Bytes | None = None  # energy of the detail in two bands, the finer first; as large as the chroma
    clipped_K2YX: Bytes | None = None  # of a copy, not signed: the pixels of a cell at their most, and least

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the finer pictures."""
        return int(self.luma_KYX.shape[1]), int(self.luma_KYX.shape[2])

    def to_bytes(self) -> bytes:
        """What is signed: at most MAX_BYTES."""
        sound = b"" if self.sound is None else self.sound.to_bytes(SOUND_BYTES)
        hashes, step = _hash_bytes(self.starts_T, self.hashes_TYX)
        pictures = _picture_bytes(self, MAX_BYTES - len(hashes) - len(sound) - HEAD.size - 8)
        known = self.detail_K2YX is not None
        flags = STILL * self.still | SOUND_KNOWN * (self.sound is not None) | DETAIL_KNOWN * known
        counts = [struct.unpack(">I", part[:4])[0] for part in (hashes, pictures)]
        head = HEAD.pack(VERSION, flags, *self.size, step, *counts, len(sound), self.length)
        return head + sound + struct.pack(">I", len(hashes) - 4) + hashes[4:] + pictures[4:]


def _hash_bytes(starts_T: Array, hashes_TYX: Bytes) -> tuple[bytes, int]:
    """The number of hashes, then the hashes and times compressed; and the quantisation step that fits."""
    stride = 1
    while True:
        for step in HASH_STEPS:
            starts, hashes = starts_T[::stride], hashes_TYX[::stride] // np.uint8(step)
            packed = zlib.compress(_ticks(starts) + _deltas(hashes), 6)
            if len(packed) <= HASH_BYTES:
                return struct.pack(">I", len(starts)) + packed, step
        stride *= 2


def _picture_bytes(taken: Fingerprint, most: int) -> bytes:
    """The number of finer pictures, then the pictures and their times compressed; behind them, apart, their detail.

    Programs that know no detail read the first part and pass over the second.
    """
    stride = 1
    while True:
        starts = taken.picture_starts_K[::stride]
        luma = taken.luma_KYX[::stride] // np.uint8(LUMA_STEP)
        chroma = taken.chroma_K2YX[::stride] // np.uint8(CHROMA_STEP)
        packed = zlib.compress(_ticks(starts) + _deltas(luma) + _deltas(chroma), 6)
        if taken.detail_K2YX is not None:
            packed += zlib.compress(_deltas(taken.detail_K2YX[::stride] // np.uint8(DETAIL_STEP)), 6)
        if len(packed) <= most:
            return struct.pack(">I", len(starts)) + packed
        stride *= 2


def _ticks(starts: Array) -> bytes:
    """Times as differences of whole time units, four bytes each."""
    return np.diff(np.rint(starts / TIME_UNIT).astype(np.int64), prepend=0).astype(">i4").tobytes()


def _deltas(pictures: Bytes) -> bytes:
    """Each picture less the one before it."""
    return np.diff(pictures, axis=0, prepend=np.zeros_like(pictures[:1])).tobytes()


def version_of(data: bytes) -> int:
    """The version of a signed fingerprint, 0 for none."""
    return data[0] if data else 0


def from_bytes(data: bytes) -> Fingerprint:
    """The reverse of `to_bytes`, with limits on what is unpacked. Raises TrustError for anything else."""
    try:
        version, flags, height, width, step, frames, pictures, sound_size, length = HEAD.unpack(data[: HEAD.size])
        if version != VERSION or len(data) > MAX_BYTES or step not in HASH_STEPS:
            raise TrustError(f"a fingerprint of version {version} is not known here")
        if not (1 <= frames <= MOST_FRAMES and 1 <= pictures <= MOST_PICTURES and 0 <= length < 1e9):
            raise TrustError("a fingerprint says impossible numbers of frames")
        rows, columns = grid_of(height, width)
        at = HEAD.size + sound_size
        sound = SoundPrint.from_bytes(data[HEAD.size : at]) if flags & SOUND_KNOWN else None
        (hash_size,) = struct.unpack(">I", data[at : at + 4])
        packed, rest = data[at + 4 : at + 4 + hash_size], data[at + 4 + hash_size :]
        (starts, hashes), _ = _unpacked(packed, frames, [(HASH, HASH)])
        shapes = [(rows, columns), (2, *_half(rows, columns))]
        (picture_starts, luma, chroma), rest = _unpacked(rest, pictures, shapes)
        detail = _unpacked_detail(rest, pictures, shapes[1]) if flags & DETAIL_KNOWN else None
    except (struct.error, zlib.error, ValueError) as error:
        raise TrustError(f"a fingerprint cannot be read: {error}") from error
    return Fingerprint(
        starts, _levels(hashes, step), length, bool(flags & STILL), picture_starts, _levels(luma, LUMA_STEP),
        _levels(chroma, CHROMA_STEP), (height, width), sound, step, detail,
    )  # fmt: skip


def _unpacked_detail(packed: bytes, count: int, shape: tuple[int, ...]) -> Bytes:
    """The energy of the detail. Raises ValueError where it is not what was said."""
    size = count * int(np.prod(shape))
    raw = zlib.decompressobj().decompress(packed, size + 1)
    if len(raw) != size:
        raise ValueError("its detail is cut off")
    deltas = np.frombuffer(raw, np.uint8).reshape(count, *shape)
    return _levels(np.cumsum(deltas, axis=0, dtype=np.uint8), DETAIL_STEP)


def _unpacked(packed: bytes, count: int, shapes: list[tuple[int, ...]]) -> tuple[list[Array], bytes]:
    """The times, the pictures of each shape, and what follows. Raises ValueError where they are not what was said."""
    sizes = [4 * count, *(count * int(np.prod(shape)) for shape in shapes)]
    opened = zlib.decompressobj()
    raw = opened.decompress(packed, sum(sizes) + 1)
    if len(raw) != sum(sizes):
        raise ValueError("it is cut off")
    opened.decompress(opened.unconsumed_tail, 1)  # to its end
    starts = np.cumsum(np.frombuffer(raw[: sizes[0]], ">i4").astype(np.int64)) * TIME_UNIT
    if (np.diff(starts) < 0).any() or abs(starts[0]) > 1e9:
        raise ValueError("its times run backwards")
    out: list[Array] = [starts]
    at = sizes[0]
    for size, shape in zip(sizes[1:], shapes, strict=True):
        deltas = np.frombuffer(raw[at : at + size], np.uint8).reshape(count, *shape)
        out.append(np.cumsum(deltas, axis=0, dtype=np.uint8))
        at += size
    return out, opened.unused_data


def _levels(quantised: Bytes, step: int) -> Bytes:
    """The middle of each quantisation step."""
    return np.asarray(np.minimum(quantised.astype(np.uint16) * step + step // 2, 255), np.uint8)


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the finer pictures of frames of a size: no cell is smaller than two pixels."""
    long = max(height, width, 1)
    most = min(LONG, max(SHORTEST_SIDE, long // 2))
    rows, columns = (max(SHORTEST_SIDE, round(most * side / long)) for side in (height, width))
    return rows, columns


def _half(rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // 2), -(-columns // 2)


class Cells(NamedTuple):
    """A frame as cells: a hash [12, 12], luma [Y, X], colour differences [2, Y/2, X/2] about 128, and detail alike."""

    hash_YX: Bytes
    luma_YX: Bytes
    chroma_2YX: Bytes
    detail_2YX: Bytes


def cells(frame_HWC: Frames) -> Cells:
    """A frame as cells, all area means."""
    import cv2

    height, width = frame_HWC.shape[:2]
    rows, columns = grid_of(height, width)
    small: Any = np.ascontiguousarray(frame_HWC)
    while height % 2 == width % 2 == 0 and min(height // rows, width // columns) >= 2 * FINER:  # quick, and exact
        height, width = height // 2, width // 2
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
    rgb = _scaled(small, rows, columns).astype(np.float32)
    luma = rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    differences = np.stack([(rgb[..., 2] - luma) / 1.8556, (rgb[..., 0] - luma) / 1.5748], -1) + 128
    half = _half(rows, columns)
    chroma = cv2.resize(differences, half[::-1], interpolation=cv2.INTER_AREA)
    short = _scaled(luma, HASH, HASH)
    detail = _detail(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), luma, half)
    return Cells(_rounded(short), _rounded(luma), _rounded(chroma.transpose(2, 0, 1)), detail)


def clipped(frame_HWC: Frames) -> Bytes:
    """[2, Y, X], of 255: how many of a cell's pixels have a channel that is as bright, and as dark, as it can be."""
    import cv2

    height, width = frame_HWC.shape[:2]
    rows, columns = grid_of(height, width)
    step = max(1, min(height // rows, width // columns) // 4)  # four by four pixels of a cell are enough
    red, green, blue = (np.ascontiguousarray(frame_HWC[::step, ::step, channel]) for channel in range(3))
    most, least = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    masks = cv2.threshold(most, BRIGHTEST - 1, 255, cv2.THRESH_BINARY)[1], cv2.inRange(least, 0, DARKEST)
    return np.asarray(np.stack([_scaled(mask, rows, columns) for mask in masks]), np.uint8)


def _scaled(picture: Array, rows: int, columns: int) -> Array:
    """A picture at another size, by area means where it gets smaller."""
    import cv2

    shrinks = min(picture.shape[0] / rows, picture.shape[1] / columns) >= 1
    return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _detail(grey_YX: Array, luma_YX: Array, half: tuple[int, int]) -> Bytes:
    """[2, Y/2, X/2]: how much of the picture lies between 4 and 2 samples a cell, and between 2 and 1 a cell.

    The energy of a band is the difference of two mean squares: that of finer means less that of coarser ones.
    """
    import cv2

    rows, columns = luma_YX.shape
    fine = _scaled(grey_YX, FINER * rows, FINER * columns).astype(np.float32)
    middle = cv2.resize(fine, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(middle, (columns, rows), interpolation=cv2.INTER_AREA)
    means = [cv2.resize(one * one, half[::-1], interpolation=cv2.INTER_AREA) for one in (fine, middle, coarse)]
    power = np.maximum(np.stack([means[0] - means[1], means[1] - means[2]]), 0)
    return _rounded(DETAIL_UNIT * np.log2(1 + np.sqrt(power) / DETAIL_FLOOR))


def _rounded(values: Array) -> Bytes:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


class FingerprintBuilder:
    """Takes a fingerprint of a stream in constant memory.

    For signing, finer pictures are kept every `picture_seconds`; for comparing (`picture_seconds=0`) one of every
    frame, and every second, fourth ... where there are more than `most_pictures`.
    """

    def __init__(
        self,
        fps: float,
        *,
        still: bool = False,
        picture_seconds: float = PICTURE_SECONDS,
        most_pictures: int = MOST_PICTURES,
        most_frames: int = MOST_FRAMES,
    ) -> None:
        self.fps = fps if fps > 0 else 25.0
        self.still = still
        self.most_pictures, self.most_frames = most_pictures, most_frames
        self.count = 0
        self.end = 0.0  # of the last frame
        self.stride, self.picture_stride = 1, 1
        self.picture_seconds = picture_seconds
        self.starts: list[float] = []
        self.hashes: list[Bytes] = []
        self.pictures: list[tuple[float, Bytes, Bytes, Bytes | None]] = []
        self.clipped: list[Bytes] = []  # of each picture, where one of every frame is kept for comparing
        self.pictures_seen = 0
        self.size = (0, 0)
        self.sound: SoundPrint | None = None

    def add(self, frames_THWC: Frames, starts_T: Iterable[float] | None = None, end: float | None = None) -> None:
        """The next frames, with their presentation times (else they follow from the frame rate)."""
        starts = (self.count + np.arange(len(frames_THWC))) / self.fps if starts_T is None else np.asarray(starts_T)
        for frame_HWC, start in zip(frames_THWC, starts.tolist(), strict=True):
            self._add(frame_HWC, float(start))
        self.end = (float(starts[-1]) + 1 / self.fps if len(starts) else self.end) if end is None else end

    def _add(self, frame_HWC: Frames, start: float) -> None:
        short, luma, chroma, detail = cells(frame_HWC)
        if not self.count:
            self.size = (int(frame_HWC.shape[0]), int(frame_HWC.shape[1]))
        if self.count % self.stride == 0:
            self.starts.append(start)
            self.hashes.append(short)
            if len(self.hashes) > self.most_frames:
                self.starts, self.hashes, self.stride = self.starts[::2], self.hashes[::2], 2 * self.stride
        self.count += 1
        last = self.pictures[-1] if self.pictures else None
        if last is not None and start < last[0] + self.picture_seconds * self.picture_stride - TIME_UNIT:
            return
        self.pictures_seen += 1
        if self.picture_seconds == 0 and (self.pictures_seen - 1) % self.picture_stride:
            return
        if last is None or last[1].shape == luma.shape:
            self.pictures.append((start, luma, chroma, detail))
            if self.picture_seconds == 0:
                self.clipped.append(clipped(frame_HWC))
        if len(self.pictures) > self.most_pictures:
            self.pictures, self.picture_stride = self.pictures[::2], 2 * self.picture_stride
            self.clipped = self.clipped[::2]

    def listen(self, samples: Iterable[Array]) -> None:
        """The audio, mono at 16,000 samples a second; nothing at all says that there is none."""
        fingerprinter = SoundPrintBuilder()
        for chunk in samples:
            fingerprinter.add(chunk)
        self.sound = fingerprinter.print()

    def state(self) -> dict[str, Any]:
        """What it remembers, for a run that goes on later."""
        taken = self._arrays() if self.pictures else {}
        names = ("count", "end", "stride", "picture_stride", "pictures_seen", "starts", "size")
        return {**{name: getattr(self, name) for name in names}, **taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        for name in ("count", "end", "stride", "picture_stride", "pictures_seen"):
            setattr(self, name, state[name])
        self.starts = [float(start) for start in state["starts"]]
        self.size = tuple(state["size"])
        if self.starts:
            self.hashes = list(state["hashes"])
            times = [float(start) for start in state["picture_starts"]]
            detail = state.get("detail", [None] * len(times))  # runs that began before it was taken have none
            self.pictures = list(zip(times, state["luma"], state["chroma"], detail, strict=True))

    def _arrays(self) -> dict[str, Array]:
        starts, luma, chroma, detail = zip(*self.pictures, strict=True)
        known = [one for one in detail if one is not None]
        return {
            "hashes": np.stack(self.hashes),
            "picture_starts": np.array(starts),
            "luma": np.stack(luma),
            "chroma": np.stack(chroma),
            **({"detail": np.stack(known)} if len(known) == len(detail) else {}),
        }

    def stored(self) -> Fingerprint:
        """The fingerprint so far. Raises TrustError where there were no frames."""
        if not self.pictures:
            raise TrustError("there are no frames to take a fingerprint of")
        arrays = self._arrays()
        return Fingerprint(
            np.array(self.starts), arrays["hashes"], 0.0 if self.still else self.end, self.still,
            arrays["picture_starts"], arrays["luma"], arrays["chroma"], self.size, self.sound,
            detail_K2YX=arrays.get("detail"),
            clipped_K2YX=np.stack(self.clipped) if len(self.clipped) == len(self.pictures) else None,
        )  # fmt: skip


def take(frames_THWC: Frames, fps: float, *, still: bool = False) -> Fingerprint:
    """The fingerprint of a clip at hand, or of a still picture; without audio."""
    fingerprinter = FingerprintBuilder(fps, still=still)
    fingerprinter.add(frames_THWC)
    fingerprinter.listen([])
    return fingerprinter.stored()


class Thumbs(NamedTuple):
    """Small grey pictures [N, 24, 24] of the finer pictures, and their times: what `indicators` looks at."""

    thumbs_NYX: Bytes
    seconds_N: NDArray[np.float64]


def thumbs_of(taken: Fingerprint) -> Thumbs:
    """Thumbnails of a fingerprint that was taken of every frame; of a long one they are thinned."""
    import cv2

    step = -(-len(taken.luma_KYX) // MOST_THUMBS)
    small = [
        _rounded(cv2.resize(one.astype(np.float32), (THUMB, THUMB), interpolation=cv2.INTER_AREA))
        for one in taken.luma_KYX[::step]
    ]
    return Thumbs(np.stack(small), taken.picture_starts_K[::step])
