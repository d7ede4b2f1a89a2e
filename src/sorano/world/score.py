"""The evaluator: what a video of the world shows, and whether it is what its caption says.

    evaluator = load_evaluator()
    scores = score(videos_NTHWC, captions, evaluator=evaluator)
    scores.accuracy("color"), scores.all_correct, scores.gravity_error

A small network (`sorano.world.evaluator`, its weights in `sorano/weights/judge`) reads ground, time, camera and count,
for each thing its kind, colour, size and motion, and its place in metres in every frame. What a caption leaves out is
not scored. The evaluator errs too, so every report prints its own accuracy on clips that it never saw, raw and passed
through a model's autoencoder, beside the model's.

    python -m sorano.world.score accuracy              # the evaluator on held-out renderings
    python -m sorano.world.score model [FOLDER]        # the table of a model
    python -m sorano.world.score train --out FOLDER    # the evaluator from nothing
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano import threads
from sorano.world import caption as captions_module
from sorano.world.dataset import Sample, caption_of, sample
from sorano.world.physics import GRAVITY
from sorano.world.scene import Attributes, Thing

if TYPE_CHECKING:
    from sorano.world.evaluator import EvaluatorNetwork
    from sorano.world.outline import Silhouettes

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]
Generate = Callable[[Sequence[str], Sequence[int]], Frames]
"""Captions and seeds to frames_NTHWC."""

WEIGHTS = Path(__file__).parents[1] / "weights" / "judge"
NUM_FRAMES = 17
LAYOUT_FRAMES = 25  # models are trained on windows of clips of this length
SIZE = 64
FPS = 12.0

SCENE = ("ground", "time", "camera")
THING = ("color", "kind", "size", "motion")
FIELDS = ("ground", "time", "camera", "count", *THING, "relation")

# Mean speeds along the motion over 17 frames at 12 a second that the world's training ranges give, in m/s.
MEAN_SPEEDS = {"rolls left": (0.67, 1.77), "rolls right": (0.67, 1.77), "rises": (0.74, 1.31)}
LEAST_CELLS = 0.5  # of 16x16, that a visible thing covers; a small one covers about five
LEAST_FALL = 0.25  # metres; a thing that comes down by less does not fall


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluatorReading:
    """What the evaluator sees in one clip; things stand from left to right."""

    attributes: Attributes
    confidence: dict[str, float]  # how likely the evaluator holds its word for a scene field, and "count"
    metres_TS2: Floats  # x to the right, y up, of each slot's centre; slot 1 means nothing where count is 1
    visible_TS: NDArray[np.bool_]
    fps: float
    cover_TSHW: Floats | None = None  # share of each of 16x16 cells that each slot's thing covers

    @property
    def count_T(self) -> NDArray[np.int64]:
        """How many things are seen in each frame."""
        count_T: NDArray[np.int64] = self.visible_TS.sum(1)
        return count_T

    @property
    def permanent(self) -> bool:
        """Whether things are there and none vanishes or appears; a change of one frame alone is let pass."""
        usual = Counter(self.count_T.tolist()).most_common(1)[0][0]
        odd_T = self.count_T != usual
        return bool(usual > 0 and not (odd_T[1:] & odd_T[:-1]).any())

    def gravity(self, slot: int) -> float:
        """Downward acceleration of a fall in m/s^2; 0 where the slot's thing does not fall. See `gravity_of`."""
        return gravity_of(self.metres_TS2[:, slot, 1], self.fps)


def gravity_of(height_T: Floats, fps: float) -> float:
    """The acceleration g of y(t) = y0 - g t^2 / 2, fitted to a fall from rest at frame 0 until it nears the ground.

    height_T in metres. 0 where the height does not come down by `LEAST_FALL`.
    """
    rest = float(np.median(height_T[-5:]))
    drop = float(np.median(height_T[:2])) - rest
    if drop < LEAST_FALL:
        return 0.0
    low_T = height_T - rest < 0.12 * drop
    flight = int(np.argmax(low_T)) if low_T.any() else len(height_T)
    flight = max(3, flight)
    half_square = 0.5 * (np.arange(flight) / fps) ** 2
    return float(-np.polyfit(half_square, height_T[:flight], 1)[0])


