"""The guard of calls, measured: swapped and honest participants through VP8 in real time, and the challenge by light.

    python benchmarks/call.py [--minutes 10] [--swaps 40] [--lights 60] [--rate 500] [--fps 25] [--seed 0]

Callers are the heads of scikit-image's pictures before its other pictures, and drawn figures, with cameras of little
and much noise; 640 x 360, libvpx as WebRTC runs it (tests/support/calling.py). A swap replaces the frames between
marker and coder by another caller's; "face" covers the head alone. Everything is simulated but the coder. The last
line is one JSON document; its `passed` says whether all that was measured is within the bars (few trials can miss them
by chance). `--seed` gives other callers, so that runs can be added up. The page sends 15 frames a second: `--fps 15`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from support import calling  # noqa: E402

from sorano.desk.call.demo import figure  # noqa: E402
from sorano.desk.call.judge import TileJudge, TileState  # noqa: E402
from sorano.desk.call.keys import KeyChain, disclosable  # noqa: E402
from sorano.desk.call.light import LightChallenge  # noqa: E402
from sorano.desk.call.marks import LiveMarker  # noqa: E402

GROUNDS = ("coffee.png", "grass.png", "rocket.jpg", "brick.png", "moon.png", "text.png")
SESSION = 60.0  # seconds of an honest call, then another caller
WITHIN = 5.0  # seconds in which a swap must be found
LEAST_SHARE, MOST_SHARE = 0.05, 0.15  # of the light on a face that is its screen's
BARS = {"swapped": 0.99, "honest": 0, "light": 0.95, "replayed": 0.01}  # least, most, least, most


def someone(seed: int, fps: float) -> Any:
    """A caller by a number: who, where, which camera."""
    random = np.random.default_rng([seed, 3])
    if seed % 4 == 3:
        return figure(seed, fps=fps)
    head = list(calling.HEADS)[seed % 3]
    ground = GROUNDS[int(random.integers(len(GROUNDS)))]
    return calling.caller(seed, head, ground, fps=fps, noise=float(random.uniform(0.5, 4.0)))


def chain(seed: int) -> KeyChain:
    """The keys of a session."""
    return KeyChain.of(seed.to_bytes(32, "big"), f"call {seed}", "per")


def red_at(told: list[tuple[float, Any]]) -> float | None:
    """When a tile turned red."""
    return next((t for t, state in told if state is TileState.NOT_CONFIRMED), None)


def honest(minutes: float, rate: int, fps: float, seed: int) -> dict[str, Any]:
    """Calls in which nothing happens."""
    flagged, scores, evidence, sure, differ, done = 0, [], [], [], [], 0.0
    for number in itertools.count(seed * 1000):
        seconds = min(SESSION, 60 * minutes - done)
        if seconds < 3:
            break
        coder = calling.Vp8(rate, fps)
        told, judge = calling.attend(someone(number, fps), chain(number), seconds, coder=coder, fps=fps)
        flagged += red_at(told) is not None
        scores += [one.score for one in judge.results]
        evidence += [one.evidence for one in judge.results if one.evidence]
        sure.append(judge.is_sure)
        differ += [one.mismatch for one in judge.results]
        done += seconds
        print(
            f"  {number}: {done / 60:.1f} min, red {red_at(told)}, least score {min(scores):.1f}, most evidence "
            f"{max(evidence, default=0):.1f}, mismatch {max(differ):.1f}, {coder.kbps:.0f} kb/s",
            file=sys.stderr,
        )
    low = float(np.quantile(scores, 0.01))
    return {"minutes": done / 60, "flagged": flagged, "least_score": min(scores), "score_p1": low,
            "most_evidence": max(evidence, default=0.0), "most_mismatch": max(differ, default=0.0),
            "sure_share": float(np.mean(sure))}  # fmt: skip


def swapped(count: int, rate: int, fps: float, seed: int, *, face: bool) -> dict[str, Any]:
    """Calls in which the pictures, or the face alone, are somebody else's after four seconds or so."""
    delays: list[float | None] = []
    early = 0
    after = 10.0 if face else WITHIN + 0.3
    for number in range(seed * 1000, seed * 1000 + count):
        at = 4.0 + 0.61803 * number % 1 + (6.0 if face else 0.0)
        other = someone(number + 501, fps)

        def swap(t: float, marked: Any, at: float = at, other: Any = other) -> Any:
            if t < at:
                return marked
            return calling.covered(marked, next(other), calling.face_box()) if face else next(other)

        coder = calling.Vp8(rate, fps)
        told, _ = calling.attend(someone(number, fps), chain(number), at + after, coder=coder, fps=fps, swap=swap)
        red = red_at(told)
        early += red is not None and red < at
        delays.append(None if red is None or red < at else red - at)
    found = [one for one in delays if one is not None]
    return {
        "count": count,
        "within_5s": sum(one <= WITHIN for one in found),
        "found": len(found),
        "early": early,
        "median_s": float(np.median(found)) if found else None,
        "most_s": max(found, default=None),
    }


