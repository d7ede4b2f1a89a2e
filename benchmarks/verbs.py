"""Every verb on the embedded model, judged: what is kept, what is reached, how smooth the joins are; films and drift.

    python benchmarks/verbs.py [--clips 24] [--only frame,extend,loop,blend,edit,region,film,drift] [--small]

Everything goes through the public API and is read back from the finished files, marks and H.264 included; joins also as
they are before marking, for the mark comes in bursts, and one may begin at a join. The world's
judge reads 17 frames at 64x64; accuracies are shares of those that text to video has on the same captions, so that they
hold for a better model as well. Prints a table and one JSON line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import sorano
from sorano.conditions import Blend, Continue, Edit, FirstFrame, Keyframe, Loop, Region
from sorano.video import read_video, write_video
from sorano.world import caption as captions
from sorano.world import score as judging

PARTS = ("frame", "extend", "loop", "blend", "edit", "region", "film", "drift")
CHANGES = {
    "time": {"dawn": "it is night", "noon": "it is night", "sunset": "it is noon", "night": "it is noon"},
    "ground": {"grass": "on the snow", "sand": "on the grass", "snow": "on the sand", "stone": "on the grass"},
    "color": ("make it red", "make it blue", "make it green", "make it yellow"),
}
ENDLESS = (
    "a red ball bounces on the grass at sunset",
    "a blue cube spins on the snow at night",
    "a yellow torus spins on the sand at noon",
)


def small(frames):
    """Frames as the evaluator sees them, 64x64."""
    if frames.shape[1] == 64:
        return frames
    step = frames.shape[1] // 64
    return frames.reshape(len(frames), 64, step, 64, step, 3).mean((2, 4)).round().astype(np.uint8)


def distances(frames):
    """How far each frame is from the one before."""
    return np.abs(np.diff(small(frames).astype(np.float32), axis=0)).mean((1, 2, 3))


def jump(frames, place):
    """The step after a frame, over the median step."""
    apart = distances(frames)
    return float(apart[place] / np.median(apart))


def psnr(a, b):
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


class Clips:
    """Text to video of held-out captions: the files that the verbs are given, and how well they follow."""

    def __init__(self, count, folder):
        from sorano import stream

        self.folder, self.count, self.made = folder, count, []
        emit = stream.Run._emit

        def emitted(film, frames_THWC):
            self.made.append(frames_THWC.copy())
            emit(film, frames_THWC)

        stream.Run._emit = emitted
        self.evaluator = judging.load_evaluator()
        self.captions = [judging.fullest_caption("heldout", number) for number in range(count)]
        self.files, frames = [], []
        for number, text in enumerate(self.captions):
            made = sorano.generate(text, seed=number, output=folder / f"clip-{number}.mp4", overwrite=True)
            self.files.append(made.path)
            frames.append(small(made.frames_THWC))
        self.frames = np.stack(frames)
        self.length = self.frames.shape[1]  # frames of a usual clip
        self.scores = self.score(self.frames, self.captions)

    def score(self, frames_NTHWC, said):
        return judging.score(np.asarray(frames_NTHWC), said, evaluator=self.evaluator)

    def share(self, scores, without=()):
        """Mean accuracy over what text to video gets right, over its own."""
        names = [name for name in scores.stated if name not in without and self.scores.accuracy(name) > 0]
        ours = np.mean([min(1.0, scores.accuracy(name) / self.scores.accuracy(name)) for name in names])
        return float(ours)

    def make(self, name, prompt="", **options):
        path = self.folder / f"{name}.mp4"
        self.made.clear()
        sorano.generate(prompt, output=path, overwrite=True, **options)
        return read_video(path).frames_THWC

    def before_marking(self):
        """Frames of the film that was just made, as they were before they were marked and encoded."""
        return np.concatenate(self.made)


def frame(clips, say):
    """A given frame, reproduced: against what the autoencoder makes of it alone."""
    sampler = judging.load_sampler()
    exam = judging.exam("heldout", clips.count, size=sampler.size, num_frames=sampler.num_frames)
    place = sampler.num_frames - 1
    own, first, last = [], [], []
    for number, text in enumerate(clips.captions):
        given = exam.frames_NTHWC[number, 0]
        own.append(psnr(sampler.reconstruct(given[None, None])[0, 0], given))
        made = sorano.generate(text, seed=number, conditions=[FirstFrame(given)], upscale=1)
        first.append(psnr(made.frames_THWC[0], given))
        end = exam.frames_NTHWC[number, place]
        conditions = [FirstFrame(given), Keyframe(place / 12, end)]
        made = sorano.generate(text, seed=number, conditions=conditions, upscale=1)
        last.append(psnr(made.frames_THWC[place], end))
    row = {"autoencoder": np.mean(own), "first frame": np.mean(first), "keyframe at the end": np.mean(last)}
    say(f"a given frame: {row['first frame']:.2f} dB, the autoencoder alone {row['autoencoder']:.2f} (within 0.5)")
    say(f"a keyframe at the end of a clip: {row['keyframe at the end']:.2f} dB (led to, and reached)")
    return {name: round(float(value), 2) for name, value in row.items()}


def extend(clips, say):
    """Extensions: attributes, joins, and the simulator rolled on."""
    ends, joins, backward = [], [], []
    for number, file in enumerate(clips.files):
        frames = clips.make("longer", seconds=16 / 12, seed=number, conditions=[Continue(file)])
        ends.append(small(frames)[-17:])
        joins.append([jump(one, clips.length - 1) for one in (clips.before_marking(), frames)])
        frames = clips.make("before", seconds=1, seed=number, conditions=[Continue(file, "backward")])
        backward.append([jump(one, len(frames) - clips.length - 1) for one in (clips.before_marking(), frames)])
    kept = clips.share(clips.score(ends, clips.captions), without=("motion", "relation"))
    exam = judging.exam("heldout", clips.count)
    errors = {"extension": [], "inside a clip": []}
    for number, one in enumerate(exam.samples):
        truth = one.frames_THWC
        for name, start, given in (("extension", 8, 13), ("inside a clip", 0, 5)):
            file = write_video(clips.folder / "given.mp4", truth[:given], 12, overwrite=True)
            frames = clips.make("rolled", clips.captions[number], seconds=1, seed=number, conditions=[Continue(file)])
            ours, true = clips.evaluator.read(np.stack([small(frames)[start : start + 17], truth[start : start + 17]]))
            errors[name].append(np.linalg.norm(ours.metres_TS2[-5:, 0] - true.metres_TS2[-5:, 0], axis=-1).mean())
    off, own = (float(np.mean(errors[name])) for name in ("extension", "inside a clip"))
    say(f"attributes kept in an extension: {kept:.1%} of text to video's own (95 %)")
    (join, marked), (back, marked_back) = np.median(joins, 0), np.median(backward, 0)
    say(f"join over the median distance: forward {join:.2f} (marked {marked:.2f}; 1.3)")
    say(f"the same, backward: {back:.2f} ({marked_back:.2f}; 1.3)")
    say(f"metres from the simulator after 1 s: {off:.2f}; inside a clip {own:.2f}: {off / own:.2f} x (1.5)")
    return {
        "kept": kept, "join": join, "marked": marked, "join backward": back, "marked backward": marked_back,
        "metres": off, "metres inside": own, "ratio": off / own,
    }  # fmt: skip


def loop(clips, say):
    """Loops of given and of made videos."""
    result = {}
    for kind in ("given", "made"):
        seams, in_file, speeds, motion = [], [], [], []
        for number, file in enumerate(clips.files):
            if kind == "given":
                frames = clips.make("loop", seed=number, conditions=[Loop(file)])
            else:
                frames = clips.make("loop", clips.captions[number], seconds=25 / 12, seed=number, conditions=[Loop()])
            marked = small(frames).astype(np.float32)
            in_file.append(np.abs(marked[0] - marked[-1]).mean() / np.median(distances(frames)))
            frames = clips.before_marking()
            around = small(frames).astype(np.float32)
            apart = distances(frames)
            seam = np.abs(around[0] - around[-1]).mean()
            seams.append(seam / np.median(apart))
            turned = np.concatenate([around[-2:], around[:2]])
            second = np.abs(np.diff(around, 2, axis=0)).mean((1, 2, 3))
            speeds.append(np.abs(np.diff(turned, 2, axis=0)).mean((1, 2, 3)).mean() / np.median(second))
            motion.append(np.mean(apart) / np.mean(distances(clips.frames[number])))
        result[kind] = {
            "seam": np.median(seams),
            "marked": np.median(in_file),
            "velocity": np.median(speeds),
            "motion": np.median(motion),
        }
        row = result[kind] = {name: round(float(value), 2) for name, value in result[kind].items()}
        say(
            f"loop of a {kind} video: seam {row['seam']:.2f} (marked {row['marked']:.2f}), "
            f"velocity {row['velocity']:.2f} (0.5 to 1.5), motion {row['motion']:.2f} of the unlooped (0.5)"
        )
    return result


def blend(clips, say):
    """Blends: each end at its end, and the joins."""
    first, last, joins = [], [], []
    count = clips.count - 1
    for number in range(count):
        pair = clips.files[number : number + 2]
        frames = clips.make("blend", seed=number, seconds=1, conditions=[Blend(*pair)])
        first.append(small(frames)[:17])
        last.append(small(frames)[-17:])
        frames = clips.before_marking()
        joins += [jump(frames, clips.length - 1), jump(frames, len(frames) - clips.length - 1)]
    a = clips.share(clips.score(first, clips.captions[:count]))
    b = clips.share(clips.score(last, clips.captions[1:]))
    say(f"blend: the first's attributes at its end {a:.1%}, the second's {b:.1%} (90 %); joins {np.median(joins):.2f}")
    return {"first": a, "last": b, "join": float(np.median(joins))}


def edit(clips, say):
    """Edits at the default strength: one attribute is changed, the others stay."""
    reached, kept = {}, []
    for number, (file, text) in enumerate(zip(clips.files, clips.captions, strict=True)):
        before = captions.parse(text)
        for name, words in CHANGES.items():
            if name == "color":
                now = before.things[0].color
                words = next(w for w in words[number % 4 :] + words if not w.endswith(str(now)))
            else:
                words = words.get(getattr(before, name))
            if words is None or (name == "color" and len(before.things) > 1):
                continue
            path = clips.folder / "edited.mp4"
            made = sorano.generate(words, seed=number, output=path, overwrite=True, conditions=[Edit(file)])
            after = captions.parse(made.request.prompt)
            scores = clips.score([small(made.frames_THWC)], [after])
            value = scores.accuracy(name if name != "color" else "color")
            reached.setdefault(name, []).append(value)
            others = [n for n in scores.stated if n not in (name, "motion", "relation")]
            own = clips.score([clips.frames[number]], [before])
            kept += [scores.accuracy(n) for n in others if own.accuracy(n) == 1]
    shares = {n: float(np.mean(v)) / max(1e-9, clips.scores.accuracy(n)) for n, v in reached.items()}
    say("edit reached: " + ", ".join(f"{name} {min(1, share):.1%}" for name, share in shares.items()) + " (90 %)")
    say(f"the others kept, of those that the video showed: {np.mean(kept):.1%} (85 %)")
    return {"reached": shares, "kept": float(np.mean(kept))}


def region(clips, say):
    """A box made anew: outside of it every pixel is the video's own, before it is marked and encoded."""
    equal = []
    for number, file in enumerate(clips.files):
        own = read_video(file).frames_THWC
        made = sorano.generate("on the snow", seed=number, conditions=[Region(file, box=(64, 64, 128, 128))])
        outside = np.ones(own.shape[1:3], bool)
        outside[64:192, 64:192] = False
        equal.append(np.array_equal(made.frames_THWC[:, outside], own[:, outside]))
    say(f"region: outside bit-equal in {sum(equal)} of {len(equal)} (all)")
    return {"equal": int(sum(equal)), "of": len(equal)}