class Evaluator:
    """Reads clips. `probe` is the network, on `device`, in float32."""

    def __init__(self, probe: EvaluatorNetwork, device: str = "cpu") -> None:
        self.probe, self.device = probe, device

    def read(self, frames_NTHWC: Frames, *, fps: float = FPS, batch_size: int = 16) -> list[EvaluatorReading]:
        """One reading for each clip [N, T, H, W, 3]: of its first 17 frames at 12 a second, at 64x64.

        Raises ValueError for clips that are too short or not square.
        """
        frames_NTHWC = prepare(frames_NTHWC, fps)
        readings: list[EvaluatorReading] = []
        for start in range(0, len(frames_NTHWC), batch_size):
            threads.adapt()
            readings += self._read(frames_NTHWC[start : start + batch_size])
        return readings

    def _read(self, frames_NTHWC: Frames) -> list[EvaluatorReading]:
        import torch

        from sorano.world.evaluator import SCENE_FIELDS, THING_FIELDS

        with torch.inference_mode():
            answers = self.probe(torch.from_numpy(np.ascontiguousarray(frames_NTHWC)).to(self.device))
        scene = {name: logits.softmax(-1).cpu().numpy() for name, logits in answers.scene.items()}
        things = {name: logits.argmax(-1).cpu().numpy() for name, logits in answers.things.items()}
        metres = answers.metres_BTS2.double().cpu().numpy()
        cover_BTSHW = answers.cover_BTSHW[:, :, 1:].exp()
        cells_BTS = cover_BTSHW.sum((3, 4))
        visible = ((answers.visible_BTS > 0) & (cells_BTS > LEAST_CELLS)).cpu().numpy()
        readings = []
        for n in range(len(frames_NTHWC)):
            said = {name: SCENE_FIELDS[name][int(share[n].argmax())] for name, share in scene.items()}
            seen = [
                Thing(**{name: THING_FIELDS[name][int(label[n, slot])] for name, label in things.items()})
                for slot in range(int(said.pop("count")))
            ]
            attributes = Attributes(tuple(seen), "left of" if len(seen) == 2 else None, **said)
            confidence = {name: float(share[n].max()) for name, share in scene.items()}
            cover_TSHW = cover_BTSHW[n].cpu().numpy()
            readings.append(EvaluatorReading(attributes, confidence, metres[n], visible[n], FPS, cover_TSHW))
        return readings


def load_evaluator(device: str = "cpu", folder: Path | None = None) -> Evaluator:
    """The shipped evaluator, or the one in `folder`."""
    from sorano.world.evaluator import load_network

    return Evaluator(load_network(folder or WEIGHTS, device), device)


def prepare(frames_NTHWC: Frames, fps: float = FPS) -> Frames:
    """The first 17 frames at 12 a second, 64x64. Raises ValueError for clips that are too short or not square."""
    frames_NTHWC = in_time(frames_NTHWC, fps)
    height, width = frames_NTHWC.shape[2:4]
    if height != width:
        raise ValueError(f"the evaluator reads square clips, not {width}x{height}")
    if height == SIZE:
        return frames_NTHWC
    from PIL import Image

    small = [
        np.asarray(Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BOX if height > SIZE else 3))
        for frame in frames_NTHWC.reshape(-1, height, width, 3)
    ]
    return np.stack(small).reshape(-1, NUM_FRAMES, SIZE, SIZE, 3)


def in_time(frames_NTHWC: Frames, fps: float = FPS) -> Frames:
    """The first 17 frames at 12 a second. Raises ValueError for clips that are too short."""
    chosen = np.round(np.arange(NUM_FRAMES) * fps / FPS).astype(int)
    if chosen[-1] >= frames_NTHWC.shape[1]:
        raise ValueError(
            f"the evaluator reads {NUM_FRAMES} frames at {FPS:g} a second; "
            f"{frames_NTHWC.shape[1]} at {fps:g} a second are too few"
        )
    return frames_NTHWC[:, chosen]


# --- scoring --------------------------------------------------------------------------------------------------------


