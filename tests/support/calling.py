"""Parts of the tests of calls: pictures of a caller, VP8 in real time as WebRTC codes it, and what swaps pictures.

The callers are pictures that scikit-image ships (NASA's portrait of an astronaut, a photographer, a cat, a cup),
moved about before a still background with the noise of a camera, and scenes that are drawn here.
"""

from fractions import Fraction

import av
import cv2
import numpy as np

from support import corpus, voices

FPS = 15  # of what the page sends; benchmarks/call.py has 25
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


def attend(frames, chain, seconds, *, coder=None, fps=FPS, delay=0.12, swap=None, judge=None, declares=True):
    """A sender, VP8, and a judge: (time, state) after each slot's key, and the judge.

    `frames` are those of the camera, of which the sender declares thumbs where it `declares`; `swap(t, marked)`
    replaces what goes from the marker to the coder.
    """
    from sorano.desk.call.judge import TileJudge
    from sorano.desk.call.keys import disclosable
    from sorano.desk.call.marks import LiveMarker, thumb_of

    coder, judge = coder or Vp8(fps=fps), judge or TileJudge(BEGAN)
    marker = LiveMarker.of(chain) if chain is not None else None
    told, known, thumbs = [], -1, {}
    for number in range(round(seconds * fps)):
        t = number / fps
        frame = next(frames)
        marked = marker.on_rgb(frame, t) if marker else frame
        if declares:
            thumbs.setdefault(int(t), []).append(
                thumb_of(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)[: frame.shape[0]])
            )
            if int(t) - 1 in thumbs and t % 1 > 0.3:  # a little after the slot's end
                judge.declare(int(t) - 1, np.rint(np.mean(thumbs.pop(int(t) - 1), 0)))
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


def lit(frames, colour_at, *, share, fps=FPS, seed=0):
    """A caller's frames lit by a screen: `colour_at(t)` gives its R, G, B, `share` how much of the light is its own.

    Simulated: the head reflects the screen in proportion to its own colour, the wall behind a tenth of that; ambient
    light flickers and drifts, the camera follows the brightness slowly (automatic exposure), and adds its noise (that
    of `caller`).
    """
    random = np.random.default_rng([seed, 23])
    phase, pace = random.random(3) * 6.28, 0.1 + random.random(3)
    exposure, mask = 1.0, None
    for number, frame in enumerate(frames):
        t = number / fps
        if mask is None:
            height, width = frame.shape[:2]
            mask = np.full((height, width), 0.1, np.float32)
            left, top, right, bottom = face_box((height, width))
            middle = round((left + right) / 2 * width), round((top + bottom) / 2 * height)
            cv2.ellipse(mask, middle, (round(0.14 * width), round(0.34 * height)), 0, 0, 360, 1, -1)
            mask = cv2.GaussianBlur(mask, (0, 0), height / 40)
        screen = np.asarray(colour_at(t), np.float32) / 255 - 0.55
        ambient = 1 + 0.015 * np.sin(pace * t + phase)
        gain = (ambient + share * screen).astype(np.float32)
        exposure += 0.02 * (1 / float(gain.mean()) - exposure)
        light = exposure * (ambient.astype(np.float32) + mask[..., None] * share * screen)
        yield np.clip(np.rint(frame * light), 0, 255).astype(np.uint8)


def answer_light(challenge, seed, *, share, shows=True, fps=15, size=(180, 320), rate=300_000, delay=0.25, noise=3.0):
    """What comes of a challenge to a simulated face through VP8; without `shows`, to a recording of another one."""
    from sorano.desk.call.light import LEAD_SECONDS, STEP_SECONDS, STEPS, LightChallenge
    from sorano.desk.call.media import middle_colour

    light = challenge if shows else LightChallenge.draw(0.0)
    colours, lead = light.screen(), LEAD_SECONDS

    def colour_at(t):
        step = int((t - lead) // STEP_SECONDS)
        return colours[step] if 0 <= step < STEPS else (140, 140, 140)

    heads, grounds = list(HEADS), ("coffee.png", "grass.png", "rocket.jpg", "brick.png")
    source = caller(seed, heads[seed % 3], grounds[seed % 4], fps=fps, size=size, noise=noise, first=7 * seed)
    coder = Vp8(rate, fps)
    for number, frame in enumerate(lit(source, colour_at, share=share, fps=fps, seed=seed)):
        at = challenge.began - lead + number / fps + delay
        if challenge.is_over(at):
            return challenge.result()
        shown = coder(frame)
        if shown is not None:
            challenge.add(at, middle_colour(shown.to_ndarray(format="rgb24")))


def speaking(seed, seconds, noise_db=None, voice=None):
    """A person who speaks with pauses, 48 kHz float32, in the noise of a room (dB of full scale; usually by the seed).

    `voice(seed, seconds)` gives speech at 48 kHz without pauses; the synthetic one where nothing is said.
    """
    random = np.random.default_rng([seed, 29])
    speech = (voice or voices.speech)(seed, seconds)
    sound, at = np.zeros(seconds * voices.RATE, np.float32), 0
    while at < len(sound):
        length = int(random.uniform(1.5, 6.0) * voices.RATE)
        part = speech[at : at + length]
        ramp = np.minimum(1, np.minimum(np.arange(len(part)), np.arange(len(part))[::-1]) / 500)
        sound[at : at + length] = part * ramp
        at += length + int(random.uniform(0.2, 3.0) * voices.RATE)
    level = 10 ** (random.uniform(-12, 0) / 20)
    noise = 10 ** ((random.uniform(-85, -45) if noise_db is None else noise_db) / 20)
    return (level * sound + noise * random.standard_normal(len(sound))).astype(np.float32)


def marked_sound(samples, chain):
    """What the page makes of a microphone's samples."""
    from sorano.desk.call.sound import SoundMarker, received_cells, slot_cells

    marker = SoundMarker(lambda slot: received_cells(slot_cells(chain[slot])))
    made = [marker(samples[:, None]), marker.finish()]
    return np.concatenate(made)[:, 0].astype(np.float32)


def listen(sent, chain, *, rate=32_000, delay=0.3):
    """What is said of sound that is sent through Opus: (time, state, score) after each slot's key, and the judge."""
    from sorano.desk.call.keys import disclosable
    from sorano.desk.call.sound import RATE, SoundJudge

    received, _ = voices.through(sent, "libopus", rate, options={"application": "voip"})
    judge, told, known, size = SoundJudge(BEGAN), [], -1, RATE // 50
    for start in range(0, len(received), size):
        t = start / RATE
        now = BEGAN + t + delay
        judge.add(received[start : start + size], t, now)
        while known < disclosable(BEGAN, now):
            known += 1
            judge.score = None
            judge.disclose(chain[known])
            told.append((t + delay, judge.state, judge.score))
    return told, judge
