"""The mark in the sound of calls, measured: honest, quiet and replaced speech through Opus.

    python benchmarks/call_sound.py [--minutes 10] [--swaps 20] [--words 60] [--rate 32] [--seed 0]

    pip install espeakng-loader '.[speech]'

Speakers are voices of espeak-ng, where it is installed, and synthetic ones, with pauses, levels and room noise by their
number; the marker is that of the page, the coder libopus for speech. A swap replaces what goes from marker to coder
after some seconds. `--words` says the spoken code of a call, once as it is and once marked and coded, and counts how
often the desk hears both words. No real speaker is measured. The last line is one JSON document; `passed` says whether
no honest speaker turned red and every swap was found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from support import calling, redteam, voices  # noqa: E402

from sorano.desk.call import speech  # noqa: E402
from sorano.desk.call.keys import KeyChain  # noqa: E402
from sorano.desk.call.sound import SoundState  # noqa: E402
from sorano.desk.call.words import WORDS  # noqa: E402

SESSION = 60  # seconds of a speaker
RATE = voices.RATE
QUIET = ("silence", "fan", "typing", "music", "hum")


def chain(seed: int) -> KeyChain:
    """The keys of a session."""
    return KeyChain.of(seed.to_bytes(32, "big"), f"call {seed}", "per")


def voice(seed: int, seconds: int) -> Any:
    """Speech at 48 kHz without pauses: two of three are espeak-ng's."""
    if "espeak" in redteam.kinds_of_voices() and seed % 3:
        return redteam.spoken_wide(seed, seconds)
    return voices.speech(seed, seconds)


def wide(low: Any) -> Any:
    """16 kHz as 48 kHz."""
    return np.interp(np.arange(3 * len(low)) / 3, np.arange(len(low)), low).astype(np.float32)