@dataclass
class Scores:
    """Counts of what was stated and of what was right, and errors of motion."""

    right: Counter[str] = field(default_factory=Counter)
    stated: Counter[str] = field(default_factory=Counter)
    clips_by_count: Counter[int] = field(default_factory=Counter)  # by the number of things that are stated
    all_correct_by_count: Counter[int] = field(default_factory=Counter)
    num_permanent: int = 0
    gravity_errors: list[float] = field(default_factory=list)  # |g - 9.8| / 9.8 of each thing that is said to fall
    velocity_errors: list[float] = field(default_factory=list)  # relative, of each thing that is said to roll or rise
    outlines: list[float] = field(default_factory=list)  # of each thing that stands clear (`sorano.world.outline`)

    def accuracy(self, name: str) -> float:
        """Share of the statements of a field that are right; NaN where there is none."""
        return self.right[name] / self.stated[name] if self.stated[name] else math.nan

    @property
    def num_clips(self) -> int:
        """How many clips were scored."""
        return self.clips_by_count.total()

    @property
    def all_correct(self) -> float:
        """Share of the clips in which everything stated is right."""
        return self.all_correct_by_count.total() / self.num_clips if self.num_clips else math.nan

    def all_correct_of(self, count: int) -> float:
        """The same of the clips whose captions state `count` things; NaN where there is none."""
        return self.all_correct_by_count[count] / self.clips_by_count[count] if self.clips_by_count[count] else math.nan

    @property
    def permanence(self) -> float:
        """Share of the clips in which no thing vanishes or appears; it says nothing where the things are not read."""
        return self.num_permanent / self.num_clips if self.num_clips else math.nan

    @property
    def mean_accuracy(self) -> float:
        """The mean over the fields that were stated."""
        return float(np.mean([self.accuracy(name) for name in FIELDS if self.stated[name]]))

    @property
    def gravity_error(self) -> float:
        """The median relative error; a thing that does not fall counts as 1."""
        return float(np.median(self.gravity_errors)) if self.gravity_errors else math.nan

    @property
    def velocity_error(self) -> float:
        """The median relative error."""
        return float(np.median(self.velocity_errors)) if self.velocity_errors else math.nan

    @property
    def outline(self) -> float:
        """The mean intersection over union of a thing's silhouette with itself one frame on."""
        return float(np.mean(self.outlines)) if self.outlines else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return {
            "clips": self.num_clips,
            "accuracy": {name: round(self.accuracy(name), 4) for name in FIELDS if self.stated[name]},
            "stated": {name: self.stated[name] for name in FIELDS},
            "all_correct": _number(self.all_correct),
            "all_correct_by_things": {str(n): _number(self.all_correct_of(n)) for n in sorted(self.clips_by_count)},
            "permanence": _number(self.permanence),
            "gravity_error": _number(self.gravity_error),
            "falls": len(self.gravity_errors),
            "velocity_error": _number(self.velocity_error),
            "outline": _number(self.outline),
        }


def score(
    videos_NTHWC: Frames,
    stated: Sequence[str | Attributes],
    *,
    evaluator: Evaluator | None = None,
    truths: Sequence[Sample] | None = None,
    fps: float = FPS,
    silhouettes: Silhouettes | None = None,
) -> Scores:
    """Compare clips with their captions (or attributes; None is not scored); outlines where `silhouettes` are given.

    Mean speeds of what rolls or rises are compared with those of `truths`; without them, a speed outside the world's
    training range is an error. Raises UnknownWords for captions in other words than the world's.
    """
    evaluator = evaluator or load_evaluator()
    said = [captions_module.parse(item) if isinstance(item, str) else item for item in stated]
    scores = Scores()
    for n, reading in enumerate(evaluator.read(videos_NTHWC, fps=fps)):
        mark(scores, reading, said[n], truths[n] if truths is not None else None)
        if silhouettes is not None:
            scores.outlines += outlines(silhouettes, in_time(videos_NTHWC[n : n + 1], fps)[0], reading)
    return scores


def outlines(silhouettes: Silhouettes, frames_THWC: Frames, reading: EvaluatorReading) -> list[float]:
    """How well each thing of a clip that stands clear keeps its outline."""
    from sorano.world.outline import outline, thing_share

    assert reading.cover_TSHW is not None
    share_THW = thing_share(silhouettes, frames_THWC)
    found = [
        outline(frames_THWC, share_THW, reading.cover_TSHW, slot) for slot in range(len(reading.attributes.things))
    ]
    return [one for one in found if not math.isnan(one)]


