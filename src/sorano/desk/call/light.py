"""A challenge by coded light: the screen of whoever is asked changes its colour, and their face must follow.

For eight seconds the asked page fills itself with colours that the desk drew a moment ago: one code in brightness and
one between red and blue, a step each 0.4 s. A face before a screen reflects some of it; a picture that was made before,
or is made elsewhere, cannot know the codes. The mean colour of the face, frame by frame, is compared with the codes at
every delay up to 1.2 s (matched filter). The same is done with codes that were never shown: the answer passes if it
fits the shown ones better than all but the best of `DECOYS` others, so that a picture without the light passes by
chance in one of 200 challenges at most, whatever it shows.

Covered: recordings, replays and swaps that do not pass the light on; measured on simulated faces, screens and cameras
(benchmarks/call.py). Not covered: a forger who relights a fake as the codes come (they are shown, not secret), bright
rooms, darkened screens. The answer is advice; it decides nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STEPS, STEP_SECONDS = 20, 0.4
LEAD_SECONDS = 2.0  # from the challenge to its first colour: the page has to hear of it
LATEST_SECONDS = 1.2  # that a face may follow later, camera, coder and network together
GREY, BRIGHT, TINT = 140, 60, 50  # levels of the screen: the middle, the codes' swings
DECOYS, BEST = 400, 2
LEAST_FRAMES = 60
RATE = 20.0  # samples a second that frames are brought to
TREND_SECONDS = 2.0


@dataclass(frozen=True)
class LightResult:
    """What came of a challenge: the correlation in deviations of the decoys', its rank among them, the delay."""

    passed: bool
    score: float
    rank: int
    delay: float
    frames: int


@dataclass
class LightChallenge:
    """One challenge: its codes, and the colours that came since."""

    began: float  # of the first step, wall clock
    codes_2N: Array
    times: list[float] = field(default_factory=list)
    colours: list[Array] = field(default_factory=list)

    @classmethod
    def draw(cls, now: float) -> LightChallenge:
        """A challenge with codes from the system's random numbers."""
        return cls(now + LEAD_SECONDS, codes_of(np.random.default_rng(secrets.randbits(128))))

    def screen(self) -> list[list[int]]:
        """The colour of each step, R, G, B."""
        bright, tint = self.codes_2N
        middle = GREY + BRIGHT * bright
        colour = np.stack([middle + TINT * tint, middle, middle - TINT * tint], -1)
        return [[int(one) for one in row] for row in np.clip(colour, 0, 255)]

    def shown(self, now: float) -> dict[str, Any]:
        """What the asked page needs."""
        return {"in_seconds": self.began - now, "step_seconds": STEP_SECONDS, "colours": self.screen()}

    def add(self, at: float, colour: Array) -> None:
        """The mean R, G, B of the face in a frame that came at a time."""
        if len(self.times) < 4000:
            self.times.append(at)
            self.colours.append(np.asarray(colour, np.float64))

    def is_over(self, now: float) -> bool:
        """Whether all that can follow has come."""
        return now > self.began + STEPS * STEP_SECONDS + LATEST_SECONDS

    def result(self) -> LightResult:
        """Compare what came with the codes and with decoys."""
        times = np.array(self.times) - self.began
        if len(times) < LEAST_FRAMES:
            return LightResult(False, 0.0, DECOYS + 1, 0.0, len(times))
        grid = np.arange(0, STEPS * STEP_SECONDS + LATEST_SECONDS, 1 / RATE)
        colours = np.stack([np.interp(grid, times, one) for one in np.array(self.colours).T])
        seen = _signals(colours)
        scores = [_fit(seen, self.codes_2N)]
        random = np.random.default_rng(secrets.randbits(128))
        scores += [_fit(seen, codes_of(random)) for _ in range(DECOYS)]
        fits = np.array([one for one, _ in scores])
        rank = 1 + int((fits[1:] >= fits[0]).sum())
        spread = max(float(fits[1:].std()), 1e-9)
        return LightResult(rank <= BEST, (fits[0] - fits[1:].mean()) / spread, rank, scores[0][1], len(times))


def codes_of(random: np.random.Generator) -> Array:
    """Two codes of +1 and -1, [2, STEPS], each with as many of both."""
    even = np.repeat([-1.0, 1.0], STEPS // 2)
    return np.stack([random.permutation(even), random.permutation(even)])


def _signals(colours_3T: Array) -> Array:
    """Brightness, and red against blue, without their slow changes: [2, T], of deviation 1 where there is any."""
    total = np.maximum(colours_3T.sum(0), 1e-6)
    signals = np.stack([np.log(total), (colours_3T[0] - colours_3T[2]) / total])
    rest = _without_trend(signals)
    # a jerk (somebody moves, an exposure jumps) must not outweigh the rest
    limit = 3 * 1.4826 * np.median(np.abs(rest), axis=1, keepdims=True) + 1e-9
    rest = np.clip(rest, -limit, limit)
    return np.asarray(rest / np.maximum(rest.std(1, keepdims=True), 1e-9))


def _without_trend(signals_2T: Array) -> Array:
    """Signals less their mean over `TREND_SECONDS` about each sample."""
    width = round(TREND_SECONDS * RATE) | 1
    padded = np.pad(signals_2T, ((0, 0), (width // 2, width // 2)), mode="edge")
    trend = np.stack([np.convolve(one, np.ones(width) / width, mode="valid") for one in padded])
    return np.asarray(signals_2T - trend)


def _fit(signals_2T: Array, codes_2N: Array) -> tuple[float, float]:
    """The best sum of both correlations over the delays, and its delay in seconds."""
    step = round(STEP_SECONDS * RATE)
    shown = _without_trend(np.repeat(codes_2N, step, axis=1))
    shown /= np.maximum(np.sqrt((shown**2).sum(1, keepdims=True)), 1e-9)
    best = (-np.inf, 0.0)
    for late in range(round(LATEST_SECONDS * RATE)):
        part = signals_2T[:, late : late + shown.shape[1]]
        fit = float((part * shown).sum() / np.sqrt((part**2).sum() / 2 + 1e-9))
        best = max(best, (fit, late / RATE))
    return best
