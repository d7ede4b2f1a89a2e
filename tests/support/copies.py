"""Ordinary honest copies of a video: what sites, messengers, editors and screen recorders make of it.

    for name, copy in copies.COPIES.items():
        frames, fps = copy(marked_THWC, 24.0)              # as they are decoded, uint8 RGB
        copy.write(marked_THWC, 24.0, folder / copy.name_of("clip"))    # the file itself

`first_generation` is the file that Sorano itself would have written; a copy is made of what that shows, as in life.
All coders are those of PyAV's wheel. Nothing here adds, removes or replaces anything in the picture.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import cv2
import numpy as np

from support.scheduling import give_up_real_time

os.environ.setdefault("SVT_LOG", "1")  # errors only; read when a coder is opened
give_up_real_time()

FIRST = {"crf": "18", "preset": "medium"}  # what sorano.video writes


@dataclass(frozen=True)
class Coding:
    """A coder of a video file."""

    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "23", "preset": "medium"})
    container: str = "mp4"
    bit_rate: int = 0  # bits a second; 0: as the options say


@dataclass(frozen=True)
class Copy:
    """A change of the picture, and the coder after it. `moves` says that pixels do not stay where they were."""

    change: Callable[[np.ndarray, float], tuple[np.ndarray, float]]
    coding: Coding = Coding()
    moves: bool = False
    remux: bool = False  # the packets are put into a container of this coding as they are

    def __call__(self, frames, fps):
        """The frames [T, H, W, 3] of the copy, and their rate."""
        data, fps = self._file(frames, fps)
        return decoded(data), fps

    def _file(self, frames, fps):
        frames, fps = self.change(frames, fps)
        if self.remux:
            return remuxed(encoded(frames, fps, Coding(options=FIRST)), self.coding.container), fps
        return encoded(frames, fps, self.coding), fps

    def name_of(self, stem):
        """A file's name with the suffix of the container."""
        return f"{stem}.{ {'matroska': 'mkv'}.get(self.coding.container, self.coding.container) }"

    def write(self, frames, fps, path):
        """Writes the copy to a file and returns its path."""
        path.write_bytes(self._file(frames, fps)[0])
        return path


def first_generation(frames, fps):
    """What the file that Sorano writes shows of marked frames."""
    return decoded(encoded(frames, fps, Coding(options=FIRST)))


