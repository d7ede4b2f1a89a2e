"""Triage of pictures that nothing vouches for: regions whose noise is foreign to the rest.

    trace = trace_of(frames_THWC)      # how unusual the file is, and where

`splice` is training-free: co-occurrences of a high-pass residual in blocks, and how far the most foreign region lies
from the rest of the same picture (Cozzolino, Poggi, Verdoliva: Splicebuster, WIFS 2015). A trace has a percentile
among ordinary files of the project's own corpus (`triage_calibration.json`, fitted by benchmarks/triage.py). It is
triage, not proof: published detectors lose 45 to 50 % of their AUC in the wild (Deepfake-Eval-2024, arXiv:2503.02857),
and nothing here was measured on what swindlers use.

Not covered: pictures by one generator, blends of pictures with like noise, faces as such, coarse coding (CRF 30 and
more), pictures below 128 pixels, sound that is late (docs/LOG.md), and voices: networks over cepstra did not hold for
vocoders that they had not heard, nor did a network for the seams of blending or second-order motion (docs/trust.md). A
low percentile is no proof that a file is genuine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sorano.trust.indicators import Trace

Array = NDArray[Any]

CALIBRATION = Path(__file__).with_name("triage_calibration.json")
MOST_FRAMES = 8  # that are looked at, spread over a video
BLOCK, STRIDE = 32, 16  # pixels, of splice
COMPONENTS = 12  # of the co-occurrences that are kept
ORDER = 4  # residuals in a row
LEVELS = 3  # of a quantised residual
LEAST_SIDE = 128


def trace_of(frames: list[Array]) -> Trace | None:
    """The trace of a picture or a video; `frames` [H, W, 3] of 8 bits, at most `MOST_FRAMES`, of equal size.

    None for pictures that are too small.
    """
    if not frames or min(frames[0].shape[:2]) < LEAST_SIDE:
        return None
    score, box = splice(frames)
    return Trace(score, 100.0 * float((_ordinary() < score).mean()), box)


# Splices.


@lru_cache(maxsize=1)
def _classes() -> Array:
    """The class of each run of four quantised residuals [81]: a run, its reverse and its negative are one."""

    def least(code: int) -> int:
        run = [code // LEVELS**place % LEVELS for place in range(ORDER)]
        negative = [LEVELS - 1 - one for one in run]
        ways = (run, run[::-1], negative, negative[::-1])
        return min(sum(one * LEVELS**place for place, one in enumerate(way)) for way in ways)

    names = [least(code) for code in range(LEVELS**ORDER)]
    return np.array([sorted(set(names)).index(name) for name in names])


def splice(frames: list[Array]) -> tuple[float, tuple[float, float, float, float]]:
    """How foreign the most foreign region of a picture or a video is to the rest, and where it lies."""
    held = [_cooccurrences(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)) for frame in frames]
    counts = np.sum([one[0] for one in held], axis=0)
    light, energy = (np.mean([one[part] for one in held], axis=0) for part in (1, 2))
    distance = _outlying(np.sqrt(counts / counts.sum(-1, keepdims=True)), light, energy)
    smooth = cv2.GaussianBlur(np.log1p(distance).astype(np.float32), (0, 0), 1.2)
    level = float(np.median(smooth))
    score = float(smooth.max()) - level
    rows, columns = np.nonzero(_around_peak(smooth, level + score / 2))
    height, width = frames[0].shape[:2]
    top, left = rows.min() * STRIDE / height, columns.min() * STRIDE / width
    bottom, right = (rows.max() * STRIDE + BLOCK) / height, (columns.max() * STRIDE + BLOCK) / width
    return score, (left, top, min(1.0, right), min(1.0, bottom))


def _cooccurrences(luma_HW: Array) -> tuple[Array, Array, Array]:
    """Counts of residual runs in each block [rows, columns, classes], its mean light and its residual's energy."""
    classes = _classes()
    count = int(classes.max()) + 1
    height, width = luma_HW.shape
    rows = np.arange(0, height - BLOCK + 1, STRIDE)[:, None]
    columns = np.arange(0, width - BLOCK + 1, STRIDE)[None]
    kernel = np.array([[1.0, -3.0, 3.0, -1.0]], np.float32)
    residuals = [cv2.filter2D(luma_HW, cv2.CV_32F, one, borderType=cv2.BORDER_REFLECT) for one in (kernel, kernel.T)]
    step = 2 * max(0.5, float(np.median(np.abs(residuals[0]))))
    counts = []
    for residual in residuals:
        level = np.clip(np.rint(residual / step), -1, 1).astype(np.int64) + 1
        runs = [sum(LEVELS**place * np.roll(level, -place, axis) for place in range(ORDER)) for axis in (0, 1)]
        names = [classes[run].astype(np.uint8) for run in runs]
        planes = (sum((one == name).astype(np.uint8) for one in names) for name in range(count))
        counts.append(_block_sums(planes, rows, columns))
    light = _block_sums([luma_HW], rows, columns)[..., 0] / BLOCK**2
    energy = _block_sums([residuals[0] ** 2], rows, columns)[..., 0] / BLOCK**2
    return np.concatenate(counts, -1), light, np.sqrt(np.maximum(energy, 0))


def _block_sums(planes: Iterable[Array], rows: Array, columns: Array) -> Array:
    """The sums of planes [H, W] over blocks [rows, columns, planes], by integral images, one plane at a time."""
    below, beyond = rows + BLOCK, columns + BLOCK
    sums = []
    for plane in planes:
        whole = cv2.integral(plane, sdepth=cv2.CV_64F)
        sums.append(whole[below, beyond] - whole[rows, beyond] - whole[below, columns] + whole[rows, columns])
    return np.stack(sums, -1)


def _outlying(features_RCF: Array, light_RC: Array, energy_RC: Array) -> Array:
    """The Mahalanobis distance of each block from the bulk of all, what light and energy explain taken out."""
    rows, columns, size = features_RCF.shape
    flat = features_RCF.reshape(-1, size)
    u, s, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    kept = u[:, :COMPONENTS] * s[:COMPONENTS]
    light, energy = light_RC.ravel() / 255, np.log(energy_RC.ravel() + 0.5)
    explained = np.stack([np.ones_like(light), light, light**2, energy, energy**2], 1)
    kept = kept - explained @ np.linalg.lstsq(explained, kept, rcond=None)[0]
    inside = np.ones(len(kept), bool)
    distance = np.zeros(len(kept))
    for _ in range(5):  # the bulk is four fifths: what is foreign must not make its own norm
        apart = kept - kept[inside].mean(0)
        spread = np.cov(apart[inside].T) + 1e-9 * np.eye(kept.shape[1])
        distance = np.einsum("nc,cd,nd->n", apart, np.linalg.inv(spread), apart)
        inside = distance <= np.quantile(distance, 0.8)
    return distance.reshape(rows, columns)


def _around_peak(smooth: Array, level: float) -> Array:
    """The connected part above a level that holds the highest value."""
    _, labels = cv2.connectedComponents((smooth >= level).astype(np.uint8))
    return np.asarray(labels == labels.flat[int(smooth.argmax())])


@lru_cache(maxsize=1)
def _ordinary() -> Array:
    """The scores of ordinary files."""
    return np.array(json.loads(CALIBRATION.read_text())["ordinary"])