def mark(scores: Scores, reading: EvaluatorReading, stated: Attributes, truth: Sample | None = None) -> None:
    """Add one clip to the scores."""
    stated = stated.canonical()
    seen = reading.attributes
    slots = matched(stated.things, seen.things)
    marks = [(name, getattr(stated, name), getattr(seen, name)) for name in SCENE]
    marks.append(("count", str(len(stated.things)), str(len(seen.things))))
    for thing, slot in zip(stated.things, slots, strict=True):
        found = seen.things[slot] if slot is not None else Thing(None)
        marks += [(name, getattr(thing, name), getattr(found, name)) for name in THING]
    if len(stated.things) == 2:
        in_order = slots == (0, 1) and likeness(stated.things, seen.things) > likeness(stated.things[::-1], seen.things)
        marks.append(("relation", stated.relation, stated.relation if in_order else None))
    marks = [(name, said, found) for name, said, found in marks if said is not None]
    for name, said, found in marks:
        scores.stated[name] += 1
        scores.right[name] += said == found
    scores.clips_by_count[len(stated.things)] += 1
    scores.all_correct_by_count[len(stated.things)] += all(said == found for _, said, found in marks)
    scores.num_permanent += reading.permanent
    for number, (thing, slot) in enumerate(zip(stated.things, slots, strict=True)):
        if thing.motion == "falls":
            gravity = reading.gravity(slot) if slot is not None else 0.0
            scores.gravity_errors.append(abs(gravity - GRAVITY) / GRAVITY)
        error = _velocity_error(reading, slot, thing.motion, truth, number)
        if error is not None:
            scores.velocity_errors.append(error)


def matched(stated: Sequence[Thing], seen: Sequence[Thing]) -> tuple[int | None, ...]:
    """Which seen thing each stated one is: the pairing with the most words right, in order where that is as good."""
    orders: list[tuple[int | None, ...]]
    if len(stated) == 1:
        orders = [(slot,) for slot in range(max(1, len(seen)))]
    else:
        orders = [(0, 1), (1, 0)] if len(seen) == 2 else [(0, None), (None, 0)]
    return max(orders, key=lambda order: likeness(stated, [seen[i] if i is not None else Thing(None) for i in order]))


def likeness(stated: Sequence[Thing], seen: Sequence[Thing]) -> int:
    """How many stated words are right; colour and kind, which tell things apart, count threefold."""
    weights = {"color": 3, "kind": 3, "size": 1, "motion": 1}
    return sum(
        weight
        for thing, found in zip(stated, seen, strict=False)
        for name, weight in weights.items()
        if getattr(thing, name) is not None and getattr(thing, name) == getattr(found, name)
    )


def _velocity_error(
    reading: EvaluatorReading, slot: int | None, motion: str | None, truth: Sample | None, number: int
) -> float | None:
    """Relative error of the mean speed of a thing that rolls or rises; None for the others."""
    if motion not in MEAN_SPEEDS:
        return None
    if slot is None:
        return 1.0
    axis, sign = (1, 1) if motion == "rises" else (0, -1 if motion == "rolls left" else 1)
    speed = sign * mean_speed(reading.metres_TS2[:, slot, axis], reading.fps)
    if truth is not None:
        right = sign * mean_speed(truth.tracks_TN3[:NUM_FRAMES, number, axis], truth.fps)
    else:
        low, high = MEAN_SPEEDS[motion]
        right = min(max(speed, low), high)
    return abs(speed - right) / right


def mean_speed(track_T: Floats, fps: float) -> float:
    """The slope of a straight line through a track, per second."""
    return float(np.polyfit(np.arange(len(track_T)) / fps, track_T, 1)[0])


# --- held-out clips -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exam:
    """Clips with their truth: the windows that models are trained on."""

    samples: list[Sample]
    frames_NTHWC: Frames
    mask_NTHW: NDArray[np.uint8]

    @property
    def attributes(self) -> list[Attributes]:
        """The truths, which state everything that captions of this world can."""
        return [one.attributes for one in self.samples]


def exam(
    split: str = "heldout",
    num_clips: int = 200,
    *,
    first_seed: int = 0,
    fps: float = FPS,
    size: int = SIZE,
    num_frames: int = NUM_FRAMES,
) -> Exam:
    """Clips of a split: the first 17 frames of clips of 25, 64x64. `fps` other than 12 plays them slower or faster."""
    seeds = range(first_seed, first_seed + num_clips)
    samples = [
        sample(split, seed, num_frames=LAYOUT_FRAMES, height=size, width=size, fps=fps, language="en") for seed in seeds
    ]
    frames_NTHWC = np.stack([one.frames_THWC[:num_frames] for one in samples])
    return Exam(samples, frames_NTHWC, np.stack([one.mask_THW[:num_frames] for one in samples]))


