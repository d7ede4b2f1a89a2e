"""Parts of the tests of calls: pictures of a caller, VP8 in real time as WebRTC codes it, and what swaps pictures.

The callers are pictures that scikit-image ships (NASA's portrait of an astronaut, a photographer, a cat, a cup),
moved about before a still background with the noise of a camera, and scenes that are drawn here.
"""

from fractions import Fraction

import av
import cv2
import numpy as np

from support import corpus

FPS = 25
SIZE = (360, 640)
HEADS = {"astronaut.png": (0, 100, 300), "chelsea.png": (0, 60, 300), "coffee.png": (20, 150, 360)}  # top, left, side


def caller(seed=0, head="astronaut.png", ground="coffee.png", fps=FPS, size=SIZE, noise=2.0, first=0):
    """Frames without end, uint8 RGB: a head that sways before a blurred, still ground; noise as of a camera."""
    height, width = size
    random = np.random.default_rng([seed, 17])
    phase = random.random(4) * 6.28
    back = cv2.GaussianBlur(cv2.resize(corpus.picture(ground), (width, height)), (0, 0), height / 180)
    top, left, side = HEADS[head]
    share = height * 0.83 / side
    face = cv2.resize(corpus.picture(head)[top : top + side, left : left + side], None, fx=share, fy=share)
    side = face.shape[0]
    mask = np.zeros((side, side), np.float32)
    cv2.ellipse(mask, (side // 2, int(side * 0.53)), (int(side * 0.36), int(side * 0.46)), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), side / 50)
    grain = noise * random.standard_normal(
        (height + 64, width + 64, 3), np.float32
    )  # seen from another place each time
    number = first
    while True:
        t = number / fps
        x = (width - side) / 2 + width * (0.016 * np.sin(1.1 * t + phase[0]) + 0.005 * np.sin(4 * t + phase[1]))
        y = height * (0.12 + 0.011 * np.sin(0.9 * t + phase[2]) + 0.004 * np.sin(5 * t + phase[3]))
        move = np.array([[1, 0, x], [0, 1, y]], np.float32)
        front, share = (cv2.warpAffine(one, move, (width, height)) for one in (face, mask))
        share = cv2.merge([share] * 3)
        down, right = random.integers(0, 64, 2)
        frame = cv2.add(back, cv2.multiply(share, cv2.subtract(front, back)))
        yield cv2.add(frame, grain[down : down + height, right : right + width], dtype=cv2.CV_8U)
        number += 1


def face_box(size=SIZE):
    """Where the head of a `caller` is, in 0..1: left, top, right, bottom."""
    height, width = size
    half = 0.83 * height * 0.36 / width
    return (0.5 - half, 0.18, 0.5 + half, 0.92)


class Vp8:
    """libvpx as aiortc and browsers run it: real time, constant rate, denoiser on; luma comes back."""

    def __init__(self, rate=500_000, fps=FPS):
        self.rate, self.fps, self.coder, self.bytes, self.count = rate, fps, None, 0, 0
        self.decoder = av.CodecContext.create("libvpx", "r")

    def __call__(self, frame):
        """Code and decode one frame, RGB [H, W, 3] in and out."""
        if self.coder is None:
            self.coder = self._coder(frame.shape[1], frame.shape[0])
        given = av.VideoFrame.from_ndarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420), "yuv420p")
        given.pts, given.time_base = round(self.count * 90_000 / self.fps), Fraction(1, 90_000)
        self.count += 1
        shown = []
        for packet in self.coder.encode(given):
            self.bytes += packet.size
            shown += self.decoder.decode(av.Packet(bytes(packet)))
        return shown[-1] if shown else None

    @property
    def kbps(self):
        return self.bytes * 8 / 1000 / (self.count / self.fps)

    def _coder(self, width, height):
        coder = av.CodecContext.create("libvpx", "w")
        coder.width, coder.height, coder.bit_rate, coder.pix_fmt = width, height, self.rate, "yuv420p"
        coder.gop_size, coder.qmin, coder.qmax, coder.thread_count = 3000, 2, 56, 1
        coder.time_base, coder.framerate = Fraction(1, 90_000), Fraction(self.fps)
        rate = str(self.rate)
        coder.options = {
            "bufsize": rate, "cpu-used": "-6", "deadline": "realtime", "lag-in-frames": "0", "minrate": rate,
            "maxrate": rate, "noise-sensitivity": "4", "overshoot-pct": "15", "partitions": "0", "static-thresh": "1",
            "undershoot-pct": "100",
        }  # fmt: skip
        return coder


def luma_of(frame):
    """The luma plane of a decoded frame, uint8 [H, W]."""
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


BEGAN = 1_800_000_000.0  # of the sessions here: seconds since 1970


def attend(frames, chain, seconds, *, coder=None, fps=FPS, delay=0.12, swap=None, judge=None):
    """A sender, VP8, and a judge: (time, state) after each slot's key, and the judge.

    `frames` are those of the camera; `swap(t, marked)` replaces what goes from the marker to the coder.
    """
    from sorano.desk.call.judge import TileJudge
    from sorano.desk.call.keys import disclosable
    from sorano.desk.call.marks import LiveMarker

    coder, judge = coder or Vp8(fps=fps), judge or TileJudge(BEGAN)
    marker = LiveMarker(chain) if chain is not None else None
    told, known = [], -1
    for number in range(round(seconds * fps)):
        t = number / fps
        frame = next(frames)
        marked = marker.on_rgb(frame, t) if marker else frame
        marked = swap(t, marked) if swap else marked
        shown = coder(marked)
        now = BEGAN + t + delay
        if shown is not None:
            judge.add(luma_of(shown), now)
        while known < disclosable(BEGAN, now):
            known += 1
            if chain is not None:
                marker.heard(judge.disclose(chain[known], now).score)
            told.append((t, judge.state(now)))
    return told, judge


def covered(under, over, box):
    """A frame with an ellipse of another laid over it, its edge feathered, as a face swap is."""
    height, width = under.shape[:2]
    left, top, right, bottom = box
    mask = np.zeros((height, width), np.float32)
    middle = round((left + right) / 2 * width), round((top + bottom) / 2 * height)
    axes = round(0.45 * (right - left) * width), round(0.45 * (bottom - top) * height)
    cv2.ellipse(mask, middle, axes, 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), height / 72)[..., None]
    return np.rint(under * (1 - mask) + over * mask).astype(np.uint8)


def scaled(frame, share):
    """A frame at a share of its size."""
    return cv2.resize(frame, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
