"""How well the marks are hidden, what they outlive, how fast they are; dwtDct of invisible-watermark beside them.

    pip install 'sorano[bench]'
    python benchmarks/watermark.py [--small] [--seeds 2] [--kinds street,speaker] [--seconds 4]
        [--no-peer] [--only hidden,attacks]

Parts: hidden, attacks, embedded, tamper, forwarded, audio, false, speed.

Clips of 4 s at 960x540 and 24 frames a second that tests/support/footage.py makes, without recordings of anyone; clips
that the embedded model makes; the attacks of VideoSeal and OmniSealBench (augmentation lists of their repositories),
through the coders and the libvmaf of imageio-ffmpeg. Success is a whole message whose CRC holds, never a share of bits;
for dwtDct, 32 of 32 bits by vote over the frames, which it carries without a code. Prints tables and one JSON line.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import footage
from support.scheduling import give_up_real_time

from sorano.trust.watermark import audio
from sorano.trust.watermark.detect import detect
from sorano.trust.watermark.embed import Marker, mark_frames
from sorano.trust.watermark.payload import CODE, HEADER_PASSES, Payload
from sorano.trust.watermark.tamper import tamper_map

FPS = 24
SOUND_WAYS = {
    "Opus 24k": ("libopus", 24_000, 48_000),
    "MP3 32k": ("libmp3lame", 32_000, 48_000),
    "AAC 64k": ("aac", 64_000, 48_000),
    "8 kHz": ("pcm_s16le", 0, 8_000),
}
PARTS = ("hidden", "attacks", "embedded", "tamper", "forwarded", "audio", "false", "speed")
CODERS = {
    "H.264 CRF 23": ("libx264", "-crf", "23"),
    "H.264 CRF 30": ("libx264", "-crf", "30"),
    "H.265 CRF 30": ("libx265", "-crf", "30"),
    "VP9 CRF 38": ("libvpx-vp9", "-crf", "38", "-b:v", "0", "-cpu-used", "4", "-row-mt", "1"),
    "AV1 CRF 42": ("libsvtav1", "-crf", "42", "-preset", "8"),
}
H264 = {crf: ("libx264", "-crf", str(crf)) for crf in (20, 23, 28, 30, 33, 40, 50)}


def ffmpeg():
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def ran(command, given=b""):
    """What a command prints; it stops the benchmark with its own words where it fails."""
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def coded(frames, coder, fps=FPS, filters=""):
    """Frames [T, H, W, 3] after a coder (and filters before it)."""
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    frames = np.ascontiguousarray(frames[:, :height, :width])
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/coded.mkv"
        put = [ffmpeg(), "-v", "error", *raw, "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
        put += ["-c:v", *coder, "-pix_fmt", "yuv420p", *(("-vf", filters) if filters else ()), file]
        ran(put, frames.tobytes())
        out = ran([ffmpeg(), "-v", "error", "-i", file, *raw, "-"])
    return np.frombuffer(out, np.uint8).reshape(-1, height, width, 3)


def vmaf(frames, original):
    """The VMAF (v0.6.1) of each frame beside the original."""
    height, width = frames.shape[1:3]
    form = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS)]
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in (("a", frames), ("b", original)):
            Path(folder, name).write_bytes(np.ascontiguousarray(clip).tobytes())
        graph = "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]libvmaf=n_threads=2"
        graph += f":log_fmt=json:log_path={folder}/log"
        command = [ffmpeg(), *form, "-i", f"{folder}/a", *form, "-i", f"{folder}/b", "-lavfi", graph, "-f", "null", "-"]
        ran(command)
        said = json.loads(Path(folder, "log").read_text())
    return np.array([frame["metrics"]["vmaf"] for frame in said["frames"]])


def luma_psnr(frames, original):
    """The PSNR of luma of each frame, in dB."""
    error = (frames.astype(np.float32) - original) @ np.array([0.299, 0.587, 0.114], np.float32)
    return 10 * np.log10(255**2 / np.maximum(np.mean(error**2, (1, 2)), 1e-9))


def ssimulacra2(frame, original):
    """SSIMULACRA2 of a frame (90: not seen beside the original), by the package of that name; NaN without it."""
    try:
        from PIL import Image
        from ssimulacra2 import compute_ssimulacra2
    except ImportError:
        return float("nan")
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in (("a.png", original), ("b.png", frame)):
            Image.fromarray(picture).save(f"{folder}/{name}")
        return float(compute_ssimulacra2(f"{folder}/a.png", f"{folder}/b.png"))


def seen(frames, original):
    """What is seen of a mark: worst, first and mean frames, and how evenly it lies over time."""
    psnr, quality = luma_psnr(frames, original), vmaf(frames, original)
    noise = (frames.astype(np.float32) - original).std((1, 2, 3))
    return {
        "PSNR-Y least": psnr.min(),
        "VMAF least": quality.min(),
        "first": quality[0],
        "mean": quality.mean(),
        "SSIMULACRA2 first": ssimulacra2(frames[0], original[0]),
        "noise over time %": 100 * noise.std() / max(float(noise.mean()), 1e-9),
    }


# The attacks: each takes frames and gives frames and their rate.


def each(change):
    return lambda frames: (np.stack([change(frame) for frame in frames]), FPS)


def levels(frames):
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def brightness(factor):
    return lambda frames: (np.stack([levels(frame * np.float32(factor)) for frame in frames]), FPS)


def contrast(factor):
    def change(frame):
        mean = np.float32(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).mean())
        return levels((frame - mean) * np.float32(factor) + mean)

    return each(change)


def grey(frame):
    return np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


def saturation(factor):
    return each(lambda frame: levels(grey(frame) * np.float32(1 - factor) + frame * np.float32(factor)))


def hue(turns):
    def change(frame):
        hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(turns * 256) % 256)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)

    return each(change)


def noise(deviation):
    def change(frames):
        random = np.random.default_rng(5)
        return np.stack(
            [levels(f + random.normal(0, 255 * deviation, f.shape).astype(np.float32)) for f in frames]
        ), FPS

    return change


def jpeg(quality):
    return each(lambda frame: cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1))


def rotated(degrees):
    def change(frame):
        height, width = frame.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)

    return each(change)


def perspective(strength):
    """Corners moved inwards by up to half the strength of a side, as torchvision's RandomPerspective does."""

    def change(frames):
        height, width = frames.shape[1:3]
        random = np.random.default_rng(11)
        inwards = random.uniform(0, strength / 2, (4, 2)) * (width, height)
        start = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
        end = (start + inwards * [[1, 1], [-1, 1], [-1, -1], [1, -1]]).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(start, end)
        return np.stack([cv2.warpPerspective(frame, matrix, (width, height)) for frame in frames]), FPS

    return change