def evaluator_accuracy(
    split: str = "heldout", num_clips: int = 200, *, evaluator: Evaluator | None = None, size: int = SIZE
) -> Scores:
    """The evaluator's own scores on renderings of a split, against everything that is true of them."""
    paper = exam(split, num_clips, size=size)
    return score(paper.frames_NTHWC, paper.attributes, evaluator=evaluator, truths=paper.samples)


def fullest_caption(split: str, seed: int, *, language: str = "en", variants: int = 16) -> str:
    """The caption of a clip that states most, among its first phrasings."""
    phrasings = [caption_of(split, seed, language, variant=k) for k in range(variants)]
    return max(phrasings, key=lambda text: num_stated(captions_module.parse(text)))


def num_stated(stated: Attributes) -> int:
    """How many attributes are stated."""
    scene = sum(getattr(stated, name) is not None for name in (*SCENE, "relation"))
    return scene + sum(getattr(thing, name) is not None for thing in stated.things for name in THING)


def masked_psnr(made_NTHWC: Frames, true_NTHWC: Frames, mask_NTHW: NDArray[np.uint8]) -> float:
    """PSNR in dB over the pixels of things, all clips taken together."""
    inside = mask_NTHW > 0
    error = made_NTHWC[inside].astype(np.float64) - true_NTHWC[inside]
    return float(10 * np.log10(255**2 / max(1e-12, float(np.square(error).mean()))))


def batched(function: Callable[[Frames], Frames], frames_NTHWC: Frames, batch_size: int = 16) -> Frames:
    """The function on a few clips at a time."""
    found = []
    for start in range(0, len(frames_NTHWC), batch_size):
        threads.adapt()
        found.append(function(frames_NTHWC[start : start + batch_size]))
    return np.concatenate(found)


def generate_exam(
    generate: Generate, split: str, num_clips: int, *, first_seed: int = 0, batch_size: int = 16
) -> tuple[Frames, list[str]]:
    """Clips that a model makes from the fullest captions of a split, and these captions."""
    seeds = list(range(first_seed, first_seed + num_clips))
    texts = [fullest_caption(split, seed) for seed in seeds]
    clips = [
        generate(texts[start : start + batch_size], seeds[start : start + batch_size])
        for start in range(0, num_clips, batch_size)
    ]
    return np.concatenate(clips), texts


# --- the report -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreRow:
    """A line of the issue's table: a value against its aim."""

    name: str
    value: float
    aim: float
    unit: str  # "dB", "share", "points" or "error"

    @property
    def reached(self) -> bool:
        return self.value <= self.aim if self.unit in ("points", "error") else self.value >= self.aim

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "value": _number(self.value), "aim": self.aim, "reached": self.reached}


# value by row's name; the aims of the recipes
AIMS = {
    "cpu": {"psnr": 22.0, "vae": 0.95, "ground": 0.90, "time": 0.90, "color": 0.95, "kind": 0.85, "count": 0.95,
            "motion": 0.80, "camera": 0.85, "combinations": 0.10, "gravity": 0.25},
    "gpu": {"psnr": 28.0, "vae": 0.99, "ground": 0.98, "time": 0.98, "color": 0.98, "kind": 0.96, "count": 0.97,
            "motion": 0.93, "camera": 0.95, "combinations": 0.05, "gravity": 0.10},
    "long": {"psnr": 28.0, "vae": 0.97, "ground": 0.98, "time": 0.98, "color": 0.96, "kind": 0.90, "count": 0.98,
             "motion": 0.85, "camera": 0.92, "combinations": 0.08, "gravity": 0.12, "outline": 0.95},
}  # fmt: skip


