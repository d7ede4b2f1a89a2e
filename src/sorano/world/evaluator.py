"""The evaluator's network and its training: what clips of the world show, read from their pixels alone.

`Probe` first looks: in every frame it finds the things (the left one and the right one: slots 0 and 1) as soft masks,
pools what it saw there, and measures by least squares how the background and each thing move from frame to frame. Then
it reads: what a thing is and how it moves from its slot over time; its height in metres from each frame and the clip's
mean, never from the frame's place in time, so that a track is a measurement: the network has no way to draw the
parabola that it expects. (Its place to the right also needs the camera's motion, added up.)

Axes: B clips, T frames, S slots, C channels, H rows, W columns, F features, M components of a motion.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sorano import threads
from sorano.world import scene as words
from sorano.world.dataset import lay
from sorano.world.render import RenderScene, render
from sorano.world.scene import Stream

NUM_FRAMES = 17  # frames of a clip that the evaluator reads
LAYOUT_FRAMES = 25  # the clips are windows of longer ones, as those that models are trained on
SIZE = 64  # pixels
GRID = 16  # cells of a soft mask along each side
FPS = 12.0
SLOTS = 2

SCENE_FIELDS: dict[str, tuple[str, ...]] = {
    "ground": words.GROUNDS,
    "time": words.TIMES,
    "camera": words.CAMERAS,
    "count": ("1", "2"),
}
THING_FIELDS: dict[str, tuple[str, ...]] = {
    "kind": words.KINDS,
    "color": words.COLORS,
    "size": words.SIZES,
    "motion": words.MOTIONS,
}

# --- clips to learn from --------------------------------------------------------------------------------------------

RECORD = np.dtype(
    [
        ("done", np.bool_),
        ("fps", np.float32),
        *((name, np.int8) for name in SCENE_FIELDS),  # an index; -1: not to be learnt from this clip
        *((name, np.int8, (SLOTS,)) for name in THING_FIELDS),
        ("visible", np.bool_, (NUM_FRAMES, SLOTS)),
        ("metres", np.float32, (NUM_FRAMES, SLOTS, 2)),  # x to the right, y up
        ("cover", np.uint8, (NUM_FRAMES, SLOTS, GRID, GRID)),  # share of a cell that a slot's thing covers, of 255
    ]
)


class Clips:
    """Rendered windows with their truth in a folder, readable while they are being rendered."""

    def __init__(self, folder: Path, num_clips: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shape = (num_clips, NUM_FRAMES, SIZE, SIZE, 3)
        self.frames_NTHWC: NDArray[np.uint8] = _mapped(folder / "frames.u8", np.dtype(np.uint8), shape)
        self.records_N: NDArray[Any] = _mapped(folder / "records.bin", RECORD, (num_clips,))

    def __len__(self) -> int:
        """The clips that are ready; they are rendered in order."""
        return int(self.records_N["done"].sum())

    def render(self, log: Callable[[str], None], first_seed: int = 1_000_000) -> None:
        """Render the clips that are missing; clip n is a pure function of n."""
        began, start = time.perf_counter(), len(self)
        for n in range(start, len(self.records_N)):
            self.frames_NTHWC[n], self.records_N[n] = exercise(first_seed + n)
            if (n + 1) % 500 == 0:
                log(f"rendered {n + 1}/{len(self.records_N)}  {(n + 1 - start) / (time.perf_counter() - began):.1f}/s")


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    size = int(np.prod(shape)) * dtype.itemsize
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            file.truncate(size)
    return np.memmap(path, dtype, "r+", shape=shape)


def exercise(seed: int) -> tuple[NDArray[np.uint8], Any]:
    """A clip for the evaluator to learn from, and its record.

    One in ten has a combination and one in ten a speed that other models never train on, because an instrument must
    read those too. One in five plays slower or faster than 12 frames a second, so that heights are measured and
    not recited; in one of twelve a thing vanishes or appears.
    """
    stream = Stream("judge", seed)
    split = {8: "combinations", 9: "physics"}.get(seed % 10, "train")
    fps = FPS * 1.35 ** stream.uniform(-1.0, 1.0) if stream.chance(0.2) else FPS
    laid = lay(split, seed, num_frames=LAYOUT_FRAMES, height=SIZE, width=SIZE, fps=fps)
    window = slice(0, NUM_FRAMES)
    frames_THWC, mask_THW, _ = render(laid.scene, SIZE, SIZE, frames=window)
    things = laid.attributes.things
    slot_TN = np.tile(np.arange(len(things)), (NUM_FRAMES, 1))  # -1: not there
    steady = True
    if stream.chance(1 / 12):
        steady = False
        gone = int(stream.random() * len(things))
        cut = 3 + int(stream.random() * (NUM_FRAMES - 6))
        absent = slice(cut, NUM_FRAMES) if stream.chance(0.5) else slice(0, cut)
        frames_THWC[absent], mask, _ = render(without(laid.scene, gone), SIZE, SIZE, frames=absent)
        mask_THW[absent] = mask
        slot_TN[absent, gone] = -1
        slot_TN[absent, gone + 1 :] -= 1
    return frames_THWC, _record(laid, fps, mask_THW, slot_TN, steady)


def without(scene: RenderScene, thing: int) -> RenderScene:
    """The scene with one thing taken away."""
    keep = [n for n in range(len(scene.kind_N)) if n != thing]
    return replace(
        scene,
        kind_N=scene.kind_N[keep],
        size_N=scene.size_N[keep],
        paint_N6=scene.paint_N6[keep],
        position_TN3=np.ascontiguousarray(scene.position_TN3[:, keep]),
        rotation_TN33=np.ascontiguousarray(scene.rotation_TN33[:, keep]),
    )


def _record(laid: Any, fps: float, mask_THW: NDArray[np.uint8], slot_TN: NDArray[np.int64], steady: bool) -> Any:
    record = np.zeros((), RECORD)
    attributes = laid.attributes
    record["fps"] = fps
    for name, labels in SCENE_FIELDS.items():
        value = str(len(attributes.things)) if name == "count" else getattr(attributes, name)
        record[name] = labels.index(value) if steady or name != "count" else -1
    for name, labels in THING_FIELDS.items():
        record[name] = -1
        for n, thing in enumerate(attributes.things):
            here_T = slot_TN[:, n] >= 0
            stays_in_slot = here_T.sum() >= 3 and (slot_TN[here_T, n] == n).all()
            if steady or (stays_in_slot and name != "motion"):
                record[name][n] = labels.index(getattr(thing, name))
    for t in range(NUM_FRAMES):
        for n in range(len(attributes.things)):
            slot = slot_TN[t, n]
            if slot >= 0:
                record["visible"][t, slot] = True
                record["metres"][t, slot] = laid.tracks_TN3[t, n, :2]
    for slot in range(SLOTS):
        cell = SIZE // GRID
        covered = (mask_THW == slot + 1).reshape(NUM_FRAMES, GRID, cell, GRID, cell).mean((2, 4))
        record["cover"][:, slot] = np.round(255 * covered)
    record["done"] = True
    return record


# --- the network ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluatorConfig:
    """Channels of the network."""

    fine: int = 32  # at 32x32 cells
    middle: int = 64  # at 16x16
    coarse: int = 128  # at 8x8
    features: int = 96  # of a cell, and of a thing
    hidden: int = 128  # of the readers over time


@dataclass
class Sights:
    """What is seen in each frame."""

    whole_BTF: Tensor  # of the picture
    things_BTSF: Tensor  # of each thing: features and geometry
    camera_BTM: Tensor  # the background's motion
    motion_BTSM: Tensor  # each thing's
    cover_BTSHW: Tensor  # log share of each cell: nothing, slot 0, slot 1


@dataclass
class Answers:
    """What the network says about clips: logits, and per-frame readings."""

    scene: dict[str, Tensor]  # [B, labels]
    things: dict[str, Tensor]  # [B, S, labels]
    cover_BTSHW: Tensor  # log share of each cell: nothing, slot 0, slot 1
    visible_BTS: Tensor  # logit
    metres_BTS2: Tensor  # x to the right, y up, of the thing's centre


class ConvNorm(nn.Module):
    """A 3x3 convolution and a batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = ConvNorm(channels, channels), ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Readers(nn.Module):
    """One linear reader for each field, on features averaged over time."""

    def __init__(self, inputs: int, hidden: int, fields: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.mix = nn.Linear(inputs, hidden)
        self.fields = nn.ModuleDict({name: nn.Linear(hidden, len(labels)) for name, labels in fields.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.mix(x))
        return {name: reader(x) for name, reader in self.fields.items()}


class OverTime(nn.Module):
    """Two residual convolutions over 5 frames, the second dilated; then the mean and the maximum over time."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Linear(inputs, hidden)
        self.near = nn.Conv1d(hidden, hidden, 5, padding=2)
        self.far = nn.Conv1d(hidden, hidden, 5, padding=4, dilation=2)

    def forward(self, x_BTF: Tensor) -> Tensor:
        x_BFT = F.relu(self.mix(x_BTF)).transpose(1, 2)
        x_BFT = x_BFT + F.relu(self.near(x_BFT))
        x_BFT = x_BFT + F.relu(self.far(x_BFT))
        return torch.cat([x_BFT.mean(2), x_BFT.amax(2)], 1)


class EvaluatorNetwork(nn.Module):
    """Reads clips [B, T, H, W, 3] uint8 at 64x64."""

    def __init__(self, config: EvaluatorConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or EvaluatorConfig()
        self.stem = ConvNorm(6 * 4, c.fine)
        self.down = nn.Sequential(ConvNorm(c.fine, c.middle, 2), nn.ReLU(), Residual(c.middle))
        self.deep = nn.Sequential(ConvNorm(c.middle, c.coarse, 2), nn.ReLU(), Residual(c.coarse))
        self.context = nn.Linear(c.coarse, c.middle)
        self.up = nn.Conv2d(c.coarse, c.middle, 1)
        self.cells = ConvNorm(c.middle, c.features)
        self.cover = nn.Conv2d(c.features, 1 + SLOTS, 1)
        self.whole = nn.Linear(4 * c.coarse, c.hidden)  # a frame's four quarters

        scene, thing = c.hidden + CAMERA, c.features + GEOMETRY + c.hidden
        self.dropout = nn.Dropout(0.1)
        self.scene_time = OverTime(scene, c.hidden)
        self.scene_readers = Readers(2 * c.hidden, c.hidden, SCENE_FIELDS)
        self.thing_time = OverTime(thing + MOTION + CAMERA + 3, c.hidden)
        self.thing_readers = Readers(2 * c.hidden + c.features + GEOMETRY, c.hidden, THING_FIELDS)
        self.frame = nn.Linear(thing, 64)
        self.clip = nn.Linear(thing, 64)
        self.place = nn.Sequential(nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
        self.turn = nn.Sequential(nn.Linear(thing + 6, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, frames_BTHWC: Tensor) -> Answers:
        video_BTCHW = frames_BTHWC.permute(0, 1, 4, 2, 3).float() / 127.5 - 1
        return self.read(self.look(video_BTCHW))

    def look(self, video_BTCHW: Tensor) -> Sights:
        """Every frame (pixels in -1..1), beside the one before it."""
        b, t = video_BTCHW.shape[:2]
        change = torch.cat([torch.zeros_like(video_BTCHW[:, :1]), video_BTCHW.diff(dim=1)], 1)
        x = F.pixel_unshuffle(torch.cat([video_BTCHW, 2 * change], 2).flatten(0, 1), 2)
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        middle = self.down(x)
        coarse = self.deep(middle)
        context = self.context(coarse.mean((2, 3)))[:, :, None, None]
        cells = F.relu(middle + context + F.interpolate(self.up(coarse), scale_factor=2))
        cells = F.relu(self.cells(cells))
        log_cover = self.cover(cells).float().log_softmax(1)
        quarters = F.adaptive_avg_pool2d(coarse, 2).flatten(1)
        whole_BTF = F.relu(self.whole(quarters)).float().view(b, t, -1)

        share = log_cover[:, 1:].exp().flatten(2)  # [BT, S, HW]
        mass = share.sum(2, keepdim=True)
        weight = share / (mass + 1e-3)
        features = torch.bmm(weight, cells.float().flatten(2).transpose(1, 2))
        things = torch.cat([features, _geometry(weight, mass)], 2)
        cover_BTSHW = log_cover.view(b, t, 1 + SLOTS, GRID, GRID)
        camera_BTM, motion_BTSM = motions(video_BTCHW, cover_BTSHW)
        return Sights(whole_BTF, things.view(b, t, SLOTS, -1), camera_BTM, motion_BTSM, cover_BTSHW)

    def read(self, sights: Sights) -> Answers:
        """What the sights of the frames say together."""
        whole_BTF, things_BTSF, camera_BTM = sights.whole_BTF, sights.things_BTSF, sights.camera_BTM

        def for_each(x_BTF: Tensor) -> Tensor:
            return x_BTF[:, :, None].expand(-1, -1, SLOTS, -1)

        per_frame = torch.cat([things_BTSF, for_each(whole_BTF)], 3)
        with torch.autocast(per_frame.device.type, enabled=False):
            place_BTS3 = self.place(self.frame(per_frame) + self.clip(per_frame.mean(1, keepdim=True)))
            # How far the camera has turned is seen in no single frame, but its motion adds up to it.
            aim_BTM = torch.cat([camera_BTM[..., :3], camera_BTM[..., 5:8]], 2).cumsum(1) / 4
            aim_BTM = aim_BTM - aim_BTM.mean(1, keepdim=True)
            turned_BTS = self.turn(torch.cat([per_frame, for_each(aim_BTM)], 3))[..., 0]
        known = torch.cat([per_frame, sights.motion_BTSM, for_each(camera_BTM), place_BTS3.detach()], 3)
        scene = self.scene_time(self.dropout(torch.cat([whole_BTF, camera_BTM], 2)))
        each = self.thing_time(self.dropout(known).transpose(1, 2).flatten(0, 1)).view(len(known), SLOTS, -1)
        each = torch.cat([each, self.dropout(things_BTSF.mean(1))], 2)
        return Answers(
            {name: logits.float() for name, logits in self.scene_readers(scene).items()},
            {name: logits.float() for name, logits in self.thing_readers(each).items()},
            sights.cover_BTSHW,
            place_BTS3[..., 2],
            torch.stack([place_BTS3[..., 0] + turned_BTS, place_BTS3[..., 1]], 3),
        )


CAMERA, MOTION = 20, 8


@torch.no_grad()
def motions(video_BTCHW: Tensor, log_cover_BTSHW: Tensor) -> tuple[Tensor, Tensor]:
    """How the background [B, T, CAMERA] and each thing [B, T, S, MOTION] move; 0 where there is no earlier frame.

    The background: shift and zoom since the frame before on 32x32 cells, and since four frames before on 16x16, each
    as a whole and in its upper half, where no shadows move. A thing: shift, turn and growth since the frame before, and
    how far the shift is from that of its outline, which tells a turning thing from one that the camera passes.
    """
    share = log_cover_BTSHW.exp()
    behind = 1 - F.max_pool2d(share[:, :, 1:].sum(2), 3, 1, 1)
    coarse = (F.avg_pool2d(video_BTCHW.mean(2), SIZE // GRID), behind)
    grey = F.avg_pool2d(video_BTCHW.mean(2), SIZE // (2 * GRID))
    fine = (grey, _doubled(behind))
    camera = []
    for (picture, weight), gap in ((fine, 1), (coarse, 4)):
        line = _line(picture)
        middle = torch.zeros_like(picture[:, gap:, :1, :1])
        upper = weight * (line < 0)[:, None]
        both = [one[:, gap:] * one[:, :-gap] for one in (weight, upper)]
        camera += [flow(picture, one, gap, middle, middle, turns=False) for one in both]
    things = []
    for slot in range(SLOTS):
        weight = _doubled(share[:, :, 1 + slot])
        mass = weight.sum((2, 3), keepdim=True) + 1e-3
        line = _line(grey)
        x = (weight * line).sum((2, 3), keepdim=True) / mass
        y = (weight * line[:, None]).sum((2, 3), keepdim=True) / mass
        moved = flow(grey, weight[:, 1:], 1, x[:, 1:], y[:, 1:], turns=True)
        outline = F.pad(torch.cat([x, y], 2)[..., 0].diff(dim=1), (0, 0, 1, 0))
        things.append(torch.cat([moved, (moved[..., :2] - 2 * outline).clamp(-6, 6)], 2))
    return torch.cat(camera, 2), torch.stack(things, 2)


def flow(grey_BTHW: Tensor, weight_BTHW: Tensor, gap: int, x: Tensor, y: Tensor, *, turns: bool) -> Tensor:
    """Shift (x, y), turn (if asked for) and growth about (x, y), then how much changed, and how much these leave.

    In the least-squares sense of Lucas and Kanade (1981), between frames `gap` apart; weights are of the later frames.
    Shifts in half cells, [B, T, 5 or 6], 0 in the first `gap` frames.
    """
    if grey_BTHW.shape[1] <= gap:
        return grey_BTHW.new_zeros(*grey_BTHW.shape[:2], 6 if turns else 5)
    weight = (weight_BTHW / weight_BTHW.sum((2, 3), keepdim=True).clamp(min=1.0)).flatten(2)
    change = (grey_BTHW[:, gap:] - grey_BTHW[:, :-gap]).flatten(2)
    mean = F.pad(grey_BTHW[:, gap:] + grey_BTHW[:, :-gap], (1, 1, 1, 1), mode="replicate") / 2
    slope_x = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2
    slope_y = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    line = _line(grey_BTHW)
    x, y = (line - x) / 8, (line[:, None] - y) / 8
    fields = [slope_x, slope_y, slope_y * x - slope_x * y, slope_x * x + slope_y * y]
    basis = torch.stack(fields if turns else fields[:2] + fields[3:], 2).flatten(3)  # [B, T, 3 or 4, HW]
    weighted = basis * weight[:, :, None]
    matrix = weighted @ basis.transpose(2, 3) + 1e-4 * torch.eye(basis.shape[2], device=grey_BTHW.device)
    moved = -torch.linalg.solve(matrix, weighted @ change[..., None])
    left = change + (basis * moved).sum(2)
    amounts = [(weight * one.square()).sum(2).sqrt() for one in (change, left)]
    changes = (torch.stack(amounts, 2) + 0.005).log() + 3  # so that a slow spin of a smooth thing is seen too
    return F.pad(torch.cat([2 * moved[..., 0].clamp(-2, 2), changes], 2), (0, 0, gap, 0))


def _line(grey_BTHW: Tensor) -> Tensor:
    """The middles of the cells, counted from the picture's middle."""
    cells = grey_BTHW.shape[-1]
    return torch.arange(cells, device=grey_BTHW.device) - (cells - 1) / 2


def _doubled(share_BTHW: Tensor) -> Tensor:
    return F.interpolate(share_BTHW, scale_factor=2, mode="bilinear")


GEOMETRY = 7


def _geometry(weight: Tensor, mass: Tensor) -> Tensor:
    """Centre, spread and area of soft masks [BT, S, HW], in halves of the picture: [BT, S, 7]."""
    line = (torch.arange(GRID, device=weight.device) + 0.5) * 2 / GRID - 1
    y, x = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="ij"))
    moments = torch.stack([x, y, x * x, y * y, x * y], 1)
    cx, cy, xx, yy, xy = (weight @ moments).unbind(2)
    spread = [xx - cx * cx, yy - cy * cy, xy - cx * cy]
    area = (mass[..., 0] + 0.1).log()
    return torch.stack([cx, cy, *(10 * s for s in spread), area, (-area).exp().clamp(max=4.0)], 2)


# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How the shipped evaluator was trained: about 15 minutes of one CPU core with AVX512-BF16, rendering included.

    First the whole network on pairs of frames, which are cheap and teach what things look like and where they are; then
    the readers alone on whole clips that the trained eye has looked at once.
    """

    num_clips: int = 8000
    look_steps: int = 2400
    look_batch: int = 32
    look_frames: int = 2
    look_rate: float = 2e-3
    read_steps: int = 1200
    read_batch: int = 64
    read_rate: float = 1.5e-3
    weight_decay: float = 0.02
    ema: float = 0.995
    spoiled: float = 0.6  # share of the clips that are blurred, compressed, tinted or made noisy
    seed: int = 0


def rate_at(step: int, num_steps: int, peak: float, warmup: int = 100) -> float:
    """A linear rise, then a cosine down to a hundredth."""
    progress = max(0.0, (step - warmup) / max(1, num_steps - warmup))
    return peak * min(1.0, (step + 1) / warmup) * (0.505 + 0.495 * float(np.cos(np.pi * progress)))


class Learner:
    """A model, its optimiser and the running average of its weights."""

    def __init__(self, model: EvaluatorNetwork, parameters: list[nn.Parameter], training: Training) -> None:
        self.model, self.parameters, self.ema = model, parameters, training.ema
        self.optimizer = torch.optim.AdamW(parameters, 1e-3, (0.9, 0.98), 1e-8, training.weight_decay)
        self.average = {name: value.clone().float() for name, value in model.state_dict().items()}

    def step(self, loss: Tensor, number: int, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 2.0)
        self.optimizer.step()
        decay = min(self.ema, (number + 1) / (number + 10))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value.float(), 1 - decay)

    def save(self, path: Path, step: int) -> None:
        """Everything that training goes on from, as safetensors, under a temporary name first."""
        tensors = {"step": torch.tensor(step), "random": torch.get_rng_state()}
        tensors |= {f"model.{name}": value.contiguous() for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value.contiguous() for name, value in self.average.items()}
        for index, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = value.contiguous()
        _save_tensors(path, tensors)

    def load(self, path: Path) -> int:
        """Puts everything back in place and returns the steps that were done."""
        tensors = load_file(path)
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        self.average = {name: tensors[f"average.{name}"] for name in self.average}
        for index, parameter in enumerate(self.parameters):
            prefix = f"optimizer.{index}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if state:
                self.optimizer.state[parameter] = state
        torch.set_rng_state(tensors["random"])
        return int(tensors["step"])


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary)
    temporary.replace(path)


def train_evaluator(
    out: Path,
    training: Training | None = None,
    *,
    data: Path | None = None,
    log: Callable[[str], None] = print,
    save_every: int = 100,
) -> Path:
    """Render the clips, train the network on the CPU and write judge.safetensors and config.json to `out`.

    Goes on where an earlier call with the same folders stopped; `data` (default `out`/clips) may be shared.
    """
    training = training or Training()
    out.mkdir(parents=True, exist_ok=True)
    clips = Clips(data or out / "clips", training.num_clips)
    clips.render(log)
    model = learn_to_look(clips, training, out, log, save_every)
    save_network(out, model.config, model.state_dict())
    model = learn_to_read(model, clips, training, out, log)
    save_network(out, model.config, model.state_dict())
    return out


def learn_to_look(
    clips: Clips, training: Training, out: Path, log: Callable[[str], None], save_every: int = 100
) -> EvaluatorNetwork:
    """The whole network on windows of a few frames; saved on the way to `out`/looking.safetensors."""
    torch.manual_seed(training.seed)
    model = EvaluatorNetwork()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = Learner(model, list(model.parameters()), training)
    start, checkpoint = 0, out / "looking.safetensors"
    if checkpoint.exists():
        start = learner.load(checkpoint)
        log(f"looking: going on at step {start}")
    began = time.perf_counter()
    model.train()
    for step in range(start, training.look_steps):
        threads.adapt()
        video_BTCHW, truth = _batch(clips, training, step)
        with torch.autocast("cpu", torch.bfloat16):
            sights = model.look(video_BTCHW)
        loss, parts = _loss(model.read(sights), truth)
        learner.step(loss, step, rate_at(step, training.look_steps, training.look_rate))
        if step % 50 == 0:
            log(f"looking {step}/{training.look_steps} {time.perf_counter() - began:.0f}s {_told(parts)}")
        if (step + 1) % save_every == 0 or step + 1 == training.look_steps:
            learner.save(checkpoint, step + 1)
    model.load_state_dict(learner.average)
    return model


def learn_to_read(
    model: EvaluatorNetwork,
    clips: Clips,
    training: Training,
    out: Path,
    log: Callable[[str], None],
    look_batch: int = 16,
) -> EvaluatorNetwork:
    """The readers on whole clips, each looked at once; what was seen is kept in `out`/sights.safetensors."""
    seen = see_all(model, clips, training, out / "sights.safetensors", log, look_batch)
    readers = (model.scene_time, model.scene_readers, model.thing_time, model.thing_readers)
    readers += (model.frame, model.clip, model.place, model.turn)  # type: ignore[assignment]
    torch.manual_seed(training.seed + 1)
    learner = Learner(model, [p for reader in readers for p in reader.parameters()], training)
    began = time.perf_counter()
    model.train()
    for step in range(training.read_steps):
        threads.adapt()
        generator = np.random.default_rng([training.seed, 1, step])
        chosen = generator.choice(len(clips), min(training.read_batch, len(clips)), replace=False)
        sights = Sights(*(torch.from_numpy(one[chosen]).float() for one in seen))
        with torch.autocast("cpu", torch.bfloat16):
            answers = model.read(sights)
        loss, parts = _loss(answers, _truth(clips.records_N[chosen], slice(None)))
        learner.step(loss, step, rate_at(step, training.read_steps, training.read_rate))
        if step % 50 == 0:
            log(f"reading {step}/{training.read_steps} {time.perf_counter() - began:.0f}s {_told(parts)}")
        if (step + 1) % 200 == 0:
            save_network(out, model.config, learner.average)
    model.load_state_dict(learner.average)
    return model


def see_all(
    model: EvaluatorNetwork, clips: Clips, training: Training, path: Path, log: Callable[[str], None], batch: int
) -> list[NDArray[np.float16]]:
    """The sights of every clip, spoiled as in training, in float16: the arrays of `Sights` with N for B."""
    if path.exists():
        kept = load_file(path)
        return [kept[name.name].numpy() for name in fields(Sights)]
    model.eval()
    parts: list[list[Tensor]] = [[] for _ in fields(Sights)]
    began = time.perf_counter()
    for start in range(0, len(clips), batch):
        threads.adapt()
        generator = np.random.default_rng([training.seed, 2, start])
        video_BTCHW = _video(clips.frames_NTHWC[start : start + batch], training, generator)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            sights = model.look(video_BTCHW)
        for part, name in zip(parts, fields(Sights), strict=True):
            part.append(getattr(sights, name.name).half())
        if start % (32 * batch) == 0:
            log(f"seen {start}/{len(clips)} {time.perf_counter() - began:.0f}s")
    seen = {name.name: torch.cat(part) for part, name in zip(parts, fields(Sights), strict=True)}
    _save_tensors(path, seen)
    return [tensor.numpy() for tensor in seen.values()]


def _told(parts: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in parts.items())


def save_network(folder: Path, config: EvaluatorConfig, state: dict[str, Tensor]) -> None:
    """Matrices in float16, the rest in float32."""
    small = {
        name: value.half().contiguous() if value.ndim > 1 else value.float().contiguous()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(small, folder / "judge.safetensors")
    labels = {"scene": SCENE_FIELDS, "things": THING_FIELDS}
    (folder / "config.json").write_text(json.dumps({"probe": asdict(config), "fields": labels}, indent=1) + "\n")


def load_network(folder: Path, device: str | torch.device = "cpu") -> EvaluatorNetwork:
    """A probe ready to read. Raises ValueError where the labels are not those of this world."""
    described = json.loads((folder / "config.json").read_text())
    labels = json.loads(json.dumps({"scene": SCENE_FIELDS, "things": THING_FIELDS}))
    if described["fields"] != labels:
        raise ValueError(f"the evaluator in {folder} reads another world's attributes; train it again")
    probe = EvaluatorNetwork(EvaluatorConfig(**described["probe"]))
    state = {name: value.float() for name, value in load_file(folder / "judge.safetensors").items()}
    missing, unexpected = probe.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the evaluator in {folder} does not fit its config: {missing + unexpected}")
    return probe.to(device).eval()


def _batch(clips: Clips, training: Training, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Windows of a step's clips, some of them spoiled, and their truth; the same for the same step."""
    generator = np.random.default_rng([training.seed, 0, step])
    chosen = np.sort(generator.choice(len(clips), min(training.look_batch, len(clips)), replace=False))
    start = int(generator.integers(NUM_FRAMES - training.look_frames + 1))
    window = slice(start, start + training.look_frames)
    truth = _truth(clips.records_N[chosen], window)
    truth["motion"].fill_(-1)  # too short to tell
    truth["camera"].fill_(-1)
    return _video(clips.frames_NTHWC[chosen, window], training, generator), truth


