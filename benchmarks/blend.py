"""A small network that looks for boundaries of blending: tried for `verify --triage`, and left out.

    pip install 'sorano[bench]'
    python benchmarks/blend.py [--small] [--clips 192] [--steps 700] [--heads 40]

Trained on self-blended pictures (Shiohara and Yamasaki 2022): a picture and a slightly changed copy of itself, blended
through a mask, in clips of tests/support/corpus.py with even seeds, after H.264 (CRF 18 to 28) or JPEG (50 to 95).
Judged on face swaps (tests/support/redteam.py) of heads with odd seeds, against the same heads as they are, coded
alike, by a network that was trained without the way of blending that it is judged on; feathered ones and those with
matched colours are left out together, for they share their edge. AUC with 95 % intervals by bootstrap over heads.
The map is that of Face X-ray (Li et al. 2020). Prints a table and one JSON line.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from support import copies, corpus, redteam  # noqa: E402
from torch import nn  # noqa: E402
from triage import CODINGS as ORDINARY  # noqa: E402
from triage import row  # noqa: E402

CHANNELS, STRIDES = (6, 16, 24, 32, 32, 32, 32), (1, 2, 2, 2, 1, 1)  # 39,000 weights, which see 49 pixels
CELL = 8  # pixels of a cell: the product of the strides
STRONGEST = 0.03  # of the cells, whose mean is the score
MOST_FRAMES = 4
LEFT_OUT = (("hard",), ("feather", "colour"), ("seamless",))  # together
CODINGS = ("CRF 23", "JPEG 85")  # of what is judged
TRAINED_KINDS = (*[kind for kind in corpus.KINDS if kind not in ("world", "cuts")], "faces", "faces", "faces")
CROP, BATCH, RATE = 128, 32, 3e-3


def self_blended(frames, way, random):
    """Frames [T, H, W, 3] blended with a changed copy of themselves, and the mask [H, W] of 0 or 255."""
    height, width = frames.shape[1:3]
    mask = a_mask(random, height, width)
    changed = transformed(random)
    scale, angle = random.uniform(0.95, 1.05), random.uniform(-3, 3)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    move[:, 2] += random.uniform(-0.03, 0.03, 2) * (width, height)
    flags = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REFLECT}
    sources = [changed(cv2.warpAffine(frame, move, (width, height), **flags)) for frame in frames]
    return np.stack([redteam.blended(*pair, mask, way) for pair in zip(frames, sources, strict=True)]), mask


def a_mask(random, height, width):
    """The hull of a random ellipse with dents: 4 to 30 % of the picture, anywhere in it."""
    size = np.sqrt(random.uniform(0.04, 0.3) * height * width / np.pi)
    tall, wide = size * random.uniform(0.9, 1.4), size * random.uniform(0.7, 1.1)
    tall, wide = min(tall, 0.46 * height), min(wide, 0.46 * width)
    middle = random.uniform(wide, width - wide), random.uniform(tall, height - tall)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    dent = 1 - np.abs(random.normal(0, random.uniform(0, 0.12), 24))
    outline = np.stack([middle[0] + wide * dent * np.cos(angle), middle[1] + tall * dent * np.sin(angle)], 1)
    outline = cv2.convexHull(outline.astype(np.int32)) if random.random() < 0.5 else outline.astype(np.int32)
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [outline], 255)


def transformed(random):
    """A change of pictures: colours, and the frequencies or the noise of them."""
    gain, offset = random.uniform(0.9, 1.1) * random.uniform(0.95, 1.05, 3), random.uniform(-15, 15, 3)
    way, amount = int(random.integers(0, 5)), random.uniform(0, 1)

    def change(frame):
        out = frame.astype(np.float32) * gain.astype(np.float32) + offset.astype(np.float32)
        size = frame.shape[1::-1]
        if way == 0:
            out = cv2.GaussianBlur(out, (0, 0), 0.5 + amount)
        elif way == 1:
            out = out + (0.3 + amount) * (out - cv2.GaussianBlur(out, (0, 0), 1.2))
        elif way == 2:
            out = cv2.resize(cv2.resize(out, None, fx=0.4 + 0.5 * amount, fy=0.4 + 0.5 * amount), size)
        elif way == 3:
            out = jpeg(np.clip(out, 0, 255).astype(np.uint8), 40 + int(50 * amount))
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)

    return change


def jpeg(frame, quality):
    """A picture after JPEG."""
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def coded(frames, coding):
    """Frames as they arrive: "CRF n" of H.264 or "JPEG n", each frame by itself."""
    kind, number = coding.split()
    if kind == "JPEG":
        return np.stack([jpeg(frame, int(number)) for frame in frames])
    return copies.decoded(copies.encoded(frames, 24, copies.h264(int(number))))


def dataset(count):
    """(way or None, picture [H, W, 3], mask [H, W]) of `count` clips: in three ways, and twice as they are."""
    made = []
    for number in range(count):
        random = np.random.default_rng([number, 17])
        kind = TRAINED_KINDS[number % len(TRAINED_KINDS)]
        size = [(270, 480), (360, 640)][int(random.integers(0, 2))]
        frames = corpus.clip(kind, 2000 + 2 * number, size, 3 / 24)
        for way in (*random.permutation(redteam.BLENDS)[:3], None, None):
            if way is not None:
                out, mask = self_blended(frames, way, random)
            else:  # what is not blended may have been changed as a whole
                change = transformed(random) if random.random() < 0.5 else lambda frame: frame
                out, mask = np.stack([change(frame) for frame in frames]), np.zeros(size, np.uint8)
            is_still = random.random() < 0.4
            coding = f"JPEG {random.integers(50, 96)}" if is_still else f"CRF {random.integers(18, 29)}"
            made.append((way, coded(out[:1] if is_still else out, coding)[-1], mask))
    return made


class Network(nn.Module):
    """Convolutions with batch normalisation: whether the edge of a blend runs through each cell."""

    def __init__(self):
        super().__init__()
        sizes = zip(CHANNELS, CHANNELS[1:], STRIDES, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, s, 1, bias=False) for a, b, s in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in CHANNELS[1:])
        self.last = nn.Conv2d(CHANNELS[-1], 1, 1)

    def forward(self, x):
        """Logits [B, rows, columns] of inputs [B, C, H, W]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
        return self.last(x)[:, 0]


