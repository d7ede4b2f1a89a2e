"""What a copy's comparison with its signed fingerprint finds, and how often it accuses an honest copy.

    python benchmarks/fingerprint.py [--seeds 1] [--kinds speaker,street] [--height 270] [--seconds 4]

Clips that tests/footage.py makes. Honest copies: coded, scaled, converted, cropped, trimmed, toned. Forged ones: an
ellipse of other content, with the mean and the deviation of what it covers, over a share of the picture and of the
time. It counts as found where a change is named that overlaps it in place and time. Prints tables and one JSON line.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import footage

from sorano.trust import fingerprint, matching

FPS = 24
AREAS, SPANS, CRFS = (0.005, 0.01, 0.02, 0.05), (0.5, 1.0, 2.0, 4.0), (23, 28)
WHOLE = (1.0, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(footage.KINDS))
    parser.add_argument("--height", type=int, default=270)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    honest, found = {}, {}
    for kind in options.kinds.split(","):
        for seed in range(options.seeds):
            measure(kind, seed, options, honest, found)
            print(f"{kind} {seed} done", file=sys.stderr, flush=True)
    print(report(honest, found))
    accused = sum(sum(states) for states in honest.values())
    count = sum(map(len, honest.values()))
    print(
        json.dumps(
            {
                "benchmark": "fingerprint",
                "honest": count,
                "not_matched": accused,
                "found": {f"{area} {span} {crf}": [sum(hits), len(hits)] for (area, span, crf), hits in found.items()},
            }
        )
    )


def measure(kind, seed, options, honest, found):
    height, width, count = options.height, options.height * 16 // 9 // 2 * 2, options.seconds * FPS
    frames = footage.clip(kind, height, width, count, seed)
    signed = fingerprint.from_bytes(fingerprint.take(frames, FPS).to_bytes())
    for name, (copy, fps, hint) in copies(frames).items():
        state = matching.match(signed, seen(copy, fps), hint)
        honest.setdefault(name, []).append(state.state != "same")
        if state.state != "same":
            print(f"{kind} {seed} {name}: {state.changes[:2]}", file=sys.stderr, flush=True)
    other = footage.clip("leaves" if kind != "leaves" else "street", height, width, count, seed + 50)
    rng = np.random.default_rng([seed, sum(kind.encode())])
    for area in AREAS:
        for span in SPANS:
            forged, box, start = repainted(frames, other, area, min(span, options.seconds), rng)
            for crf in CRFS:
                match = matching.match(signed, seen(coded(forged, crf), FPS), WHOLE)
                hit = any(overlaps(change, box, start, start + span) for change in match.changes)
                found.setdefault((area, span, crf), []).append(hit)


def coded(frames, crf, fps=FPS, codec="libx264"):
    """RGB frames after a coder."""
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    held = io.BytesIO()
    with av.open(held, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        fast = {"libx264": {"preset": "veryfast"}, "libvpx-vp9": {"b": "0", "cpu-used": "6"}}
        stream.options = {"crf": str(crf), **fast.get(codec, {"preset": "10"})}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    held.seek(0)
    with av.open(held) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def seen(frames, fps):
    """What `verify` remembers of frames."""
    taker = fingerprint.Taker(fps, picture_seconds=0)
    taker.add(frames)
    taker.listen([])
    return taker.stored()


def copies(frames):
    """name -> frames, their rate, and what the mark says of their crop."""
    count, height, width = frames.shape[:3]
    plain = coded(frames, 28)
    half = footage.resized(frames, 0.5)
    tall, wide = round(height * 0.85) // 2 * 2, round(width * 0.85) // 2 * 2
    at_30 = np.floor(np.arange(count * 30 // FPS) * FPS / 30).astype(int)
    toned = np.clip(255 * (frames / 255.0) ** 0.8 * np.array([1.05, 1.0, 0.92]), 0, 255).astype(np.uint8)
    return {
        **{f"CRF {crf}": (coded(frames, crf), FPS, WHOLE) for crf in (18, 23, 28, 33)},
        "half size": (coded(half, 28), FPS, WHOLE),
        "chat size": (coded(footage.resized(frames, 0.67), 30), FPS, WHOLE),
        "VP9": (coded(frames, 36, codec="libvpx-vp9"), FPS, WHOLE),
        "AV1": (coded(frames, 42, codec="libsvtav1"), FPS, WHOLE),
        "30 fps": (coded(frames[at_30], 28, 30), 30, WHOLE),
        "12 fps": (plain[::2], 12, WHOLE),
        "darker": (coded((frames * 0.7).astype(np.uint8), 28), FPS, WHOLE),
        "colour LUT": (coded(toned, 28), FPS, WHOLE),
        "mirrored": (plain[:, :, ::-1], FPS, (1.0, True)),
        "trimmed": (plain[FPS:-FPS], FPS, WHOLE),
        "cropped to 0.85": (coded(frames[:, 14 : 14 + tall, 30 : 30 + wide], 28), FPS, (1 / 0.85, False)),
        "twice coded": (coded(coded(half, 28), 30), FPS, WHOLE),
    }


def repainted(frames, other, area, span, rng):
    """Frames with other content in a feathered ellipse, its box in 0..1, and when it begins."""
    count, height, width = frames.shape[:3]
    tall = (area * height * width / np.pi) ** 0.5 * 0.8
    wide = area * height * width / np.pi / tall
    middle_y, middle_x = rng.uniform(tall, height - tall), rng.uniform(wide, width - wide)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot((x - middle_x) / wide, (y - middle_y) / tall)
    inside = cv2.GaussianBlur(np.clip((1.05 - radius) / 0.1, 0, 1), (0, 0), max(1.0, height / 270))[..., None]
    there = inside[..., 0] > 0.5
    first = int(rng.integers(0, count - round(span * FPS) + 1))
    out = frames.copy()
    for t in range(first, first + round(span * FPS)):
        picture, content = frames[t].astype(np.float32), other[t].astype(np.float32)
        content = (content - content[there].mean(0)) / (content[there].std() + 1e-3)
        content = content * picture[there].std() + picture[there].mean(0)
        out[t] = np.clip(inside * content + (1 - inside) * picture, 0, 255)
    box = (middle_x - wide) / width, (middle_y - tall) / height, (middle_x + wide) / width, (middle_y + tall) / height
    return out, box, first / FPS


def overlaps(change, box, start, end):
    if change.end_s < start or change.start_s > end:
        return False
    left, top, right, bottom = change.box or (0, 0, 1, 1)
    return left < box[2] and box[0] < right and top < box[3] and box[1] < bottom


def report(honest, found):
    lines = ["| honest copy | not MATCHED |", "|---|---|"]
    lines += [f"| {name} | {sum(states)} of {len(states)} |" for name, states in honest.items()]
    lines += ["", "| repainted, of the picture | CRF | " + " | ".join(f"{span:g} s" for span in SPANS) + " |"]
    lines += ["|---|---|" + "---|" * len(SPANS)]
    for area in AREAS:
        for crf in CRFS:
            hits = [found[area, span, crf] for span in SPANS]
            lines.append(f"| {area:.1%} | {crf} | " + " | ".join(f"{sum(h)} of {len(h)}" for h in hits) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
