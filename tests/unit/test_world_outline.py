"""Outlines of things: on renderings, on renderings that were deliberately spoiled, and on shapes made by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sorano.world import outline as outlines
from sorano.world.dataset import Sample, sample
from sorano.world.outline import (
    Silhouette,
    agreement,
    edge_width,
    load_silhouettes,
    outline,
    overlap,
    silhouette,
    thing_share,
)
from sorano.world.score import exam, load_evaluator, prepare, score

SIZE = 128


@pytest.fixture(scope="module")
def network() -> outlines.Silhouettes:
    torch.set_num_threads(min(2, torch.get_num_threads()))
    return load_silhouettes()


@pytest.fixture(scope="module")
def clips() -> list[Sample]:
    return [sample("heldout", seed, num_frames=25, height=SIZE, width=SIZE) for seed in range(6)]


def disc(radius: float, x: float = 32.0, y: float = 32.0) -> np.ndarray:
    rows, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    return (radius + 0.5 - np.hypot(rows - y, columns - x)).clip(0, 1).astype(np.float32)


def cover_of(mask_THW: np.ndarray) -> np.ndarray:
    """The true share of each of 16x16 cells that each thing covers."""
    t, h, w = mask_THW.shape
    cells = [(mask_THW == n).reshape(t, 16, h // 16, 16, w // 16).mean((2, 4)) for n in (1, 2)]
    return np.stack(cells, 1)


def blurred(frames_THWC: np.ndarray, sigma: float) -> np.ndarray:
    line = torch.exp(-0.5 * (torch.arange(-5, 6) / sigma) ** 2)
    line = (line / line.sum()).float()
    planes = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).float().flatten(0, 1)[:, None]
    planes = F.pad(planes, (5,) * 4, mode="replicate")
    planes = F.conv2d(F.conv2d(planes, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))
    return planes.view(len(frames_THWC), 3, SIZE, SIZE).permute(0, 2, 3, 1).round().byte().numpy()


def boiling(frames_THWC: np.ndarray, pixels: float) -> np.ndarray:
    """Every frame warped by a smooth field of its own."""
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(len(frames_THWC), 2, 12, 12, generator=generator)
    shift = F.interpolate(field, (SIZE, SIZE), mode="bicubic") * pixels * 2 / SIZE
    line = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    place = torch.stack([line.expand(SIZE, SIZE), line[:, None].expand(SIZE, SIZE)], -1)
    video = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).float()
    moved = F.grid_sample(video, place + shift.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    return moved.permute(0, 2, 3, 1).round().byte().numpy()


def measured(network: outlines.Silhouettes, clips: list[Sample], spoil) -> float:
    found = []
    for clip in clips:
        frames_THWC = spoil(clip.frames_THWC[:9])
        share_THW, cover = thing_share(network, frames_THWC), cover_of(clip.mask_THW[:9])
        found += [outline(frames_THWC, share_THW, cover, slot) for slot in range(len(clip.attributes.things))]
    return float(np.nanmean(found))


def test_silhouettes_agree_with_the_masks_of_held_out_renderings(network, clips):
    frames = np.concatenate([clip.frames_THWC[::8] for clip in clips])
    masks = np.concatenate([clip.mask_THW[::8] for clip in clips])
    assert agreement(thing_share(network, frames), masks) > 0.8


def test_blurred_and_boiling_outlines_fail(network, clips):
    own = measured(network, clips, lambda frames: frames)
    assert 0.75 < own < 1
    soft = [measured(network, clips, lambda frames, s=s: blurred(frames, s)) / own for s in (1.0, 2.0)]
    wild = [measured(network, clips, lambda frames, p=p: boiling(frames, p)) / own for p in (1.5, 3.0)]
    assert soft[1] < soft[0] < 0.95 and wild[1] < wild[0] < 0.95, (own, soft, wild)


def found(opacity_HW: np.ndarray, width: float = 1.0) -> Silhouette:
    return Silhouette(outlines._distance(opacity_HW > 0.5), width)


def test_a_shape_that_moves_and_grows_keeps_its_outline_and_another_shape_does_not():
    assert overlap(found(disc(12)), found(disc(12))) == 1
    assert overlap(found(disc(12)), found(disc(13.5, 36, 30))) > 0.93
    square = np.zeros((64, 64), np.float32)
    square[21:43, 21:43] = 1
    assert overlap(found(disc(12)), found(square)) < 0.88
    assert overlap(found(disc(12), 3), found(disc(12), 3)) == pytest.approx((11 / 13) ** 2, abs=0.08)


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_the_width_of_an_edge_is_measured_in_pixels(sigma):
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    inside = 30.3 - np.hypot(rows - 64, columns - 63)
    frame = [20, 160, 90] + (inside + 0.5).clip(0, 1)[..., None] * [200, -120, 30]
    soft = blurred(frame.astype(np.uint8)[None], sigma)[0]
    expected = math.hypot(math.sqrt(2 * math.pi) * sigma, 1.5)  # a sharp edge and its sampling take a pixel and a half
    assert edge_width(soft, inside) == pytest.approx(expected, rel=0.2)
    assert edge_width(np.full_like(frame, 90), inside) == 1


def test_things_at_the_border_or_near_another_are_left_out():
    frame, cover = np.zeros((64, 64, 3), np.uint8), np.zeros((2, 16, 16))
    cover[0, 6:10, 6:10] = 1
    assert silhouette(frame, disc(9), cover, 0) is not None
    assert silhouette(frame, disc(9, 2, 32), cover, 0) is None  # nothing of it lies where the cells say
    near = cover.copy()
    near[1, 6:10, 11:13] = 1
    assert silhouette(frame, disc(9), near, 0) is None
    edge = np.zeros((2, 16, 16))
    edge[0, 6:10, 0:3] = 1
    assert silhouette(frame, disc(9, 4, 32), edge, 0) is None
    three = np.stack([disc(9)] * 3)
    assert math.isnan(outline(np.stack([frame] * 3), three, np.zeros((3, 2, 16, 16)), 0))


def test_scores_tell_how_well_renderings_keep_their_outline(network):
    evaluator, paper = load_evaluator(), exam("heldout", 3, size=SIZE)
    assert prepare(paper.frames_NTHWC).shape[2:4] == (64, 64)
    scores = score(paper.frames_NTHWC, paper.attributes, evaluator=evaluator, silhouettes=network)
    assert scores.outlines and 0.5 < scores.outline < 1
    assert scores.to_dict()["outline"] == pytest.approx(scores.outline, abs=1e-4)


def test_the_network_learns_from_masks():
    generator = np.random.default_rng(0)
    masks = np.zeros((24, 32, 32), np.uint8)
    for n in range(24):
        y, x = generator.integers(4, 20, 2)
        masks[n, y : y + 8, x : x + 8] = 1
    frames = np.where(masks[..., None] > 0, np.uint8([220, 30, 30]), np.uint8([90, 120, 90])).astype(np.uint8)
    network = outlines.train_silhouettes(frames, masks, num_steps=60, batch=6, rate=1e-2, log=lambda text: None)
    assert agreement(thing_share(network, frames), masks) > 0.8
