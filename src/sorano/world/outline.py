"""How well things keep their outline: a thing's silhouette against itself one frame on.

The evaluator says roughly where a thing is, on 16x16 cells; pixels say where it ends. Cells that the thing surely
covers give its colours, cells around it that it surely does not cover give the colours behind it, and each pixel
between gets an opacity: how far it lies on the way from the nearest colour behind to the nearest colour of the thing.

A thing's silhouette in one frame is moved and scaled onto the next one's (centre and area), and the two are compared:
what is surely the thing in both, over what may be the thing in either. A shape that boils loses on the first, and a
blurred one on both, since its edge is a wide band of pixels that may be the thing. A rigid thing that turns changes its
silhouette as well, so the figure means something beside that of renderings of the same scenes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SURE, MAYBE = 0.8, 0.2  # opacities from which on a pixel is surely, and may be, the thing
LEAST_PIXELS = 24  # of a silhouette, at 64x64
SAMPLES = 96  # colours kept of the thing, and of what is behind it
NEAR = 0.35  # weight of the distance in place, in picture widths, beside that in colour (0..1)


def outline(frames_THWC: NDArray[np.uint8], cover_TSHW: Floats, slot: int) -> float:
    """The intersection over union of a slot's silhouette with itself one frame on, the mean over the clip's pairs.

    `cover_TSHW` is the share of each cell that each slot covers. Frames in which the thing touches the border, or comes
    near another one, are left out. NaN where no pair of frames is left.
    """
    mattes = [silhouette(frame, cover, slot) for frame, cover in zip(frames_THWC, cover_TSHW, strict=True)]
    pairs = zip(mattes[:-1], mattes[1:], strict=True)
    found = [overlap(one, other) for one, other in pairs if one is not None and other is not None]
    return float(np.mean(found)) if found else math.nan


def silhouette(frame_HWC: NDArray[np.uint8], cover_SHW: Floats, slot: int) -> Floats | None:
    """The opacity [H, W] of a slot's thing in a frame, or None where it cannot be told."""
    height, width = frame_HWC.shape[:2]
    cell = height // cover_SHW.shape[1]
    mine = cover_SHW[slot]
    others = np.delete(cover_SHW, slot, 0).sum(0) if len(cover_SHW) > 1 else np.zeros_like(mine)
    touched = _wider(mine > 0.05)  # cells in which a part of it may lie
    around = _wider(_wider(touched)) & ~touched & (others < 0.05)
    if (touched & (others > 0.05)).any() or not touched.any() or not around.any():
        return None
    if touched[0].any() or touched[-1].any() or touched[:, 0].any() or touched[:, -1].any():
        return None
    inside = mine >= min(0.95, 0.9 * float(mine.max()))
    pixels = frame_HWC.astype(np.float32) / 255
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    place = np.stack([rows, columns], -1).astype(np.float32) / width * NEAR
    features = np.concatenate([pixels, place], -1)
    open_HW, inside_HW, around_HW = (np.kron(part, np.ones((cell, cell), bool)) for part in (touched, inside, around))
    unknown = open_HW & ~inside_HW
    front, behind = (_sampled(features[part]) for part in (inside_HW, around_HW))
    wanted = features[unknown]
    near_front, near_behind = (_nearest(wanted, colours) for colours in (front, behind))
    way = near_front - near_behind
    share = ((wanted[:, :3] - near_behind) * way).sum(1) / np.maximum((way * way).sum(1), 1e-4)
    opacity = np.zeros((height, width), np.float32)
    opacity[inside_HW] = 1
    opacity[unknown] = share.clip(0, 1)
    if opacity.sum() < LEAST_PIXELS * (width / 64) ** 2:
        return None
    return opacity


def overlap(one_HW: Floats, other_HW: Floats) -> float:
    """What is surely the thing in both, over what may be it in either, the first moved and scaled onto the second."""
    (y0, x0, area0), (y1, x1, area1) = _placed(one_HW), _placed(other_HW)
    scale = math.sqrt(area0 / area1)
    rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in other_HW.shape), indexing="ij")
    moved = _bilinear(one_HW, y0 + (rows - y1) * scale, x0 + (columns - x1) * scale)
    sure = np.minimum(moved, other_HW) > SURE
    maybe = np.maximum(moved, other_HW) > MAYBE
    return float(sure.sum() / max(1, maybe.sum()))


def _placed(opacity_HW: Floats) -> tuple[float, float, float]:
    """Row and column of the centre, and the area, of what is more likely the thing than not."""
    solid = np.where(opacity_HW > 0.5, opacity_HW, 0.0)
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


def _sampled(features_PF: Floats) -> Floats:
    return features_PF[np.linspace(0, len(features_PF) - 1, min(SAMPLES, len(features_PF))).round().astype(int)]


def _nearest(wanted_PF: Floats, known_QF: Floats) -> Floats:
    """The colour of the nearest known pixel, in colour and place, of each wanted one."""
    squares = (wanted_PF**2).sum(1)[:, None] - 2 * wanted_PF @ known_QF.T + (known_QF**2).sum(1)
    return known_QF[squares.argmin(1), :3]