@dataclass(frozen=True)
class ModelReport:
    """A model's scores beside its ceilings and its floors, each a `Scores`; the same number of clips in each."""

    raw: Scores  # the evaluator on renderings
    model: Scores
    through_vae: Scores | None = None  # the evaluator on renderings that the autoencoder coded: the ceiling
    psnr: float = math.nan  # of the autoencoder inside the things, dB
    combinations: Scores | None = None
    combinations_raw: Scores | None = None
    untrained: Scores | None = None
    shuffled: Scores | None = None  # the model's clips against each other's captions: what chance gives
    recipe: str = "cpu"

    @property
    def ceiling(self) -> Scores:
        return self.through_vae or self.raw

    def share(self, name: str) -> float:
        """The model's accuracy of a field as a share of the ceiling's; NaN where the ceiling is 0."""
        ceiling = self.ceiling.accuracy(name)
        return self.model.accuracy(name) / ceiling if ceiling else math.nan

    def rows(self) -> list[ScoreRow]:
        """The issue's table."""
        aims, rows = AIMS[self.recipe], []
        if self.through_vae is not None:
            kept = self.through_vae.mean_accuracy / self.raw.mean_accuracy
            rows.append(ScoreRow("VAE: PSNR inside the things", self.psnr, aims["psnr"], "dB"))
            rows.append(ScoreRow("VAE: attributes, share of raw", kept, aims["vae"], "share"))
        rows += [ScoreRow(name, self.model.accuracy(name), aims[name], "share") for name in ("ground", "time")]
        rows += [
            ScoreRow(f"{_label(name)}, share of the ceiling", self.share(name), aims[name], "share")
            for name in ("color", "kind", "count", "motion", "camera")
        ]
        if self.combinations is not None:
            for name in ("color", "kind"):
                behind = self.model.accuracy(name) - self.combinations.accuracy(name)
                label = f"held-out combinations: {_label(name)} behind"
                rows.append(ScoreRow(label, behind, aims["combinations"], "points"))
        rows.append(ScoreRow("gravity from falls, median error", self.model.gravity_error, aims["gravity"], "error"))
        if "outline" in aims:
            kept = self.model.outline / self.raw.outline
            rows.append(ScoreRow("outline, share of the renderer's", kept, aims["outline"], "share"))
        return rows

    def columns(self) -> dict[str, Scores]:
        """Every measured Scores by its name in the table."""
        named = {
            "raw clips": self.raw,
            "through VAE": self.through_vae,
            "model": self.model,
            "combinations": self.combinations,
            "comb. raw": self.combinations_raw,
            "shuffled": self.shuffled,
            "untrained": self.untrained,
        }
        return {name: scores for name, scores in named.items() if scores is not None}

    def table(self) -> str:
        """Two tables in text: every score beside its ceilings and floors, and the aims."""
        return f"{table(self.columns())}\n\n" + "\n".join(
            f"{row.name:<42}{_said(row.value, row.unit):>9}   aim {_said(row.aim, row.unit):>7}   "
            f"{'reached' if row.reached else 'NOT REACHED'}"
            for row in self.rows()
        )

    def to_dict(self) -> dict[str, Any]:
        columns = {name: scores.to_dict() for name, scores in self.columns().items()}
        return {"psnr": _number(self.psnr), "rows": [row.to_dict() for row in self.rows()], "scores": columns}


def _number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else round(value, 4)


def _label(name: str) -> str:
    return {"kind": "thing", "color": "colour"}.get(name, name)


def _said(value: float, unit: str) -> str:
    return f"{value:.1f} dB" if unit == "dB" else f"{100 * value:.1f} %"


def table(columns: dict[str, Scores]) -> str:
    """Scores side by side, a line for each field; shares in percent."""
    lines = [" " * 18 + "".join(f"{name:>14}" for name in columns)]

    def line(label: str, values: Iterable[float]) -> None:
        lines.append(f"{label:<18}" + "".join(f"{'-' if math.isnan(v) else f'{100 * v:.1f}':>14}" for v in values))

    for name in FIELDS:
        line(_label(name), [scores.accuracy(name) for scores in columns.values()])
    line("all correct", [scores.all_correct for scores in columns.values()])
    for count, label in ((1, "  of one thing"), (2, "  of two things")):
        line(label, [scores.all_correct_of(count) for scores in columns.values()])
    line("permanence", [scores.permanence for scores in columns.values()])
    line("gravity error", [scores.gravity_error for scores in columns.values()])
    line("velocity error", [scores.velocity_error for scores in columns.values()])
    if any(scores.outlines for scores in columns.values()):
        line("outline", [scores.outline for scores in columns.values()])
    lines.append(f"{'clips':<18}" + "".join(f"{scores.num_clips:>14}" for scores in columns.values()))
    lines.append(f"{'falls':<18}" + "".join(f"{len(scores.gravity_errors):>14}" for scores in columns.values()))
    return "\n".join(lines)


