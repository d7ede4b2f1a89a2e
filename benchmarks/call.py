"""The guard of calls, measured: swapped and honest participants through VP8 in real time, and the challenge by light.

    python benchmarks/call.py [--minutes 10] [--swaps 40] [--lights 60] [--rate 500] [--fps 25] [--seed 0]
    python benchmarks/call.py --minutes 60 --swaps 0 --faces 0 --lights 0 --journal honest.jsonl    # stopped: goes on

Callers are the heads of scikit-image's pictures before its other pictures, and drawn figures, with cameras of little
and much noise; 640 x 360, libvpx as WebRTC runs it (tests/support/calling.py). A swap replaces the frames between
marker and coder by another caller's; "face" covers the head alone. Everything is simulated but the coder. The last
line is one JSON document; its `passed` says whether all that was measured is within the bars (few trials can miss them
by chance). `--seed` gives other callers, so that runs can be added up. The page sends 15 frames a second: `--fps 15`.
`--journal` keeps each honest minute as a line; what is there already, of the same code and settings, is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
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
from sorano.desk.call.faces import FaceFinder  # noqa: E402
from sorano.desk.call.judge import TileJudge, TileState  # noqa: E402
from sorano.desk.call.keys import KeyChain, disclosable  # noqa: E402
from sorano.desk.call.light import LightChallenge  # noqa: E402
from sorano.desk.call.marks import LiveMarker  # noqa: E402
from sorano.desk.call.media import FACE_EVERY  # noqa: E402

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


def code_digest() -> str:
    """The SHA-256 of what decides: judge and keys, the mark under them, and the callers and coder of the tests."""
    src = ROOT / "src" / "sorano"
    files = [src / "desk" / "call" / f"{name}.py" for name in ("demo", "judge", "keys", "marks")]
    files += [*(src / "trust" / "watermark").glob("*.py"), Path(calling.__file__)]
    return hashlib.sha256(b"".join(hashlib.sha256(one.read_bytes()).digest() for one in sorted(files))).hexdigest()


def honest_session(number: int, seconds: float, rate: int, fps: float) -> dict[str, Any]:
    """One call in which nothing happens."""
    coder = calling.Vp8(rate, fps)
    told, judge = calling.attend(someone(number, fps), chain(number), seconds, coder=coder, fps=fps)
    return {
        "seconds": seconds,
        "red": red_at(told),
        "scores": [round(float(one.score), 1) for one in judge.results],
        "evidence": round(max((float(one.evidence) for one in judge.results if one.evidence), default=0.0), 1),
        "mismatch": round(max(float(one.mismatch) for one in judge.results), 2),
        "is_sure": judge.is_sure,
        "kbps": round(coder.kbps),
    }


def honest(minutes: float, rate: int, fps: float, seed: int, journal: Path | None = None) -> dict[str, Any]:
    """Calls in which nothing happens; those that a journal holds already are read from it."""
    same = {"code": code_digest(), "rate": rate, "fps": fps}
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal and journal.exists() else []
    held = {one["number"]: one for one in lines if same.items() <= one.items()}
    rows: list[dict[str, Any]] = []
    for number in itertools.count(seed * 1000):
        done = sum(one["seconds"] for one in rows)
        seconds = min(SESSION, 60 * minutes - done)
        if seconds < 3:
            break
        row = held.get(number)
        if row is None or row["seconds"] != seconds:
            row = {"number": number, **same, **honest_session(number, seconds, rate, fps)}
            if journal is not None:
                with journal.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(
            f"  {number}: {(done + seconds) / 60:.1f} min, red {row['red']}, least score {min(row['scores']):.1f}, "
            f"most evidence {row['evidence']:.1f}, mismatch {row['mismatch']:.1f}, {row['kbps']} kb/s",
            file=sys.stderr,
        )
    scores = [score for one in rows for score in one["scores"]]
    return {"minutes": sum(one["seconds"] for one in rows) / 60,
            "flagged": sum(one["red"] is not None for one in rows),
            "least_score": min(scores), "score_p1": float(np.quantile(scores, 0.01)),
            "most_evidence": max(one["evidence"] for one in rows),
            "most_mismatch": max(one["mismatch"] for one in rows),
            "sure_share": float(np.mean([one["is_sure"] for one in rows]))}  # fmt: skip


class FaceWatch:
    """A coder and its decoder; every so often the face is looked for in what comes, as the desk does."""

    def __init__(self, coder: Any, judge: TileJudge, find: Any) -> None:
        self.coder, self.judge, self.find, self.count = coder, judge, find, 0

    def __call__(self, frame: Any) -> Any:
        shown = self.coder(frame)
        if shown is not None and self.count % FACE_EVERY == 0:
            self.judge.face = self.find(shown.to_ndarray(format="rgb24"))
        self.count += shown is not None
        return shown


def swapped(count: int, rate: int, fps: float, seed: int, *, face: bool, find: Any = None) -> dict[str, Any]:
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

        coder, judge = calling.Vp8(rate, fps), TileJudge(calling.BEGAN)
        told, _ = calling.attend(
            someone(number, fps), chain(number), at + after, fps=fps, swap=swap, judge=judge,
            coder=coder if find is None else FaceWatch(coder, judge, find),
        )  # fmt: skip
        red = red_at(told)
        early += red is not None and red < at
        delays.append(None if red is None or red < at else red - at)
    found = [one for one in delays if one is not None]
    return {
        "count": count,
        "blazeface": find is not None,
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
    words.add_argument(
        "--blazeface", action="store_true", help="look for faces (pip install '.[face]', and the weights)"
    )
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--journal", type=Path, help="honest minutes are kept here, and not run again")
    given = words.parse_args()
    import cv2

    cv2.setNumThreads(1)
    find = FaceFinder() if given.blazeface else None
    began, rate = time.monotonic(), given.rate * 1000
    told: dict[str, Any] = {"rate_kbps": given.rate, "fps": given.fps, "seed": given.seed}
    if given.minutes:
        told["honest"] = row = honest(given.minutes, rate, given.fps, given.seed, given.journal)
        print(f"honest calls flagged                {row['flagged']} in {row['minutes']:.1f} min   "
              f"(least score {row['least_score']:.1f}, a hundredth below {row['score_p1']:.1f})")  # fmt: skip
    for name, count, face in (("swapped", given.swaps, False), ("face", given.faces, True)):
        if count:
            told[name] = row = swapped(count, rate, given.fps, given.seed, face=face, find=find)
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