def lights(count: int, seed: int, *, shows: bool) -> dict[str, Any]:
    """Challenges of simulated faces before their screens, or of recordings of another challenge."""
    passed = 0
    for number in range(seed * 1000, seed * 1000 + count):
        share = float(np.random.default_rng([number, 5]).uniform(LEAST_SHARE, MOST_SHARE))
        passed += calling.answer_light(LightChallenge.draw(1000.0), number, share=share, shows=shows).passed
    return {"count": count, "passed": passed}


def cost(rate: int, fps: float, seed: int, seconds: float = 10.0) -> dict[str, float]:
    """The processor time of this process, in ms: to mark a frame, to take one in, to judge a slot (the medians)."""
    source, keys, coder = someone(seed, fps), chain(seed), calling.Vp8(rate, fps)
    marker, judge = LiveMarker.of(keys), TileJudge(0.0)
    spent: dict[str, list[float]] = {"mark_ms": [], "frame_ms": [], "slot_ms": []}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        began = time.process_time()
        made = act()
        spent[name].append(1000 * (time.process_time() - began))
        return made

    known = -1
    for number in range(round(seconds * fps)):
        t, frame = number / fps, next(source)
        shown = coder(timed("mark_ms", lambda frame=frame, t=t: marker.on_rgb(frame, t)))
        if shown is not None:
            timed("frame_ms", lambda shown=shown, t=t: judge.add(calling.luma_of(shown), t))
        while known < disclosable(0.0, t):
            known += 1
            timed("slot_ms", lambda known=known, t=t: judge.disclose(keys[known], t))
    return {name: float(np.median(one)) for name, one in spent.items()}


def passes(told: dict[str, Any]) -> bool:
    """Whether what was measured is within the bars; what was not measured does not count."""
    shares = {
        "swapped": ("within_5s", "count", True),
        "light": ("passed", "count", True),
        "replayed": ("passed", "count", False),
    }
    held = [told["honest"]["flagged"] <= BARS["honest"]] if "honest" in told else []
    for name, (good, count, is_least) in shares.items():
        if name in told:
            share = told[name][good] / told[name][count]
            held.append(share >= BARS[name] if is_least else share <= BARS[name])
    return all(held)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=10)
    words.add_argument("--swaps", type=int, default=40)
    words.add_argument("--faces", type=int, default=20)
    words.add_argument("--lights", type=int, default=60)
    words.add_argument("--rate", type=int, default=500, help="kb/s")
    words.add_argument("--fps", type=float, default=25)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    import cv2

    cv2.setNumThreads(1)
    began, rate = time.monotonic(), given.rate * 1000
    told: dict[str, Any] = {"rate_kbps": given.rate, "fps": given.fps, "seed": given.seed}
    if given.minutes:
        told["honest"] = row = honest(given.minutes, rate, given.fps, given.seed)
        print(f"honest calls flagged                {row['flagged']} in {row['minutes']:.1f} min   "
              f"(least score {row['least_score']:.1f}, a hundredth below {row['score_p1']:.1f})")  # fmt: skip
    for name, count, face in (("swapped", given.swaps, False), ("face", given.faces, True)):
        if count:
            told[name] = row = swapped(count, rate, given.fps, given.seed, face=face)
            what = "face covered" if face else "participant swapped"
            print(f"{what:<20}found in 5 s   {row['within_5s']} of {count}   (in all {row['found']}, "
                  f"median {row['median_s']}, most {row['most_s']} s, early {row['early']})")  # fmt: skip
    for name, shows in (("light", True), ("replayed", False)):
        if given.lights:
            told[name] = row = lights(given.lights, given.seed, shows=shows)
            print(f"light challenge, {name:<18} {row['passed']} of {row['count']} accepted")
    told["cost"] = row = cost(rate, given.fps, given.seed)
    print(f"processor time          to mark a frame {row['mark_ms']:.2f} ms, to take one in {row['frame_ms']:.2f} ms, "
          f"to judge a slot {row['slot_ms']:.2f} ms")  # fmt: skip
    told["seconds"] = round(time.monotonic() - began, 1)
    told["bars"], told["passed"] = BARS, passes(told)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