FILM = """
import sys, time, json
import sorano
from pathlib import Path
marks = []
class Ear(sorano.Listener):
    def progress(self, stage, done, total):
        if stage == "film":
            marks.append((time.perf_counter(), done))
seconds, folder = float(sys.argv[1]), Path(sys.argv[2])
began = time.perf_counter()
made = sorano.generate("a red ball bounces on the grass at sunset", seconds=seconds, seed=1, output=folder / "film.mp4",
                       overwrite=True, listener=Ear())
took = time.perf_counter() - began
def rate(part):
    return (part[-1][0] - part[0][0]) / max(1e-9, (part[-1][1] - part[0][1]) / 12)
tenth = max(4, len(marks) // 10)
peak = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) * 1024
print(json.dumps({"seconds": seconds, "took": took, "peak_bytes": peak, "first": rate(marks[1:tenth + 1]),
                  "last": rate(marks[-tenth:]), "sealed": took - (marks[-1][0] - began)}))
"""


def film(clips, say, long=600.0):
    """Films: time, memory and work by length, beside what full attention would cost."""
    from sorano.models.wan.configs import ModelConfigs
    from sorano.presets import find_preset
    from sorano.segments import OVERLAP
    from sorano.shapes import VideoShape, parse_size

    rows = []
    for seconds in (20.0, 60.0, long):
        done = subprocess.run(
            [sys.executable, "-c", FILM, str(seconds), str(clips.folder)], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        one = rows[-1]
        say(
            f"{seconds:.0f} s of film: {one['took']:.0f} s ({one['took'] / seconds:.2f} x its length), peak "
            f"{one['peak_bytes'] / 1e6:.0f} MB; a second takes {one['first']:.2f} s at first, {one['last']:.2f} at last"
        )
    preset = find_preset("world")
    configs: ModelConfigs = preset.read_configs()
    geometry, side = configs.geometry, min(parse_size(preset.size))
    window = geometry.latent(VideoShape(preset.num_frames, side, side))
    per_window = configs.transformer.flops(window, batch=2, text_tokens=64)
    table = {}
    for minutes in (1, 10, 60):
        frames = geometry.nearest_num_frames(60 * minutes, preset.fps)
        latent = geometry.latent(VideoShape(frames, side, side))
        whole = configs.transformer.flops(latent, batch=2, text_tokens=64)
        chunks = per_window * -(-latent.num_frames // (window.num_frames - OVERLAP))
        table[minutes] = {"full attention": 24 * whole, "by windows": 24 * chunks}
        say(f"{minutes} min: full attention {24 * whole / 1e12:.1f} TFLOP, by windows {24 * chunks / 1e12:.2f} TFLOP")
    memory = rows[2]["peak_bytes"] / rows[0]["peak_bytes"]
    last = rows[2]["last"] / rows[2]["first"]
    say(f"memory at {long:.0f} s over that at 20 s: {memory:.3f} (1.05); last over first: {last:.2f} (1.1)")
    return {"films": rows, "memory": memory, "flops": table}


def drift(clips, say, seconds=180.0, prompts=ENDLESS[:2]):
    """What changes over minutes, by half-minute, with several remedies."""
    from sorano import stream

    usual = {"OVERLAP": stream.OVERLAP, "KNOWN_NOISE": stream.KNOWN_NOISE, "ANCHOR": stream.ANCHOR}
    plain = {"OVERLAP": 2, "KNOWN_NOISE": 0.0, "ANCHOR": 0.0}
    ways = {
        "plain": {},
        "noise 0.1 on the known": {"KNOWN_NOISE": 0.1},
        "overlap 3": {"OVERLAP": 3},
        "anchor 0.5": {"ANCHOR": 0.5},
    }
    result = {}
    say(f"{'':<26}{'half-minute':>12}{'attributes':>12}{'colour':>8}{'sharpness':>11}{'motion':>8}")
    for name, settings in ways.items():
        for constant, value in {**plain, **settings}.items():
            setattr(stream, constant, value)
        halves = []
        for number, text in enumerate(prompts):
            frames = small(clips.make("drift", text, seconds=seconds, seed=number))
            halves.append(_halves(clips, frames, text))
        keys, count = halves[0][0], len(halves[0])
        rows = [{key: float(np.mean([one[h][key] for one in halves])) for key in keys} for h in range(count)]
        for number, row in enumerate(rows):
            if number in (0, 1, len(rows) // 2, len(rows) - 1):
                say(
                    f"{name if number == 0 else '':<26}{number + 1:>12}{row['attributes']:>12.0%}{row['colour']:>8.1f}"
                    f"{row['sharpness']:>11.2f}{row['motion']:>8.2f}"
                )
        result[name] = rows
    for constant, value in usual.items():
        setattr(stream, constant, value)
    return result


def _halves(clips, frames, text):
    """Attributes, mean colours' distance from the start's, sharpness and motion over the start's, by half-minute."""
    import cv2

    half, rows, start = 360, [], None
    for first in range(0, len(frames) - half // 2, half):
        part = frames[first : first + half]
        windows = np.stack([part[at : at + 17] for at in range(0, len(part) - 17, 40)])
        scores = clips.score(windows, [text] * len(windows))
        names = [name for name in ("ground", "time", "color", "kind", "count") if scores.stated[name]]
        attributes = np.mean([scores.accuracy(name) for name in names])
        colour = part.mean((0, 1, 2))
        sharp = np.mean([cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var() for f in part[::12]])
        motion = distances(part).mean()
        start = start or (colour, sharp, motion)
        rows.append(
            {
                "attributes": float(attributes),
                "colour": float(np.abs(colour - start[0]).mean()),
                "sharpness": float(sharp / start[1]),
                "motion": float(motion / start[2]),
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--small", action="store_true", help="two clips, short films")
    asked = parser.parse_args()
    only = asked.only.split(",")
    if set(only) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")

    def say(text):
        print(text, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        clips = Clips(2 if asked.small else asked.clips, Path(folder))
        run = {
            "frame": frame, "extend": extend, "loop": loop, "blend": blend, "edit": edit, "region": region,
            "film": lambda c, s: film(c, s, 30.0 if asked.small else 600.0),
            "drift": lambda c, s: drift(c, s, *((35.0, ENDLESS[:1]) if asked.small else ())),
        }  # fmt: skip
        report = {"benchmark": "verbs", "clips": clips.count}
        for part in only:
            began = time.perf_counter()
            report[part] = run[part](clips, say)
            print(f"  {part}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
