"""What a copy's comparison with its signed fingerprint finds, and how often it accuses an honest copy.

    python benchmarks/fingerprint.py [--first 5] [--seeds 2] [--minutes 40] [--rows rows.jsonl] [--areas 0.1,0.2]

Clips of the twelve kinds of tests/support/corpus.py, 480x270. Honest copies: those of tests/support/copies.py that keep
the picture where it was and its speed. Forged ones: an ellipse of other content, with the mean and the deviation of
what it covers; of another colour at equal luma; with another's detail below a cell. Each row has the largest scores
(`residual`), so that the thresholds can be read from the honest rows; what is found is what the thresholds in use find,
in its place and time. The thresholds were set on seeds 0 and 1; odd seeds from --first on are held out, 3 was used to
mend (docs/LOG.md). Honest copies come first; the rows that --rows holds are not made again.
--areas tries nothing but other content of these shares of the picture for 2 s, in clips of every seed.
Prints tables and one JSON line.
"""

import argparse
import json
import math
import sys
import time
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import corpus
from support.copies import COPIES, Copy, h264

from sorano.trust.copies import fingerprint, matching, residual

FPS, SIZE = 24, (270, 480)
MOVED = {"screen", "1.25x", "GIF", "re-mux", "mirrored", "crop 0.85"}  # other places, speeds and rates
ORDINARY = {name: copy for name, copy in COPIES.items() if name not in MOVED}
SPANS, CRFS = (1.0, 2.0, 4.0), (23, 28)
CHANGES = [("content", area, 2.0) for area in (0.02, 0.01, 0.05)]  # what is changed, of the picture, seconds
CHANGES += [("content", 0.02, 1.0), ("colour", 0.05, 2.0), ("detail", 0.1, 2.0), ("content", 0.01, 4.0)]
CHANGES += [("content", 0.01, 1.0), ("content", 0.02, 4.0), ("colour", 0.1, 2.0), ("detail", 0.2, 2.0)]
CHANGES += [("content", 0.05, 1.0), ("content", 0.005, 2.0), ("content", 0.005, 4.0), ("content", 0.05, 4.0)]
WHOLE = (1.0, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=5, help="the first seed; every other one follows")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--rows", type=Path, help="a file that rows are added to, and read from")
    parser.add_argument("--areas", help="shares of the picture, with commas between them")
    options = parser.parse_args()
    areas = [float(area) for area in options.areas.split(",")] if options.areas else []
    end = time.monotonic() + 60 * options.minutes
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if known(options.rows) else []
    done = {(row["kind"], row["seed"], row["copy"]) for row in rows}
    for row in measured([options.first + 2 * number for number in range(options.seeds)], done, areas):
        rows.append(row)
        if options.rows:
            with open(options.rows, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        if time.monotonic() > end:
            break
    print(report(rows))
    print(json.dumps({"benchmark": "fingerprint", **summary(rows)}))


def known(path):
    return path is not None and path.exists()


def measured(seeds, done, areas=()):
    """Rows: the honest copies of all clips, then each change of one clip of each kind, the likeliest first."""
    for area in areas:
        for seed in seeds:
            for kind in corpus.KINDS:
                yield from forged_rows(kind, seed, "content", area, 2.0, done)
    if areas:
        return
    for seed in seeds:
        for kind in corpus.KINDS:
            yield from honest_rows(kind, seed, done)
    for change in CHANGES:
        for kind in corpus.KINDS:
            yield from forged_rows(kind, seeds[0], *change, done)


def honest_rows(kind, seed, done):
    names = [name for name in ORDINARY if (kind, seed, name) not in done]
    if names:
        frames, signed = signed_clip(kind, seed, 2.5)
        for name in names:
            yield {"kind": kind, "seed": seed, "copy": name, **scored(signed, seen(*ORDINARY[name](frames, FPS)))}


def forged_rows(kind, seed, what, area, span, done):
    names = {f"{what} {area} {span:g} s CRF {crf}": crf for crf in CRFS}
    if all((kind, seed, name) in done for name in names):
        return
    frames, signed = signed_clip(kind, seed, 4.0)
    other, _ = signed_clip("textures" if kind != "textures" else "landscape", seed + 50, 4.0)
    random = np.random.default_rng([seed, sum(kind.encode()), round(1000 * area), round(10 * span)])
    forged, box, start = changed(what, frames, other, area, span, random)
    for name, crf in names.items():
        if (kind, seed, name) in done:
            continue
        copy = seen(*Copy(lambda frames, fps: (frames, fps), h264(crf))(forged, FPS))
        found = {"what": what, "area": area, "span": span, "crf": crf}
        yield {"kind": kind, "seed": seed, "copy": name, **found, **scored(signed, copy, (box, start, start + span))}


@lru_cache(maxsize=16)
def signed_clip(kind, seed, seconds):
    """Frames, and their fingerprint as it is read back."""
    frames = corpus.clip(kind, seed, SIZE, seconds, FPS)
    return frames, fingerprint.from_bytes(fingerprint.take(frames, FPS).to_bytes())


def seen(frames, fps):
    """What `verify` remembers of frames."""
    fingerprinter = fingerprint.FingerprintBuilder(fps, picture_seconds=0)
    fingerprinter.add(frames)
    fingerprinter.listen([])
    return fingerprinter.stored()


def scored(signed, copy, where=None):
    """The verdict on a copy and its largest scores; of a forged one those in the place and time of the change."""
    match = matching.match(signed, copy, WHOLE)
    row = {"state": match.state, "changes": [change.words for change in match.changes][:3]}
    if where is not None:
        row["found"] = any(overlaps(change, *where) for change in match.changes if not change.harmless)
    found = matching.aligned(signed, copy, WHOLE)
    if found is None:
        return row
    aligner, line = found
    both, maps = (make(signed, copy, line, aligner.window) for make in (residual.pairs, residual.layers))
    if both is None or maps is None:
        return row
    parts = [*residual.picture_scores(both, residual.energies(both)), *residual.layer_scores(maps)]
    scores = {}
    for what, span, energy in parts:
        name = f"{what} {span:g} s"
        scores[name] = max(scores.get(name, 0.0), round(float(energy.max()), 2))
    alike = residual.agreement(maps)
    return {**row, "scores": scores, "alike": None if alike is None else round(alike[0], 3)}


def changed(what, frames, other, area, span, random):
    """Frames with a feathered ellipse that was changed, its box in 0..1, and when it begins."""
    count, height, width = frames.shape[:3]
    tall = (area * height * width / np.pi) ** 0.5 * 0.8
    wide = area * height * width / np.pi / tall
    middle_y, middle_x = random.uniform(tall, height - tall), random.uniform(wide, width - wide)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot((x - middle_x) / wide, (y - middle_y) / tall)
    inside = cv2.GaussianBlur(np.clip((1.05 - radius) / 0.1, 0, 1), (0, 0), max(1.0, height / 270))[..., None]
    there = inside[..., 0] > 0.5
    frames_there = min(round(span * FPS), count)
    first = int(random.integers(0, count - frames_there + 1))
    out = frames.copy()
    for t in range(first, first + frames_there):
        picture, content = frames[t].astype(np.float32), other[t].astype(np.float32)
        content = {"content": refilled, "colour": recoloured, "detail": redetailed}[what](picture, content, there)
        out[t] = np.clip(inside * content + (1 - inside) * picture, 0, 255)
    box = (middle_x - wide) / width, (middle_y - tall) / height, (middle_x + wide) / width, (middle_y + tall) / height
    return out, box, first / FPS


def refilled(picture, content, there):
    """Other content with the mean and the deviation of what it covers."""
    content = (content - content[there].mean(0)) / (content[there].std() + 1e-3)
    return content * picture[there].std() + picture[there].mean(0)


def recoloured(picture, _, there):
    """The same luma, and colour differences that are those of another hue: 20 levels away in each."""
    shift = np.float32([0, -0.344136, 1.772]) * 20 - np.float32([1.402, -0.714136, 0]) * 20
    return picture + shift - (shift @ np.float32([0.2126, 0.7152, 0.0722]))


def redetailed(picture, content, there):
    """The means of the picture in cells of 1/64 of its width, and the detail of other content."""
    height, width = picture.shape[:2]
    grid = (64, round(64 * height / width))

    def means(frame):
        small = cv2.resize(frame, grid, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)

    return means(picture) + 1.2 * (content - means(content))


def overlaps(change, box, start, end):
    if change.end_s < start or change.start_s > end:
        return False
    left, top, right, bottom = change.box or (0, 0, 1, 1)
    return left < box[2] and box[0] < right and top < box[3] and box[1] < bottom


def interval(hits, count):
    """The 95 % Wilson interval of a rate."""
    z = 1.96
    middle, spread = (hits + z * z / 2) / (count + z * z), z / (count + z * z)
    half = spread * math.sqrt(hits * (count - hits) / max(count, 1) + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(rows):
    honest = [row for row in rows if "area" not in row]
    accused = sum(1 for row in honest if row["state"] == "changed")
    other = sum(1 for row in honest if row["state"] == "other")
    names = sorted({name for row in honest for name in row.get("scores", {})})
    tops = {
        name: sorted((row["scores"].get(name, 0) for row in honest if "scores" in row), reverse=True)[:5]
        for name in names
    }
    alike = sorted(row["alike"] for row in honest if row.get("alike") is not None)[:5]
    return {"honest": len(honest), "changed": accused, "other": other, "largest": tops, "least_alike": alike}


def report(rows):
    honest = [row for row in rows if "area" not in row]
    scores = ("picture 2 s", "colour 2 s", "detail 2 s")
    lines = ["| honest copy | taken for changed | largest energy: picture, colour, detail | detail alike, least |"]
    lines.append("|---|---|---|---|")
    for name in ORDINARY:
        some = [row for row in honest if row["copy"] == name]
        if some:
            tops = [max(row.get("scores", {}).get(one, 0) for row in some) for one in scores]
            alike = [row["alike"] for row in some if row.get("alike") is not None]
            bad = sum(row["state"] == "changed" for row in some)
            least = f"{min(alike):.2f}" if alike else ""
            lines.append(f"| {name} | {bad} of {len(some)} | {', '.join(f'{top:.1f}' for top in tops)} | {least} |")
    bad = sum(row["state"] == "changed" for row in honest)
    low, high = interval(bad, len(honest))
    lines.append(f"| all | {bad} of {len(honest)} ({low:.1%} to {high:.1%}) | | |")
    lines += ["", "| changed | of the picture | CRF | " + " | ".join(f"{span:g} s" for span in SPANS) + " |"]
    lines.append("|---|---|---|" + "---|" * len(SPANS))
    forged = [row for row in rows if "area" in row]
    for what, area, crf in sorted({(row["what"], row["area"], row["crf"]) for row in forged}):
        hits = [
            [
                row["found"]
                for row in forged
                if (row["what"], row["area"], row["crf"], row["span"]) == (what, area, crf, s)
            ]
            for s in SPANS
        ]
        told = [f"{sum(some)} of {len(some)}" if some else "" for some in hits]
        lines.append(f"| {what} | {area:.1%} | {crf} | " + " | ".join(told) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
