"""How well traces tell forgeries of our own making from ordinary files, and the calibration of `verify --triage`.

    pip install 'sorano[bench]'
    python benchmarks/triage.py [--small] [--seeds 4] [--calibrate]

Ordinary: the twelve kinds of clips of tests/support/corpus.py, coded as chats and platforms do. Forged: things, heads
and smoothed pictures put over 5, 10 and 20 % of them (tests/support/forgeries.py), face swaps in four ways of blending,
and voices through vocoders (tests/support/redteam.py). AUC with 95 % intervals by bootstrap; the network of voices is
trained without the method that it is judged on. `--calibrate` writes src/sorano/trust/triage_calibration.json, from
other seeds than those that are judged. Prints tables and one JSON line.
"""

import argparse
import json
import sys
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support import copies, corpus, forgeries, redteam  # noqa: E402
from support.voices import through  # noqa: E402

from sorano.trust import triage  # noqa: E402

CODINGS = ("CRF 23", "CRF 28", "half size", "VP9")
AREAS = (0.05, 0.1, 0.2)
CODERS = {"as it is": None, "Opus 24k": ("libopus", 24_000), "AAC 64k": ("aac", 64_000)}
PUBLISHED = "published detectors in the wild (Deepfake-Eval-2024): AUC down by 50 % (video), 48 % (audio), 45 % (image)"
WINDOW, HOP = 320, 160  # samples at 16 kHz: 20 and 10 ms
BANDS, COEFFICIENTS = 40, 20
QUIET_DB = -45.0  # below the loudest window: not speech
LEAST_WINDOWS = 150
HIDDEN, ROUNDS, RATE = 12, 600, 0.02


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few clips")
    parser.add_argument("--seeds", type=int, default=4, help="clips of each kind")
    parser.add_argument("--calibrate", action="store_true", help="write the calibration")
    asked = parser.parse_args()
    kinds = corpus.KINDS[::4] if asked.small else corpus.KINDS
    seeds = 1 if asked.small else asked.seeds
    found = {"pictures": pictures(kinds, seeds), "others": others(), "voices": voices(4 if asked.small else 24)}
    print(PUBLISHED)
    if asked.calibrate:
        calibrate(seeds)
    print(json.dumps({"benchmark": "triage", "small": asked.small, **found}))


