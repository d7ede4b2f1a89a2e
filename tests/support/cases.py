"""Marked clips of the corpus as honest copies and as forgeries: what the tamper map is fitted to and judged by."""

from dataclasses import dataclass

import numpy as np

from sorano.trust.watermark import embed, payload
from support import copies, corpus, forgeries

FPS = 24
AREAS, CRFS = (0.1, 0.2, 0.05), (23, 28)
FORGERIES = [(area, crf, way) for area in AREAS for crf in CRFS for way in forgeries.WAYS]


@dataclass(frozen=True)
class Case:
    """A copy of a clip; `copy` names it, or `forgery` says the share, the CRF and the way of what is put over it."""

    kind: str
    seed: int
    size: tuple[int, int]
    seconds: float
    copy: str = ""
    forgery: tuple[float, int, str] | None = None

    @property
    def name(self):
        """A name that is this case's alone."""
        what = self.copy or "{:g} CRF {} {}".format(*self.forgery)
        return f"{self.kind} {self.seed} {self.size[1]}x{self.size[0]} {self.seconds:g} s, {what}"


def of_clip(kind, seed, size, seconds, num_copies, num_forgeries):
    """Cases of one clip; copies and forgeries take turns from clip to clip, so that a sample is balanced."""
    number = seed * len(corpus.KINDS) + corpus.KINDS.index(kind)
    names = list(copies.COPIES)
    for index in range(min(num_copies, len(names))):
        yield Case(kind, seed, size, seconds, copy=names[(number * 7 + index * 3) % len(names)])
    for index in range(min(num_forgeries, len(FORGERIES))):
        forgery = FORGERIES[(number * 5 + index * 7) % len(FORGERIES)]
        yield Case(kind, seed, size, seconds, forgery=forgery)


class Clip:
    """A clip, marked, as the file that Sorano writes shows it; made once for all cases of it."""

    def __init__(self, kind, seed, size, seconds):
        self.original = corpus.clip(kind, seed, size, seconds, FPS)
        identity = (0x9E3779B97F4A7C15 * (1 + seed * 1000 + corpus.KINDS.index(kind))) % (1 << 40)
        self.payload = payload.Payload(payload.VERSION, "made", identity)
        marked = embed.mark_frames(self.original, self.payload, fps=FPS)
        self.shown = copies.first_generation(marked, float(FPS))

    def of(self, case):
        """The frames of a case as they are decoded, their rate, and where something was put over them (or None)."""
        if case.forgery is None:
            return (*copies.COPIES[case.copy](self.shown, float(FPS)), None)
        area, crf, way = case.forgery
        random = np.random.default_rng([case.seed, crf, round(area * 100), sum(case.kind.encode())])
        forged, where = forgeries.put_over(self.shown, self.original, random, area, way, FPS)
        return copies.decoded(copies.encoded(forged, float(FPS), copies.h264(crf))), float(FPS), where