def encoded(frames, fps, coding):
    """The bytes of a video file; odd last rows and columns are cut."""
    if coding.container == "gif":
        return _gif(frames, fps)
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    file = io.BytesIO()
    with av.open(file, "w", format=coding.container) as container:
        stream = container.add_stream(coding.codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = coding.options
        if coding.bit_rate:
            stream.bit_rate = coding.bit_rate
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def decoded(data):
    """The frames of a video file, uint8 RGB [T, H, W, 3]."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def remuxed(data, container="matroska"):
    """The same packets in another container."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return file.getvalue()


def _gif(frames, fps):
    """A GIF with a palette of its own for each frame."""
    from PIL import Image

    pictures = [Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    file = io.BytesIO()
    steps = np.diff(np.rint(np.arange(len(frames) + 1) * 100 / fps)).astype(int) * 10  # a GIF counts in 10 ms
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=steps.tolist(), loop=0, optimize=False
    )
    return file.getvalue()


# Changes of the picture.


def _same(frames, fps):
    return frames, fps


def _each(change):
    """A change of every frame."""
    return lambda frames, fps: (np.stack([change(frame) for frame in frames]), fps)


def _sized(short, how=cv2.INTER_AREA):
    """Frames brought to a short side (pixels), or to a share of it below 1."""

    def change(frame):
        scale = short if short < 1 else short / min(frame.shape[:2])
        size = [max(2, round(side * scale / 2) * 2) for side in frame.shape[1::-1]]
        return cv2.resize(frame, size, interpolation=how if scale < 1 else cv2.INTER_CUBIC)

    return change


def _long(pixels):
    """Frames whose long side has at most so many pixels."""
    return lambda frame: _sized(min(1.0, pixels / max(frame.shape[:2])) * min(frame.shape[:2]))(frame)


def _levels(frames):
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _down_and_up(frame):
    small = _sized(0.6)(frame)
    return cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def _graded(frame):
    """A colour look-up table: an S curve, warm lights, teal shadows, 85 % saturation."""
    x = frame.astype(np.float32) / 255
    curve = x + 0.12 * np.sin(2 * np.pi * (x - 0.5)) / 2
    luma = curve @ np.float32([0.299, 0.587, 0.114])
    tint = np.float32([0.06, 0.0, -0.05]) * (luma[..., None] - 0.4)
    return _levels(255 * (luma[..., None] + 0.85 * (curve - luma[..., None]) + tint))


def _screen(frames, fps):
    """A recording of a screen that plays it: dark bars around, a scale of 1.03, 30 frames a second."""
    height, width = frames.shape[1:3]
    index = np.minimum((np.arange(int(len(frames) * 30 / fps)) * fps / 30).astype(int), len(frames) - 1)
    big = [
        cv2.resize(frame, (round(width * 1.03), round(height * 1.03)), interpolation=cv2.INTER_LINEAR)
        for frame in frames
    ]
    top, side = (height // 9) // 2 * 2, (width // 16) // 2 * 2
    shape = (big[0].shape[0] + 2 * top, big[0].shape[1] + 2 * side, 3)
    out = np.full((len(index), *shape), 16, np.uint8)
    for number, source in enumerate(index):
        out[number, top : top + big[0].shape[0], side : side + big[0].shape[1]] = big[source]
    return out, 30.0


def _denoised(frames, fps):
    """What a phone does in the dark: a bilateral filter, and a quarter of the frame before."""
    smooth = [cv2.bilateralFilter(frame, 5, 12, 2) for frame in frames]
    return np.stack(
        [smooth[0], *(cv2.addWeighted(b, 0.75, a, 0.25, 0) for a, b in zip(smooth, smooth[1:], strict=False))]
    ), fps


def _sharpened(frame):
    return cv2.addWeighted(frame, 1.6, cv2.GaussianBlur(frame, (0, 0), 1.2), -0.6, 0)


def _faster(frames, fps):
    """Played 1.25 times as fast at the same frame rate: every fifth frame goes."""
    return frames[np.arange(len(frames)) % 5 != 4], fps


def _cropped(frames, fps):
    height, width = (int(side * 0.85) // 2 * 2 for side in frames.shape[1:3])
    top, left = int((frames.shape[1] - height) * 0.37), int((frames.shape[2] - width) * 0.61)
    return frames[:, top : top + height, left : left + width], fps


def _animated(frames, fps):
    """Every other frame at a short side of 320 or less."""
    frames = frames[::2]
    return np.stack([_sized(min(320, min(frame.shape[:2])))(frame) for frame in frames]), fps / 2


def _twice(frames, fps):
    return decoded(encoded(frames, fps, h264(28))), fps


def h264(crf):
    """H.264 as x264 makes it at its usual effort."""
    return Coding(options={"crf": str(crf), "preset": "medium"})


COPIES = {
    "CRF 23": Copy(_same, h264(23)),
    "CRF 28": Copy(_same, h264(28)),
    "CRF 33": Copy(_same, h264(33)),
    "half size": Copy(_each(_sized(0.5)), h264(23)),
    "480p": Copy(_each(_sized(480)), h264(25)),
    "VP9": Copy(_same, Coding("libvpx-vp9", {"crf": "34", "b": "0", "cpu-used": "5", "row-mt": "1"}, "webm")),
    "AV1": Copy(_same, Coding("libsvtav1", {"crf": "36", "preset": "9"}, "mp4")),
    "chat": Copy(
        _each(_long(640)),
        Coding(options={"preset": "veryfast", "maxrate": "700k", "bufsize": "1400k"}, bit_rate=450_000),
    ),
    "down and up": Copy(_each(_down_and_up), h264(23)),
    "colour LUT": Copy(_each(_graded), h264(23)),
    "screen": Copy(_screen, h264(25), moves=True),
    "brighter": Copy(_each(lambda frame: _levels(frame * np.float32(1.2) + 6)), h264(23)),
    "denoised": Copy(_denoised, h264(23)),
    "sharpened": Copy(_each(_sharpened), h264(23)),
    "1.25x": Copy(_faster, h264(23)),
    "GIF": Copy(_animated, Coding(container="gif")),
    "re-mux": Copy(_same, Coding(container="matroska"), remux=True),
    "mirrored": Copy(lambda frames, fps: (frames[:, :, ::-1], fps), h264(23), moves=True),
    "crop 0.85": Copy(_cropped, h264(23), moves=True),
    "twice CRF 28": Copy(_twice, h264(28)),
}