def looked_at(frames):
    """The frames that `verify` looks at."""
    return list(frames[:: max(1, len(frames) // triage.MOST_FRAMES)][: triage.MOST_FRAMES])


def coded(frames, coding):
    """Frames as they arrive."""
    return copies.COPIES[coding](frames, 24)[0]


def auc(forged, ordinary, random=None):
    """The area under the curve, and its interval of 95 % by resampling."""
    forged, ordinary = np.asarray(forged), np.asarray(ordinary)

    def area(a, b):
        return float((a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean())

    random = random or np.random.default_rng(0)
    again = [area(random.choice(forged, len(forged)), random.choice(ordinary, len(ordinary))) for _ in range(400)]
    return area(forged, ordinary), float(np.quantile(again, 0.025)), float(np.quantile(again, 0.975))


def row(name, forged, ordinary):
    value, low, high = auc(forged, ordinary)
    print(f"{name:<44}{value:>7.2f}  ({low:.2f} to {high:.2f})  {len(forged)} against {len(ordinary)}", flush=True)
    return {"auc": round(value, 3), "low": round(low, 3), "high": round(high, 3), "forged": len(forged)}


def pictures(kinds, seeds):
    """Splices: things put over clips, and face swaps, against the same clips as they are."""
    print("splice: AUC against the same kinds of clips, coded alike")
    scores = {}

    def look(name, frames):
        for coding in ("CRF 23", "CRF 28"):
            scores.setdefault((name, coding), []).append(triage.splice(looked_at(coded(frames, coding)))[0])

    for number, (kind, seed) in enumerate((kind, seed) for kind in kinds for seed in range(seeds)):
        clip = corpus.clip(kind, seed)
        look("clip", clip)
        for way in forgeries.WAYS:
            for area in AREAS:
                forged, _ = forgeries.put_over(clip, clip, np.random.default_rng([number, 9]), area, way)
                look(f"{way}, {area:.0%} of the picture", forged)
    for number in range(12 * seeds if seeds > 1 else 3):
        head = redteam.head(number)
        look("head", head)
        for blend in redteam.BLENDS:
            look(f"face swap, {blend}", redteam.swapped(head, blend, 500 + number)[0])
    return {
        f"{name}, {coding}": row(f"{name}, {coding}", found, scores["head" if "swap" in name else "clip", coding])
        for (name, coding), found in scores.items()
        if name not in ("clip", "head")
    }


def others():
    """Pictures of another origin than the corpus: photographs, microscopy and drawings that scikit-image ships."""
    import skimage
    from PIL import Image

    found = []
    for path in sorted((Path(skimage.__file__).parent / "data").glob("*.*g")):
        trace = triage.trace_of([np.asarray(Image.open(path).convert("RGB"))])
        found += [] if trace is None else [trace]
    odd, middle = sum(one.is_odd for one in found), float(np.median([one.percentile for one in found]))
    print(f"pictures of another origin: {odd} of {len(found)} beyond the 99th percentile; median at the {middle:.0f}th")
    return {"pictures": len(found), "odd": odd, "median_percentile": round(middle, 1)}


def voices(count):
    """Voices through vocoders; each is judged by a network that has not heard that vocoder, and each kind of voice by
    one that has not heard that kind."""
    print("vocoder: AUC of a network that has not heard the method, or not the kind of voice")
    known = {}
    for kind in redteam.kinds_of_voices():
        for seed in range(count):
            voice = redteam.voices(kind, seed)
            ways = {"own": voice, **{way: redteam.imitated(voice, way, seed) for way in redteam.VOCODERS}}
            for way, samples in ways.items():
                for coder, coding in CODERS.items():
                    heard = samples if coding is None else through_coder(samples, *coding)
                    features = lfcc(heard)
                    if features is not None:
                        known.setdefault((kind, way, coder), []).append(features)
    rows = {}
    for left_out in redteam.VOCODERS:
        network = trained(known, lambda kind, way, left_out=left_out: way != left_out)
        rows[left_out] = row(
            f"without {left_out}", *scores_of(known, network, lambda kind, way, one=left_out: way == one)
        )
    for left_out in redteam.kinds_of_voices():
        network = trained(known, lambda kind, way, left_out=left_out: kind != left_out)
        rows[left_out] = row(
            f"without voices of the kind {left_out}", *scores_of(known, network, lambda kind, way: True, kind=left_out)
        )
    return rows


def through_coder(samples, codec, bit_rate):
    """16 kHz mono through a coder at 48 kHz, as 16 kHz."""
    wide = cv2.resize(samples[None].astype(np.float32), (3 * len(samples), 1), interpolation=cv2.INTER_LINEAR)[0]
    heard, rate = through(wide, codec, bit_rate)
    return cv2.resize(heard[None], (round(len(heard) * redteam.RATE / rate), 1), interpolation=cv2.INTER_AREA)[0]


def scores_of(known, network, chosen, kind=None):
    """The scores of imitated voices that are chosen, and of all own ones (of a kind)."""
    forged, own = [], []
    for (voice, way, _), held in known.items():
        if kind is not None and voice != kind:
            continue
        scores = [network(features) for features in held]
        if way == "own":
            own += scores
        elif chosen(voice, way):
            forged += scores
    return forged, own


def trained(known, chosen):
    """The score of features by a network with one hidden layer, trained on the voices that are chosen.

    Own ones weigh as much as imitated ones.
    """
    import torch

    pairs = [(x, way != "own") for (kind, way, _), held in known.items() if chosen(kind, way) for x in held]
    x = np.stack([one for one, _ in pairs])
    y = torch.tensor([float(label) for _, label in pairs])
    mean, std = x.mean(0), x.std(0) + 1e-6
    x = torch.from_numpy(((x - mean) / std).astype(np.float32))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(model.parameters(), RATE, weight_decay=1e-3)
    weight = (1 - y.mean()) / y.mean()
    for _ in range(ROUNDS):
        noisy = x + 0.2 * torch.randn_like(x)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(noisy)[:, 0], y, pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def score(features):
        with torch.no_grad():
            return float(model(torch.from_numpy(((features - mean) / std).astype(np.float32))))

    return score


def lfcc(mono_N):
    """Means and deviations of LFCC and their changes over what is spoken [4 x 20]; None where too little is."""
    count = (len(mono_N) - WINDOW) // HOP + 1
    if count < LEAST_WINDOWS:
        return None
    spots = np.arange(count)[:, None] * HOP + np.arange(WINDOW)
    power = np.abs(np.fft.rfft(np.asarray(mono_N, np.float64)[spots] * np.hanning(WINDOW), axis=1)) ** 2
    loud = 10 * np.log10(power.sum(1) + 1e-12)
    power = power[loud > loud.max() + QUIET_DB]
    if len(power) < LEAST_WINDOWS:
        return None
    cepstrum = np.log(power @ _filters().T + 1e-10) @ _cosines().T
    change = np.diff(cepstrum, axis=0)
    return np.concatenate([cepstrum.mean(0), cepstrum.std(0), change.mean(0), change.std(0)])


@lru_cache(maxsize=1)
def _filters():
    """Triangles of equal width from 0 to 8 kHz [40, 161]."""
    edges = np.linspace(0, WINDOW // 2, BANDS + 2)
    place = np.arange(WINDOW // 2 + 1)
    rising = (place - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - place) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


@lru_cache(maxsize=1)
def _cosines():
    """The cosine transform of 40 bands to 20 coefficients, the second to the twenty-first: loudness is left out."""
    order = np.arange(1, COEFFICIENTS + 1)[:, None]
    return np.asarray(np.cos(np.pi * order * (np.arange(BANDS) + 0.5) / BANDS))


def calibrate(seeds):
    """The scores of ordinary files, from seeds that are not judged."""
    splices = [
        triage.splice(looked_at(coded(corpus.clip(kind, 1000 + seed), coding)))[0]
        for kind in corpus.KINDS
        for seed in range(2 * seeds)
        for coding in CODINGS
    ]
    triage.CALIBRATION.write_text(json.dumps({"ordinary": [round(score, 4) for score in sorted(splices)]}) + "\n")
    print(len(splices), "ordinary files")


if __name__ == "__main__":
    main()