def through(coder, before=lambda frames: (frames, FPS), filters=""):
    def change(frames):
        frames, fps = before(frames)
        return coded(frames, coder, fps, filters), fps

    return change


def other_rate(coder):
    """24 frames a second shown at 30, as a converter does it: some frames twice."""

    def change(frames):
        index = np.minimum((np.arange(len(frames) * 30 // FPS) * FPS / 30).astype(int), len(frames) - 1)
        return coded(frames[index], coder, 30), 30

    return change


def padded(frames):
    """A clip between black bars in an upright frame of 9:16, a bar with a name under it."""
    height, width = frames.shape[1:3]
    tall, short = width // 2 * 2, height // 2 * 2
    small = footage.resized(frames, short / width)
    out = np.zeros((len(frames), tall, short, 3), np.uint8)
    top = (tall - small.shape[1]) // 2
    out[:, top : top + small.shape[1], : small.shape[2]] = small
    bar = np.full((tall // 10, short, 3), (240, 60, 40), np.uint8)
    cv2.putText(bar, "@a.channel", (20, tall // 15), cv2.FONT_HERSHEY_SIMPLEX, tall / 700, (255,) * 3, 3, cv2.LINE_AA)
    out[:, top + small.shape[1] : top + small.shape[1] + len(bar)] = bar
    return out, FPS


@functools.lru_cache(maxsize=1)
def around(height, width, frames):
    """What is seen around a picture in a picture: unmarked."""
    return footage.clip("street", height, width, frames, seed=7)


def picture_in_picture(frames):
    """A clip at 40 % of its size over another one of the size that it had, towards a corner."""
    small = footage.resized(frames[: 2 * FPS], 0.4)
    height, width = frames.shape[1:3]
    out = around(height, width, len(small)).copy()
    top, left = height // 10, width - small.shape[2] - width // 12
    out[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return out, FPS


def excerpt(start, count):
    """Some frames, from a share of the clip on, after H.264 CRF 23: one as it is, more of them coded again."""

    def change(frames):
        first = int(start * len(frames))
        few = coded(frames, H264[23])[first : first + count]
        return (few, FPS) if count == 1 else (coded(few, H264[23]), FPS)

    return change


EDITS = {
    "": lambda frames: (frames, FPS),
    ", crop 0.55": lambda frames: (footage.cropped(frames, 0.55), FPS),
    ", resize 0.55": lambda frames: (footage.resized(frames, 0.55), FPS),
    ", half the frames": lambda frames: (frames[::2], FPS / 2),
}


def attacks():
    """name: (bar or None, change)."""
    table = {"nothing done": (0.99, lambda frames: (frames, FPS))}
    for name, coder in CODERS.items():
        for edit, before in EDITS.items():
            table[name + edit] = (0.99, through(coder, before))
        table[f"{name}, 30 fps"] = (0.99, other_rate(coder))
    table |= {
        "blur 9": (0.95, each(lambda frame: cv2.GaussianBlur(frame, (9, 9), 0))),
        "noise 0.1": (0.95, noise(0.1)),
        "JPEG 40": (0.95, jpeg(40)),
        "hue 0.25": (0.95, hue(0.25)),
        "grayscale": (0.95, each(grey)),
        "flip": (0.95, lambda frames: (frames[:, :, ::-1], FPS)),
    }
    for name, change in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        for factor in (0.5, 1.5):
            table[f"{name} {factor}"] = (0.95, change(factor))
    table |= {
        "padded to 9:16, a logo bar, CRF 23": (0.8, through(H264[23], padded)),
        "picture in picture at 40 %, CRF 23": (0.8, through(H264[23], picture_in_picture)),
    }
    for share in (0.3, 0.65):
        table[f"screenshot at {share:.0%}, CRF 23"] = (0.8, excerpt(share, 1))
        table[f"0.5 s from {share:.0%}, CRF 23 twice"] = (0.8, excerpt(share, FPS // 2))
    darker = brightness(0.5)
    table |= {
        "the first quarter cut, CRF 28": (None, through(H264[28], lambda frames: (frames[len(frames) // 4 :], FPS))),
        "rotation 10, CRF 28": (None, through(H264[28], rotated(10))),
        "H.264 CRF 40": (None, through(H264[40])),
        "CRF 40, crop 0.71, brightness 0.5": (
            None,
            through(H264[40], lambda frames: darker(footage.cropped(frames, 0.71))),
        ),
        "rotation 10": (None, rotated(10)),
        "perspective 0.5": (None, perspective(0.5)),
        "H.264 CRF 50": (None, through(H264[50])),
        "rotation 90": (None, lambda frames: (np.rot90(frames, 1, (1, 2)), FPS)),
    }
    return table


# The peer.


class DwtDct:
    """invisible-watermark's dwtDct, 32 bits in every frame, read from every fourth by vote."""

    BITS = [int(bit) for bit in f"{0x5A3C96E1:032b}"]

    def __init__(self):
        from imwatermark import WatermarkDecoder, WatermarkEncoder

        self.encoder = WatermarkEncoder()
        self.encoder.set_watermark("bits", self.BITS)
        self.decoder = WatermarkDecoder("bits", 32)

    def mark(self, frames):
        return np.stack([self.encoder.encode(frame[..., ::-1], "dwtDct")[..., ::-1] for frame in frames])

    def reads(self, frames):
        if min(frames.shape[1:3]) < 256:  # it refuses these
            return False
        votes = [self.decoder.decode(frame[..., ::-1], "dwtDct") for frame in frames[::4]]
        return [int(v) for v in np.mean(votes, 0) > 0.5] == self.BITS


def payload(number, kind="made"):
    return Payload(1, kind, (0x9E3779B97F4A7C15 * (number + 1)) % (1 << 40))


class Clips:
    """The clips, ours and the peer's, made once."""

    def __init__(self, small, seeds, kinds=(), seconds=4.0):
        self.kinds = kinds or (("landscape", "speaker") if small else tuple(footage.KINDS))
        self.size = (360, 640, 24) if small else (540, 960, round(seconds * FPS))
        self.seeds = seeds or (1 if small else 2)

    def __iter__(self):
        for number in range(len(self.kinds) * self.seeds):
            kind = self.kinds[number % len(self.kinds)]
            yield number, kind, footage.clip(kind, *self.size, seed=number // len(self.kinds))


def hidden(clips, peers, say):
    """How little is seen, by the worst frame of each clip."""
    rows = {}
    for number, kind, original in clips:
        marks = {"Sorano": mark_frames(original, payload(number), fps=FPS)}
        marks |= {name: peer.mark(original) for name, peer in peers.items()}
        for name, marked in marks.items():
            row = {what: round(float(value), 2) for what, value in seen(marked, original).items()}
            if not rows:
                say(f"{'clip':<16}{'mark':<10}" + "".join(f"{what:>19}" for what in row))
            rows[f"{kind} {number // len(clips.kinds)} {name}"] = row
            say(
                f"{kind + ' ' + str(number // len(clips.kinds)):<16}{name:<10}"
                + "".join(f"{v:>19}" for v in row.values())
            )
    return rows


def attacked(clips, peer, say):
    """Messages that are read, of all clips."""
    table = attacks()
    ours, theirs = {name: [] for name in table}, {name: [] for name in table}
    for number, kind, original in clips:
        marked = mark_frames(original, payload(number), fps=FPS)
        other = peer.mark(original) if peer else None
        for name, (_, change) in table.items():
            frames, fps = change(marked)
            found = detect([frames], fps=fps)
            ours[name].append(found is not None and found.payload == payload(number))
            if peer:
                theirs[name].append(peer.reads(change(other)[0]))
            say(f"    {name}: {'read' if ours[name][-1] else 'not read'}", progress=True)
        missed = [name for name in table if not ours[name][-1]]
        say(f"  {kind} {number // len(clips.kinds)}: not read: {', '.join(missed) or 'none'}", progress=True)
    say(f"{'attack':<38}{'Sorano':>8}{'dwtDct':>8}{'bar':>8}")
    for name, (bar, _) in table.items():
        share = np.mean(ours[name])
        other = f"{np.mean(theirs[name]):>8.0%}" if peer else f"{'-':>8}"
        verdict = "" if bar is None else "" if share >= bar else "  short"
        say(f"{name:<38}{share:>8.0%}{other}{'-' if bar is None else f'{bar:.0%}':>8}{verdict}")
    groups = {}
    for bar in (0.99, 0.95, 0.8):
        read = [hit for name in table if table[name][0] == bar for hit in ours[name]]
        groups[str(bar)] = [int(sum(read)), len(read)]
        say(f"all with a bar of {bar:.0%}: {sum(read)} of {len(read)} ({np.mean(read):.1%})")
    return {"ours": {n: float(np.mean(v)) for n, v in ours.items()}, "groups": groups} | (
        {"dwtDct": {n: float(np.mean(v)) for n, v in theirs.items()}} if peer else {}
    )


def embedded(small, say):
    """What `sorano generate` makes by default."""
    import sorano
    from sorano.world.score import fullest_caption

    change = {
        "CRF 23": (0.99, lambda frames, fps: coded(frames, H264[23], fps)),
        "CRF 30": (0.99, lambda frames, fps: coded(frames, H264[30], fps)),
        "crop 0.8, CRF 28": (0.95, lambda frames, fps: coded(footage.cropped(frames, 0.8), H264[28], fps)),
    }
    read = {name: [] for name in change}
    psnr, scores = [], []
    for number in range(2 if small else 40):
        video = sorano.generate(fullest_caption("heldout", number), seed=number)
        marked = mark_frames(video.frames_THWC, payload(number), fps=video.fps)
        psnr.append(float(luma_psnr(marked, video.frames_THWC).min()))
        if number < 8:
            scores.append(float(vmaf(marked, video.frames_THWC).min()))
        for name, (_, attack) in change.items():
            found = detect([attack(marked, video.fps)], fps=video.fps)
            read[name].append(found is not None and found.payload == payload(number))
    height, width = video.frames_THWC.shape[1:3]
    say(f"{width}x{height}, {len(video.frames_THWC)} frames; worst: PSNR-Y {min(psnr):.1f}, VMAF {min(scores):.1f}")
    for name, (bar, _) in change.items():
        say(f"{name:<38}{np.mean(read[name]):>8.1%}{bar:>8.0%}{'' if np.mean(read[name]) >= bar else '  short'}")
    return {name: float(np.mean(hits)) for name, hits in read.items()} | {"psnr": min(psnr), "vmaf": min(scores)}


def tampered(clips, small, say):
    """Composites: how well the map tells, and what is reported."""
    areas = (0.1, 0.2) if small else (0.1, 0.15, 0.25)
    result = {}
    for crf, bar in ((23, 0.98), (28, 0.95)):
        curves, found, alarms, spots = [], [], [], 0
        for number, _, original in clips:
            marked = mark_frames(original, payload(number, "captured"), fps=FPS)
            clean = coded(marked, H264[crf])
            seen = detect([clean], fps=FPS)
            if seen is None:
                continue
            regions = tamper_map([clean], seen).regions
            spots += len({one.start_s for one in regions})
            alarms.append(bool(regions))
            for index, area in enumerate(areas):
                forged, where = footage.covered(marked, original, np.random.default_rng([number, index]), area)
                forged = coded(forged, H264[crf])
                seen = detect([forged], fps=FPS)
                if seen is None:
                    found.append(False)
                    continue
                result_map = tamper_map([forged], seen)
                for window, (start, end) in enumerate(zip(result_map.starts_s, result_map.ends_s, strict=True)):
                    truth = where[int((start + end) / 2 * FPS)]
                    size = truth.shape[::-1]
                    curves.append(
                        area_under_curve(cv2.resize(result_map.map_THW[window], size)[::3, ::3], truth[::3, ::3])
                    )
                rows, columns = np.nonzero(where[len(where) // 2])
                height, width = where.shape[1:]
                middle = columns.mean() / width, rows.mean() / height
                found.append(any(_holds(region.box, middle) for region in result_map.regions))
        result[crf] = {
            "auc": float(np.mean(curves)),
            "worst": float(np.min(curves)),
            "found": float(np.mean(found)),
            "composites": len(found),
            "false_alarms": float(np.mean(alarms)),
            "clean": len(alarms),
        }
        say(
            f"H.264 CRF {crf}: pixel AUC {np.mean(curves):.3f} over 2 s (bar {bar}; worst {np.min(curves):.3f}); "
            f"{np.mean(found):.1%} of {len(found)} regions found (99 %); "
            f"false alarms in {sum(alarms)} of {len(alarms)} clean clips"
        )
    return result


def forwarded(clips, say):
    """False alarms of the map on marked clips that were only coded again, cut and scaled."""
    ways = {
        "CRF 20": through(H264[20]),
        "CRF 33": through(H264[33]),
        "crop 0.9, CRF 28": through(H264[28], lambda frames: (footage.cropped(frames, 0.9), FPS)),
        "resize 0.7, CRF 28": through(H264[28], lambda frames: (footage.resized(frames, 0.7), FPS)),
        "brightness 0.8, CRF 25": through(("libx264", "-crf", "25"), brightness(0.8)),
        "twice CRF 28": lambda frames: (coded(coded(frames, H264[28]), H264[28]), FPS),
    }
    windows = alarms = 0
    for number, kind, original in clips:
        marked = mark_frames(original, payload(number, "captured"), fps=FPS)
        for name, change in ways.items():
            frames, fps = change(marked)
            seen = detect([frames], fps=fps)
            if seen is None:
                continue
            made = tamper_map([frames], seen)
            windows += len(made.starts_s)
            bad = sum(len([r for r in made.regions if r.start_s <= s < r.end_s]) > 0 for s in made.starts_s)
            if bad:
                say(f"  {kind} {name}: {made.regions}", progress=True)
            alarms += bad
    say(f"false alarms in {alarms} of {windows} windows of 2 s ({alarms / max(windows, 1):.2%}; bar 1 %)")
    return {"windows": windows, "alarms": alarms}


def _holds(box, point):
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def area_under_curve(score, truth):
    """The chance that a covered pixel scores higher than one that is not."""
    order = np.argsort(score.ravel(), kind="stable")
    rank = np.empty(order.size)
    rank[order] = np.arange(1, order.size + 1)
    hits = int(truth.sum())
    return float((rank[truth.ravel()].sum() - hits * (hits + 1) / 2) / (hits * (truth.size - hits)))


def sound(small, say):
    """Messages read after coders, in synthetic speech and in voices of espeak-ng (`pip install espeakng-loader`)."""
    from support import redteam, voices

    def spoken(seconds):
        def wide(number):
            low = redteam.spoken(number, seconds)
            return np.interp(np.arange(seconds * voices.RATE) / 3, np.arange(len(low)), low).astype(np.float32)

        return wide

    kinds = [("synthetic speech, 5 s", 3 if small else 100, voices.speech)]
    if "espeak" in redteam.kinds_of_voices():
        kinds += [(f"espeak-ng, {seconds} s", 2 if small else 20, spoken(seconds)) for seconds in (3, 5, 10)]
    return {title: heard_of(title, count, maker, say) for title, count, maker in kinds}


def heard_of(title, count, maker, say):
    """The share of recordings of a kind whose message is read after each coder, ours and perth's."""
    from support import voices

    peer = perth()
    read = {who: dict.fromkeys((*SOUND_WAYS, "unmarked"), 0) for who in ("sorano", *(["perth"] if peer else []))}
    ratios = {who: [] for who in read}
    for number in range(count):
        clean, message = maker(number), number * 641 % 65_536
        marked = {"sorano": audio.mark_audio(clean, voices.RATE, message)}
        if peer:
            marked["perth"] = peer.apply_watermark(clean, sample_rate=voices.RATE)[: len(clean)]
        for who, sound in marked.items():
            ratios[who].append(10 * np.log10((clean**2).sum() / ((sound - clean) ** 2).sum()))
            for name, (codec, rate, samples) in SOUND_WAYS.items():
                read[who][name] += is_heard(who, peer, voices.through(sound, codec, rate, samples), message)
            read[who]["unmarked"] += is_heard(who, peer, (clean, voices.RATE), message)
    for who, hits in read.items():
        bits = "16 bits" if who == "sorano" else "its presence alone"
        say(f"{title}, {who}: {bits}; signal to mark {np.mean(ratios[who]):.1f} dB, {count} recordings")
        for name, found in hits.items():
            bar = "0%" if name == "unmarked" else "99%"
            short = found > 0 if name == "unmarked" else found / count < 0.99
            say(f"  {name:<36}{found / count:>8.1%}{bar:>8}{'  short' if short else ''}")
    return {who: {name: found / count for name, found in hits.items()} for who, hits in read.items()}


def perth():
    """resemble-perth's marker where `pip install resemble-perth "setuptools<80" torchaudio` was done, or None."""
    try:
        from perth.perth_net.perth_net_implicit.perth_watermarker import PerthImplicitWatermarker
    except ImportError:
        return None
    return PerthImplicitWatermarker()


def is_heard(who, peer, heard, message):
    """Whether a marker finds what it put in: our message, or that there is a mark of perth's."""
    if who == "perth":
        return bool(peer.get_watermark(*heard).mean() > 0.5)
    found = audio.detect_audio(*heard)
    return found is not None and found.payload == message


def false_accepts(clips, small, say):
    """Wrong keys on marked frames, the search included."""
    tries = accepted = 0
    for number, _, original in clips:
        marked = mark_frames(original[:2], payload(number), fps=FPS)
        for key in range(2 if small else 20):
            found = detect([original[:2] if key % 2 else marked], fps=FPS, key=b"a wrong key %8d" % key)
            tries, accepted = tries + 1, accepted + (found is not None)
    rate = CODE.false_accept_rate(1, 8) * HEADER_PASSES
    say(f"{accepted} accepted of {tries} searches under wrong keys; by the code at most {rate:.1e} for each word tried")
    return {"tries": tries, "accepted": accepted, "rate_per_word": rate}


def speed(small, say):
    """Frames a second put in; seconds to read a clip of 10 s at 1080p. Least of three runs."""
    rows = {}
    for height, width, bar in ((540, 960, 60), (1080, 1920, 30)):
        frames = footage.clip("landscape", height, width, 8 if small else 48)
        marker = Marker(payload(1), height=height, width=width, fps=FPS)
        marker(frames[:8])
        times = []
        for _ in range(3):
            began = time.perf_counter()
            marker(frames)
            times.append(time.perf_counter() - began)
        rows[f"{height}p frames/s"] = len(frames) / min(times)
        say(f"marking at {height}p: {len(frames) / min(times):.0f} frames/s ({bar})")
    few = mark_frames(frames, payload(1), fps=FPS)
    chunks = [few] * (240 // len(few)) if not small else [few]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        found = detect(chunks, fps=FPS)
        times.append(time.perf_counter() - began)
    times_none = time.perf_counter()
    detect([frames] * len(chunks), fps=FPS)
    times_none = time.perf_counter() - times_none
    rows["10 s of 1080p read, s"], rows["10 s of 1080p without a mark, s"] = min(times), times_none
    say(f"reading 10 s of 1080p: {min(times):.1f} s, unmarked {times_none:.1f} s (5 s); found: {found is not None}")
    yardstick = []
    for _ in range(3):
        began = time.perf_counter()
        for frame in frames:
            cv2.GaussianBlur(frame, (0, 0), 2)
        yardstick.append(len(frames) / (time.perf_counter() - began))
    rows["1080p blurs/s"] = statistics.median(yardstick)
    say(f"yardstick: {rows['1080p blurs/s']:.0f} Gaussian blurs of a 1080p frame a second")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few short clips")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--seeds", type=int, help="clips of each kind (2; with --small 1)")
    parser.add_argument("--kinds", help="of the tests' footage, with commas between them; all when left out")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each clip (4; with --small 1)")
    parser.add_argument("--no-peer", action="store_true")
    asked = parser.parse_args()
    give_up_real_time()  # of SVT-AV1
    only = asked.only.split(",")
    if set(only) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")

    def say(text, progress=False):
        print(text, file=sys.stderr if progress else sys.stdout, flush=True)

    peer = None
    if not asked.no_peer:
        try:
            peer = DwtDct()
        except ImportError:
            say("invisible-watermark is not installed: no peer")
    clips = Clips(asked.small, asked.seeds, tuple(asked.kinds.split(",")) if asked.kinds else (), asked.seconds)
    report = {"benchmark": "watermark", "small": asked.small}
    run = {
        "hidden": lambda: hidden(clips, {"dwtDct": peer} if peer else {}, say),
        "attacks": lambda: attacked(clips, peer, say),
        "embedded": lambda: embedded(asked.small, say),
        "tamper": lambda: tampered(clips, asked.small, say),
        "forwarded": lambda: forwarded(clips, say),
        "audio": lambda: sound(asked.small, say),
        "false": lambda: false_accepts(clips, asked.small, say),
        "speed": lambda: speed(asked.small, say),
    }
    for part in only:
        say(f"\n== {part}")
        began = time.perf_counter()
        report[part] = run[part]()
        say(f"  {part}: {time.perf_counter() - began:.0f} s", progress=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