def score_model(
    generate: Generate,
    *,
    reconstruct: Callable[[Frames], Frames] | None = None,
    untrained: Generate | None = None,
    num_clips: int = 200,
    num_untrained: int = 48,
    splits: Sequence[str] = ("heldout", "combinations"),
    evaluator: Evaluator | None = None,
    recipe: str = "cpu",
    size: int = SIZE,
    num_frames: int = NUM_FRAMES,
    silhouettes: Silhouettes | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> ModelReport:
    """Make `num_clips` clips of each split and score them, beside the evaluator's ceilings and the floors.

    `reconstruct` passes clips through the model's autoencoder; `untrained` generates with random weights. Clips are
    compared at the model's own `size` and length; the evaluator reads them reduced to its own.
    """
    evaluator = evaluator or load_evaluator()
    log(f"rendering {num_clips} held-out clips")
    paper = exam("heldout", num_clips, size=size, num_frames=num_frames)
    raw = score(
        paper.frames_NTHWC, paper.attributes, evaluator=evaluator, truths=paper.samples, silhouettes=silhouettes
    )
    through_vae, psnr = None, math.nan
    if reconstruct is not None:
        log("passing them through the autoencoder")
        coded = batched(reconstruct, paper.frames_NTHWC)
        through_vae = score(coded, paper.attributes, evaluator=evaluator, truths=paper.samples, silhouettes=silhouettes)
        psnr = masked_psnr(coded, paper.frames_NTHWC, paper.mask_NTHW)
    log(f"generating {num_clips} clips of held-out captions")
    made, texts = generate_exam(generate, "heldout", num_clips)
    model = score(made, texts, evaluator=evaluator, silhouettes=silhouettes)
    shuffled = score(made, texts[1:] + texts[:1], evaluator=evaluator)
    combinations = combinations_raw = floor = None
    if "combinations" in splits:
        log(f"generating {num_clips} clips of held-out combinations")
        combinations = score(*generate_exam(generate, "combinations", num_clips), evaluator=evaluator)
        combinations_raw = evaluator_accuracy("combinations", num_clips, evaluator=evaluator, size=size)
    if untrained is not None:
        log(f"generating {num_untrained} clips with an untrained model")
        floor = score(*generate_exam(untrained, "heldout", num_untrained), evaluator=evaluator)
    return ModelReport(
        raw=raw,
        model=model,
        through_vae=through_vae,
        psnr=psnr,
        combinations=combinations,
        combinations_raw=combinations_raw,
        untrained=floor,
        shuffled=shuffled,
        recipe=recipe,
    )


# --- a model folder -------------------------------------------------------------------------------------------------


@dataclass
class Sampler:
    """A model folder as the callables that `score_model` takes."""

    bundle: Any  # models.checkpoint.Bundle
    num_steps: int = 24
    guidance: float = 4.0
    device: str = "cpu"
    dtype: str = "float32"
    size: int = SIZE
    num_frames: int = NUM_FRAMES

    def generate(self, texts: Sequence[str], seeds: Sequence[int]) -> Frames:
        """frames_NTHWC of captions, each from the noise of its seed."""
        import torch

        from sorano.conditions import start_state
        from sorano.sampling.denoise import denoise
        from sorano.sampling.schedule import SCHEDULES, read_scheduler_config
        from sorano.sampling.solver import SOLVERS
        from sorano.shapes import VideoShape

        vae, dtype = self.bundle.vae, getattr(torch, self.dtype)
        shape = VideoShape(self.num_frames, self.size, self.size)
        latent = vae.config.geometry.latent(shape)
        noise_BCTHW = start_state(seeds, vae.config.z_dim, latent).noise_BCTHW.to(self.device)
        solver, shift = read_scheduler_config(self.bundle.scheduler_config)
        with torch.inference_mode():
            encode = self.bundle.text_encoder.encode
            text = encode(self.bundle.tokenizer.encode(list(texts)), dtype=dtype)
            for step in denoise(  # noqa: B007 (the last one is used)
                self.bundle.transformer,
                noise_BCTHW,
                text,
                SCHEDULES[solver](self.num_steps, shift),
                negative_text=encode(self.bundle.tokenizer.encode([""]), dtype=dtype),
                guidance=self.guidance,
                solver=SOLVERS[solver],
                dtype=dtype,
            ):
                threads.adapt()
            return _frames(vae.decode(step.latent.to(dtype)))

    def reconstruct(self, frames_NTHWC: Frames) -> Frames:
        """Clips through the autoencoder and back."""
        import torch

        dtype = getattr(torch, self.dtype)
        with torch.inference_mode():
            video = torch.from_numpy(frames_NTHWC).to(self.device).permute(0, 4, 1, 2, 3).to(dtype) / 127.5 - 1
            return _frames(self.bundle.vae.decode(self.bundle.vae.encode_latent(video).to(dtype)))

    def untrained(self) -> Sampler:
        """The same with a transformer of random weights."""
        from dataclasses import replace

        import torch

        from sorano.models.wan.transformer import VideoTransformer

        torch.manual_seed(0)
        blank = VideoTransformer(self.bundle.transformer.config).to(self.device).requires_grad_(False).eval()
        return replace(self, bundle=replace(self.bundle, transformer=blank))


def _frames(video_BCTHW: Any) -> Frames:
    import torch

    frames = ((video_BCTHW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return frames.permute(0, 2, 3, 4, 1).cpu().numpy()


def load_sampler(folder: str | Path = "world", device: str = "auto", **settings: Any) -> Sampler:
    """The sampler of a preset or a model folder, on the device and in the dtype that `generate` would choose."""
    from sorano.engine import load
    from sorano.shapes import parse_size

    model = load(str(folder), device)
    preset = model.preset
    settings = {
        "num_steps": preset.num_steps,
        "guidance": preset.guidance,
        "size": min(parse_size(preset.size)),
        "num_frames": preset.num_frames,
        **settings,
    }
    return Sampler(model.bundle, device=model.machine.device, dtype=model.machine.dtype, **settings)


def find_silhouettes() -> Silhouettes:
    """The shipped network that tells things from what is behind them."""
    from sorano.world.outline import load_silhouettes

    return load_silhouettes()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: see the module's docstring."""
    import argparse
    import json
    import sys

    parser = argparse.ArgumentParser(prog="python -m sorano.world.score", description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train", help="render clips and train the evaluator (about an hour of one core)")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--data", type=Path, help="where the rendered clips are kept; default OUT/clips")
    train.add_argument("--clips", type=int)
    accuracy = verbs.add_parser("accuracy", help="the evaluator on held-out renderings")
    accuracy.add_argument("--clips", type=int, default=500)
    accuracy.add_argument("--evaluator", type=Path, default=WEIGHTS)
    model = verbs.add_parser("model", help="the table of a model")
    model.add_argument("folder", nargs="?", default="world", help="a preset or a diffusers folder")
    model.add_argument("--clips", type=int, default=200)
    model.add_argument("--recipe", choices=sorted(AIMS), default="cpu")
    model.add_argument("--num-steps", type=int)
    model.add_argument("--guidance", type=float)
    model.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if args.verb == "train":
        from dataclasses import replace

        from sorano.world.evaluator import Training, train_evaluator

        training = Training() if args.clips is None else replace(Training(), num_clips=args.clips)
        print(train_evaluator(args.out, training, data=args.data, log=log))
    elif args.verb == "accuracy":
        evaluator = load_evaluator(folder=args.evaluator)
        splits = ("heldout", "combinations", "physics")
        scores = {split: evaluator_accuracy(split, args.clips, evaluator=evaluator) for split in splits}
        print(table(scores))
        print(json.dumps({split: one.to_dict() for split, one in scores.items()}))
    else:
        chosen = {name: getattr(args, name) for name in ("num_steps", "guidance") if getattr(args, name) is not None}
        sampler = load_sampler(args.folder, args.device, **chosen)
        report = score_model(
            sampler.generate,
            reconstruct=sampler.reconstruct,
            untrained=sampler.untrained().generate,
            num_clips=args.clips,
            recipe=args.recipe,
            size=sampler.size,
            num_frames=sampler.num_frames,
            silhouettes=find_silhouettes(),
            log=log,
        )
        print(report.table())
        print(json.dumps(report.to_dict()))


if __name__ == "__main__":
    main()