def narrow(samples: Any) -> Any:
    """48 kHz as 16 kHz."""
    return samples[: len(samples) // 3 * 3].reshape(-1, 3).mean(1)


def quiet(kind: str, seed: int, seconds: int) -> Any:
    """What a microphone hears where nobody speaks."""
    random, count = np.random.default_rng([seed, 31]), seconds * RATE
    time_ = np.arange(count) / RATE
    noise = 0.001 * random.standard_normal(count)
    if kind == "fan":
        spectrum = np.fft.rfft(random.standard_normal(count))
        noise = np.fft.irfft(spectrum / np.sqrt(1 + np.fft.rfftfreq(count, 1 / RATE) / 200), count)
        noise *= random.uniform(0.005, 0.05) / noise.std()
    if kind == "typing":
        for at in np.cumsum(random.exponential(0.15, seconds * 8)):
            first = int(at * RATE)
            if first + 2400 < count:
                noise[first : first + 2400] += 0.1 * random.standard_normal(2400) * np.exp(-np.arange(2400) / 300)
    if kind == "music":
        for at in np.arange(0, seconds - 1, 0.25):
            first, tone = int(at * RATE), 220 * 2 ** (int(random.integers(24)) / 12)
            t = time_[:RATE]
            noise[first : first + RATE] += (
                0.08 * np.exp(-4 * t) * sum(np.sin(2 * np.pi * k * tone * t) / k for k in (1, 2, 3, 5))
            )
    if kind == "hum":
        noise += 0.05 * sum(np.sin(2 * np.pi * 50 * k * time_) / k for k in range(1, 40, 2))
    return noise.astype(np.float32)


def converted(samples: Any, way: str, seed: int) -> Any:
    """Speech as a voice conversion would give it again: higher by a seventh of its pitch, or through a vocoder."""
    low = narrow(samples)
    if way == "shifted":
        spectrum = np.abs(redteam._stft(low))
        at = np.arange(spectrum.shape[1]) / 1.15
        moved = np.stack([np.interp(at, np.arange(len(row)), row) for row in spectrum])
        random = np.random.default_rng(seed)
        low = redteam._istft(moved * np.exp(2j * np.pi * random.random(moved.shape)), len(low))
        return wide(redteam.imitated(low.astype(np.float32), "griffin-lim", seed))
    return wide(redteam.imitated(low.astype(np.float32), way, seed))


SWAPS: dict[str, Callable[[Any, int], Any]] = {
    "another speaker": lambda sent, seed: calling.speaking(seed + 7001, len(sent) // RATE, voice=voice)[: len(sent)],
    "the voice shifted": lambda sent, seed: converted(sent, "shifted", seed),
    "linear prediction": lambda sent, seed: converted(sent, "lpc", seed),
    "bands of noise": lambda sent, seed: converted(sent, "noise-vocoder", seed),
    "Griffin-Lim, same pitch": lambda sent, seed: converted(sent, "griffin-lim", seed),
}


def red_at(told: list[Any]) -> float | None:
    """When the sound was found to be replaced."""
    return next((t for t, state, _ in told if state is SoundState.NOT_CONFIRMED), None)


def honest(minutes: float, rate: int, seed: int) -> dict[str, Any]:
    """Speakers to whom nothing happens."""
    red, scores, confirmed, first = 0, [], 0, []
    for number in range(seed * 1000, seed * 1000 + round(minutes)):
        keys = chain(number)
        told, _ = calling.listen(
            calling.marked_sound(calling.speaking(number, SESSION, voice=voice), keys), keys, rate=rate
        )
        found = [score for *_, score in told if score is not None]
        scores += found
        red += red_at(told) is not None
        held = [t for t, state, _ in told if state is SoundState.CONFIRMED]
        confirmed += bool(held)
        first += held[:1]
        print(
            f"  {number}: red {red_at(told)}, least score {min(found, default=0):.1f} of {len(found)}", file=sys.stderr
        )
    return {"minutes": round(minutes), "flagged": red, "confirmed": confirmed, "least_score": min(scores),
            "score_p1": float(np.quantile(scores, 0.01)), "median": float(np.median(scores)),
            "first_confirmed_median_s": float(np.median(first))}  # fmt: skip


def quiet_rooms(rate: int, seed: int, seconds: int = 40) -> dict[str, Any]:
    """What is said where nobody speaks: how often red, and the least score where one was read."""
    found = {}
    for kind in QUIET:
        rows = []
        for number in range(seed * 1000, seed * 1000 + 3):
            keys = chain(number)
            rows.append(calling.listen(calling.marked_sound(quiet(kind, number, seconds), keys), keys, rate=rate)[0])
        scores = [score for told in rows for *_, score in told if score is not None]
        found[kind] = {"minutes": 3 * seconds / 60, "flagged": sum(red_at(told) is not None for told in rows),
                       "readings": len(scores), "least_score": min(scores, default=None)}  # fmt: skip
    return found


def swapped(way: str, count: int, rate: int, seed: int) -> dict[str, Any]:
    """Speakers whose sound is another from some second on."""
    delays, early, most = [], 0, 0.0
    for number in range(seed * 1000 + 500, seed * 1000 + 500 + count):
        keys, at = chain(number), int((20 + 0.61803 * number % 1) * RATE)
        sent = calling.marked_sound(calling.speaking(number, 45, voice=voice), keys)
        sent[at:] = _fill(SWAPS[way](sent[at:], number), len(sent) - at)
        told, _ = calling.listen(sent, keys, rate=rate)
        red = red_at(told)
        early += red is not None and red < at / RATE
        delays.append(None if red is None or red < at / RATE else red - at / RATE)
        most = max([most, *(score for t, _, score in told if score is not None and t > at / RATE + 12)])
    found = [one for one in delays if one is not None]
    return {"count": count, "found": len(found), "early": early, "within_10s": sum(one <= 10 for one in found),
            "within_15s": sum(one <= 15 for one in found), "median_s": float(np.median(found)) if found else None,
            "most_s": max(found, default=None), "most_score": round(most, 1)}  # fmt: skip


def words_heard(count: int, rate: int, seed: int) -> dict[str, Any]:
    """Codes of two words: heard as they were said, and after the mark and Opus."""
    heard, random = {"count": count, "as said": 0, "marked and coded": 0}, np.random.default_rng([seed, 5])
    for number in range(count):
        one, two = (str(word) for word in random.choice(WORDS, 2))
        voice_of, speed = ("en-us", "en", "en-us+f3", "en-us+m3")[number % 4], (110, 130, 150)[number % 3]
        sound = redteam.spoken_words(f"{one}. {two}.", voice_of, speed, int(random.integers(30, 70)))
        sent = calling.marked_sound(sound, chain(number))
        coded, _ = voices.through(sent, "libopus", rate, options={"application": "voip"})
        for name, given in (("as said", sound), ("marked and coded", coded)):
            heard[name] += speech.heard_code(given) == f"{one} {two}"
    return heard


def _fill(samples: Any, length: int) -> Any:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=10)
    words.add_argument("--swaps", type=int, default=20)
    words.add_argument("--words", type=int, default=60)
    words.add_argument("--rate", type=int, default=32, help="kb/s")
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    began, rate = time.monotonic(), given.rate * 1000
    told: dict[str, Any] = {"rate_kbps": given.rate, "seed": given.seed, "voices": redteam.kinds_of_voices()}
    if given.minutes:
        told["honest"] = honest(given.minutes, rate, given.seed)
        print(f"honest speakers flagged  {told['honest']}")
        told["quiet"] = quiet_rooms(rate, given.seed)
        print(f"nobody speaks            {told['quiet']}")
    told["swapped"] = {}
    for way in SWAPS if given.swaps else ():
        told["swapped"][way] = row = swapped(way, given.swaps, rate, given.seed)
        print(f"{way:<25}{row}", flush=True)
    if given.words:
        told["words"] = words_heard(given.words, rate, given.seed)
        print(f"spoken codes heard       {told['words']}")
    told["seconds"] = round(time.monotonic() - began, 1)
    flagged = [told["honest"]["flagged"], *(one["flagged"] for one in told["quiet"].values())] if given.minutes else []
    lost = [row["count"] - row["found"] for way, row in told["swapped"].items() if "same pitch" not in way]
    told["passed"] = not any(flagged) and not any(lost)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