def _video(frames_BTHWC: NDArray[np.uint8], training: Training, generator: np.random.Generator) -> Tensor:
    """Pixels in -1..1 [B, T, C, H, W], a share of the clips spoiled."""
    video_BTCHW = torch.from_numpy(np.ascontiguousarray(frames_BTHWC)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    for n in range(len(video_BTCHW)):
        if generator.random() < training.spoiled:
            video_BTCHW[n] = spoil(video_BTCHW[n], generator)
    return video_BTCHW


def _truth(records: NDArray[Any], window: slice) -> dict[str, Tensor]:
    truth = {name: torch.from_numpy(records[name].astype(np.int64)) for name in (*SCENE_FIELDS, *THING_FIELDS)}
    for name in ("visible", "metres", "cover"):
        truth[name] = torch.from_numpy(records[name][:, window].astype(np.float32))
    return truth


def _loss(answers: Answers, truth: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    parts: dict[str, Tensor] = {}
    for name, logits in (*answers.scene.items(), *answers.things.items()):
        known = truth[name] >= 0
        if known.any():
            parts[name] = F.cross_entropy(logits[known], truth[name][known])
    cover = truth["cover"] / 255
    nothing = (1 - cover.sum(2, keepdim=True)).clamp(min=0)
    target = torch.cat([nothing, cover], 2)
    cells = -(target * answers.cover_BTSHW).sum(2) * (1 + 4 * (1 - nothing[:, :, 0]))
    parts["cover"] = cells.mean()
    parts["visible"] = F.binary_cross_entropy_with_logits(answers.visible_BTS, truth["visible"])
    seen = truth["visible"] > 0
    if seen.any():
        parts["metres"] = F.smooth_l1_loss(answers.metres_BTS2[seen], truth["metres"][seen], beta=0.02)
    weights = {"kind": 1.5, "motion": 1.5, "cover": 4.0, "metres": 5.0}
    total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}


# --- what autoencoders and encoders do to pictures ------------------------------------------------------------------


def spoil(video_TCHW: Tensor, generator: np.random.Generator) -> Tensor:
    """The clip (in -1..1) with some of: blur, fewer pixels, frames mixed with the next, compression, tint, noise."""
    chance = generator.random(7)
    if chance[0] < 0.4:
        video_TCHW = _blurred(video_TCHW, generator.uniform(0.4, 1.3))
    if chance[1] < 0.3:
        small = int(generator.integers(24, 56))
        less = F.interpolate(video_TCHW, (small, small), mode="bilinear", antialias=True)
        video_TCHW = F.interpolate(less, video_TCHW.shape[2:], mode="bicubic")
    if chance[2] < 0.2:
        share = generator.uniform(0.05, 0.25)
        before, after = torch.cat([video_TCHW[:1], video_TCHW[:-1]]), torch.cat([video_TCHW[1:], video_TCHW[-1:]])
        video_TCHW = (1 - 2 * share) * video_TCHW + share * (before + after)
    if chance[3] < 0.3:
        video_TCHW = _compressed(video_TCHW, generator.uniform(0.01, 0.08))
    if chance[4] < 0.4:
        gain = 1 + generator.uniform(-0.08, 0.08) + generator.uniform(-0.03, 0.03, 3)
        tint = generator.uniform(-0.05, 0.05) + generator.uniform(-0.03, 0.03, 3)
        video_TCHW = video_TCHW * _channels(gain) + _channels(tint)
    if chance[5] < 0.4:
        noise = _normal(generator, video_TCHW.shape)
        video_TCHW = video_TCHW + generator.uniform(0, 0.03) * noise
    if chance[6] < 0.3:  # blotches
        t, c, h, w = video_TCHW.shape
        blotches = F.interpolate(_normal(generator, (t, c, h // 4, w // 4)), (h, w), mode="bilinear")
        video_TCHW = video_TCHW + generator.uniform(0, 0.05) * blotches
    levels = torch.round((video_TCHW.clamp(-1, 1) + 1) * 127.5)
    return levels / 127.5 - 1


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(generator.standard_normal(shape, np.float32))


def _channels(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None]


def _blurred(video_TCHW: Tensor, sigma: float) -> Tensor:
    reach = 3
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = line / line.sum()
    planes = F.pad(video_TCHW.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    planes = F.conv2d(F.conv2d(planes, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))
    return planes.view_as(video_TCHW)


def _compressed(video_TCHW: Tensor, step: float) -> Tensor:
    """Quantised as JPEG does: 8x8 cosine blocks, coarser towards high frequencies."""
    n = torch.arange(8, dtype=torch.float32)
    cosine = torch.cos((2 * n[None] + 1) * n[:, None] * torch.pi / 16) * 0.5
    cosine[0] *= 0.5**0.5
    t, c, h, w = video_TCHW.shape
    blocks = video_TCHW.reshape(t, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    steps = step * (1 + n[:, None] + n[None])
    waves = torch.round(cosine @ blocks @ cosine.T / steps) * steps
    return (cosine.T @ waves @ cosine).transpose(3, 4).reshape(t, c, h, w)