def inputs(frame):
    """Levels and their high-pass residual [6, H, W] float32 of a picture [H, W, 3]."""
    levels = frame.astype(np.float32)
    residual = levels - cv2.GaussianBlur(levels, (0, 0), 1.5)
    return np.ascontiguousarray(np.concatenate([(levels - 128) / 64, residual / 8], -1).transpose(2, 0, 1))


@torch.no_grad()
def scored(frames, network):
    """The mean logit of the strongest cells of a few frames."""
    few = frames[:: max(1, len(frames) // MOST_FRAMES)][:MOST_FRAMES]
    cells = network(torch.from_numpy(np.stack([inputs(frame) for frame in few]))).mean(0).flatten()
    return float(cells.topk(round(STRONGEST * len(cells))).values.mean())


def boundary(mask):
    """Where the edge of a mask is, in cells: 1 on it, 0 off it, NaN between."""
    soft = cv2.GaussianBlur(mask, (0, 0), max(2.0, mask.shape[0] / 60)).astype(np.float32) / 255
    edge = 4 * soft * (1 - soft)
    rows, columns = (side // CELL for side in mask.shape)
    cells = edge[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    most = cells.max((1, 3))
    return np.where(most > 0.6, 1.0, np.where(most < 0.2, 0.0, np.nan)).astype(np.float32)


def trained(samples, steps, seed=0):
    """A network that was trained on (way, picture, mask)."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    held = [(picture, boundary(mask)) for _, picture, mask in samples]
    forged = [number for number, (way, _, _) in enumerate(samples) if way is not None]
    whole = [number for number, (way, _, _) in enumerate(samples) if way is None]
    network = Network().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    losses = []
    for step in range(steps):
        pairs = [crop(*held[int(random.choice((forged, whole)[index % 2]))], random) for index in range(BATCH)]
        x = torch.from_numpy(np.stack([one for one, _ in pairs])).contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(np.stack([one for _, one in pairs]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        known = ~y.isnan()
        weight = torch.where(y > 0.5, 4.0, 1.0)[known]
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float()[known], y[known], weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 199:
            print(f"    step {step + 1}: loss {np.mean(losses[-200:]):.3f}", file=sys.stderr, flush=True)
    return network.eval()


def crop(picture, y, random):
    """The input and the cells of a random square, flipped; most of those of forged pictures lie over the boundary."""
    cells = CROP // CELL
    rows, columns = y.shape[0] - cells, y.shape[1] - cells
    top, left = int(random.integers(0, rows + 1)), int(random.integers(0, columns + 1))
    edge = np.argwhere(y > 0.5)
    if len(edge) and random.random() < 0.7:
        at = edge[int(random.integers(len(edge)))] - random.integers(1, cells - 1, 2)
        top, left = int(np.clip(at[0], 0, rows)), int(np.clip(at[1], 0, columns))
    y = y[top : top + cells, left : left + cells]
    top, left = top * CELL, left * CELL
    x = picture[top : top + CROP, left : left + CROP]
    if random.random() < 0.5:
        x, y = x[:, ::-1], y[:, ::-1]
    return inputs(np.ascontiguousarray(x)), np.ascontiguousarray(y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few clips and steps")
    parser.add_argument("--clips", type=int, default=192, help="that are trained on")
    parser.add_argument("--steps", type=int, default=700, help="of training")
    parser.add_argument("--heads", type=int, default=40, help="that are judged, each in four ways")
    asked = parser.parse_args()
    clips, steps, heads = (4, 4, 3) if asked.small else (asked.clips, asked.steps, asked.heads)
    torch.set_num_threads(1)
    samples, known = dataset(clips), swaps(heads)
    rows = {}
    print("blend: AUC on face swaps of a network that has not seen the way of blending")
    for ways in LEFT_OUT:
        network = trained([one for one in samples if one[0] not in ways], steps)
        rows.update(judged(known, network, ways))
        if ways == ("hard",):  # the network that has seen the ways that tools use
            flagged = beyond(known, network, 1 if asked.small else 4)
    told = {"benchmark": "blend", "small": asked.small, "clips": clips, "steps": steps}
    print(json.dumps({**told, "beyond": flagged, "rows": rows}))


def swaps(count):
    """Frames of heads by (way or None, coding): as they are, and with another's face blended in."""
    known = {}
    for number in range(count):
        head = redteam.head(number, seconds=8 / 24)
        for way in (None, *redteam.BLENDS):
            frames = head if way is None else redteam.swapped(head, way, 500 + number)[0]
            for coding in CODINGS:
                known.setdefault((way, coding), []).append(list(coded(frames, coding)))
    return known


def beyond(known, network, seeds):
    """How many swaps after H.264 are beyond the 99th percentile of ordinary files, as `verify` would ask."""
    clips = [corpus.clip(kind, 1001 + 2 * seed, seconds=8 / 24) for kind in corpus.KINDS for seed in range(seeds)]
    ordinary = [scored(copies.COPIES[coding](clip, 24)[0], network) for clip in clips for coding in ORDINARY]
    bar = float(np.quantile(ordinary, 0.99))
    found = {way: sum(scored(frames, network) > bar for frames in known[way, "CRF 23"]) for way in redteam.BLENDS}
    each = len(known[None, "CRF 23"])
    print(f"beyond the 99th percentile of {len(ordinary)} ordinary files, without hard: {found} of {each} each")
    return found


def judged(known, network, ways):
    """A row for each way of blending and coding."""
    rows = {}
    for coding in CODINGS:
        scores = {way: [scored(frames, network) for frames in known[way, coding]] for way in (None, *ways)}
        for way in ways:
            rows[f"{way}, {coding}"] = row(f"face swap, {way}, {coding}", scores[way], scores[None])
    return rows


if __name__ == "__main__":
    main()
