"""How well things keep their outline: a thing's silhouette against itself one frame on.

A small network (`Silhouettes`, trained on renderings, whose masks are known) gives each pixel's probability of
belonging to a thing; which thing that is, the evaluator's cells say. A silhouette in one frame is moved and scaled
onto the next one's (centre and area), and the two are compared: what is surely the thing in both, over what may be
the thing in either. Between the two lies the edge, as wide as the picture shows it (`edge_width`). A shape that boils
is not where its silhouette was; a blurred one has a wide edge, all of which is lost. A rigid thing that turns changes
its silhouette as well, so the figure means something beside that of renderings of the same scenes.

    python -m sorano.world.outline --out FILE     # the network from nothing, some minutes of two cores

Axes: B frames, T frames of a clip, H rows, W columns, C channels, S slots (`sorano.world.evaluator`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Floats = NDArray[np.floating]
Frames = NDArray[np.uint8]

WEIGHTS = Path(__file__).parents[1] / "weights" / "judge" / "outline.safetensors"
LEAST_PIXELS = 24  # of a silhouette, at 64x64
REACH = 1 / 32  # of the picture's width: how far to both sides of an edge its two colours are looked for
LEAST_CONTRAST = 0.08  # between these colours, of 1, for an edge to have a width
DILATIONS = (1, 2, 4, 8, 1)


@dataclass(frozen=True)
class Silhouette:
    """Where a thing is in a frame."""

    inside_HW: Floats  # the distance in pixels to its outline: positive inside, negative outside
    width: float  # of its edge, in pixels


class Silhouettes(nn.Module):
    """The logit of each pixel's being part of a thing: convolutions on patches of 2 x 2 pixels."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(12, width, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """[B, 1, H, W] of pixels in 0..1."""
        x = F.pixel_unshuffle(2 * pixels_BCHW - 1, 2).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.first(x))
        for layer in self.middle:
            x = x + F.relu(layer(x))
        return F.pixel_shuffle(self.last(x), 2).float()


def load_silhouettes(path: Path = WEIGHTS) -> Silhouettes:
    """The shipped network, or the one in a file."""
    tensors = {name: value.float() for name, value in load_file(path).items()}
    network = Silhouettes(len(tensors["first.bias"]))
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def thing_share(network: Silhouettes, frames_BHWC: Frames) -> Floats:
    """Each pixel's probability [B, H, W] of belonging to a thing."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_BHWC)).permute(0, 3, 1, 2).float() / 255
    share: Floats = network(pixels)[:, 0].sigmoid().numpy()
    return share


def outline(frames_THWC: Frames, share_THW: Floats, cover_TSHW: Floats, slot: int) -> float:
    """The intersection over union of a slot's silhouette with itself one frame on, the mean over the clip's pairs.

    `share_THW` is each pixel's probability of belonging to a thing, `cover_TSHW` the share of each cell that each slot
    covers. Frames in which the thing touches the border or comes near another one are left out. NaN where no pair of
    frames is left.
    """
    found = [silhouette(*frame, slot) for frame in zip(frames_THWC, share_THW, cover_TSHW, strict=True)]
    pairs = zip(found[:-1], found[1:], strict=True)
    values = [overlap(one, other) for one, other in pairs if one is not None and other is not None]
    return float(np.mean(values)) if values else math.nan


def silhouette(frame_HWC: Frames, share_HW: Floats, cover_SHW: Floats, slot: int) -> Silhouette | None:
    """A slot's thing in a frame, or None where it cannot be told from another's or is cut by the border."""
    cell = share_HW.shape[0] // cover_SHW.shape[1]
    mine = _wider(np.asarray(cover_SHW[slot] > 0.05))
    other = _wider(np.asarray((np.delete(cover_SHW, slot, 0) > 0.05).any(0)))
    if (mine & other).any():
        return None
    solid = (share_HW > 0.5) & np.kron(_wider(mine) & ~other, np.ones((cell, cell), bool))
    edge = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    if edge.any() or solid.sum() < LEAST_PIXELS * (share_HW.shape[1] / 64) ** 2:
        return None
    inside_HW = _distance(solid)
    return Silhouette(inside_HW, edge_width(frame_HWC, inside_HW))


def edge_width(frame_HWC: Frames, inside_HW: Floats) -> float:
    """How many pixels the picture takes from a thing's colour to the one behind it: the median along its outline.

    Across the outline, colours are compared with those `REACH` inside and outside; the width is that of a straight ramp
    as steep as the steepest place. 1 where there is no contrast.
    """
    height, width = inside_HW.shape
    reach = max(2.0, REACH * width)
    rows, columns = np.nonzero(np.abs(inside_HW) < 1)
    smooth = cv2.GaussianBlur(inside_HW.astype(np.float32), (0, 0), 1.5)
    down, right = np.gradient(smooth)
    normal = np.stack([down[rows, columns], right[rows, columns]])
    normal = normal / np.maximum(np.hypot(*normal), 1e-6)
    steps = np.arange(-reach - 1, reach + 1.01, 0.5, dtype=np.float32)
    y = (rows[:, None] + normal[0][:, None] * steps).astype(np.float32)
    x = (columns[:, None] + normal[1][:, None] * steps).astype(np.float32)
    across = cv2.remap(frame_HWC.astype(np.float32) / 255, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    way = across[:, -3:].mean(1) - across[:, :3].mean(1)
    contrast = np.linalg.norm(way, axis=1)
    clear = contrast > LEAST_CONTRAST
    if not clear.any():
        return 1.0
    along = (across[clear] @ (way[clear] / contrast[clear, None] ** 2)[:, :, None])[..., 0]
    steepest = np.abs(along[:, 2:] - along[:, :-2]).max(1)  # over one pixel
    return float(np.median(1 / np.maximum(steepest, 1e-3)))


def overlap(one: Silhouette, other: Silhouette) -> float:
    """What is surely the thing in both, over what may be it in either, the first moved and scaled onto the second."""
    (y0, x0, area0), (y1, x1, area1) = _placed(one.inside_HW), _placed(other.inside_HW)
    scale = math.sqrt(area0 / area1)
    rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in other.inside_HW.shape), indexing="ij")
    moved = _bilinear(one.inside_HW, y0 + (rows - y1) * scale, x0 + (columns - x1) * scale) / scale
    unsure = max(0.0, (one.width / scale + other.width) / 2 - 1) / 2  # pixels to both sides; a sharp edge is in one
    sure = np.minimum(moved, other.inside_HW) > unsure
    maybe = np.maximum(moved, other.inside_HW) > -unsure
    return float(sure.sum() / max(1, maybe.sum()))


def _distance(solid_HW: NDArray[np.bool_]) -> Floats:
    """The distance of each pixel's middle to the edge between solid and not: positive inside."""
    inside = cv2.distanceTransform(solid_HW.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~solid_HW).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    signed: Floats = np.where(solid_HW, inside - 0.5, 0.5 - outside)
    return signed


def _placed(inside_HW: Floats) -> tuple[float, float, float]:
    """Row and column of the centre, and the area; pixels at the edge count by how far inside they are."""
    solid = (inside_HW + 0.5).clip(0, 1)
    area = max(1e-6, float(solid.sum()))
    y = float((solid.sum(1) * np.arange(solid.shape[0])).sum()) / area
    x = float((solid.sum(0) * np.arange(solid.shape[1])).sum()) / area
    return y, x, area


def _bilinear(picture_HW: Floats, y_HW: Floats, x_HW: Floats) -> Floats:
    height, width = picture_HW.shape
    y_HW, x_HW = y_HW.clip(0, height - 1.001), x_HW.clip(0, width - 1.001)
    y, x = y_HW.astype(int), x_HW.astype(int)
    down, right = y_HW - y, x_HW - x
    top = picture_HW[y, x] * (1 - right) + picture_HW[y, x + 1] * right
    bottom = picture_HW[y + 1, x] * (1 - right) + picture_HW[y + 1, x + 1] * right
    return top * (1 - down) + bottom * down


def _wider(cells_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells and their eight neighbours."""
    padded = np.pad(cells_HW, 1)
    h, w = cells_HW.shape
    return np.logical_or.reduce([padded[i : i + h, j : j + w] for i in range(3) for j in range(3)])


# --- training -------------------------------------------------------------------------------------------------------


def train_silhouettes(
    frames_NHWC: Frames,
    masks_NHW: NDArray[np.uint8],
    *,
    num_steps: int = 800,
    batch: int = 12,
    rate: float = 3e-3,
    log: Callable[[str], None] = print,
) -> Silhouettes:
    """The network, trained on frames and their masks (0 where there is no thing), at their size and at half of it."""
    torch.manual_seed(0)
    network = Silhouettes().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), rate, (0.9, 0.98))
    average = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(num_steps):
        generator = np.random.default_rng([0, step])
        chosen = np.sort(generator.choice(len(frames_NHWC), batch, replace=False))
        pixels = torch.from_numpy(frames_NHWC[chosen]).permute(0, 3, 1, 2).float() / 255
        truth = torch.from_numpy(masks_NHW[chosen] > 0)[:, None].float()
        if step % 3 == 2:
            pixels, truth = F.avg_pool2d(pixels, 2), F.avg_pool2d(truth, 2)
        tint = 1 + 0.05 * torch.from_numpy(generator.standard_normal((batch, 3, 1, 1)).astype(np.float32))
        noise = torch.from_numpy(generator.standard_normal(pixels.shape, np.float32))
        pixels = (pixels * tint + 0.02 * float(generator.random()) * noise).clamp(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(pixels)
        loss = F.binary_cross_entropy_with_logits(logits, truth, weight=1 + 3 * truth)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50, (num_steps - step) / (0.5 * num_steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 0.02)
        if step % 50 == 0:
            log(f"silhouettes {step}/{num_steps}: loss {float(loss.detach()):.4f}")
    network.load_state_dict(average)
    return network.eval().requires_grad_(False)


def agreement(share_NHW: Floats, masks_NHW: NDArray[np.uint8]) -> float:
    """Intersection over union of the network's silhouettes with the true masks, all frames taken together."""
    found, true = share_NHW > 0.5, masks_NHW > 0
    return float((found & true).sum() / (found | true).sum())


def save_silhouettes(network: Silhouettes, path: Path) -> None:
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, path)


def main() -> None:
    """The command: see the module's docstring."""
    import argparse
    import os
    import sys

    from sorano.world.dataset import samples

    parser = argparse.ArgumentParser(prog="python -m sorano.world.outline", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=500)
    args = parser.parse_args()

    def frames(split: str, first: int, count: int) -> tuple[Frames, NDArray[np.uint8]]:
        size = {"num_frames": 25, "height": 128, "width": 128}
        clips = samples(split, range(first, first + count), workers=os.cpu_count() or 1, **size)
        return (
            np.concatenate([one.frames_THWC[::4] for one in clips]),
            np.concatenate([one.mask_THW[::4] for one in clips]),
        )

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    network = train_silhouettes(*frames("train", 2_000_000, args.clips), log=log)
    save_silhouettes(network, args.out)
    pictures, masks = frames("heldout", 0, 40)
    share = np.concatenate([thing_share(network, pictures[n : n + 20]) for n in range(0, len(pictures), 20)])
    log(f"held-out frames: intersection over union with the true masks {100 * agreement(share, masks):.1f} %")
    print(args.out)


if __name__ == "__main__":
    main()
