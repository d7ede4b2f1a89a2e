"""Samples: purity, truth, splits, and pixels that training relies on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sorano.world import render as renderer
from sorano.world.dataset import caption_of, lay, sample, samples
from sorano.world.render import FAR, render
from sorano.world.scene import SPLITS, WORLDS, draw_attributes, held_out

each_world = pytest.mark.parametrize("world", WORLDS, ids="{} world".format)

CORE = Path(__file__).parents[1] / "data" / "world_core.npz"


def test_the_core_world_keeps_its_pixels() -> None:
    """Models were trained on these; other processors may round a level differently."""
    with np.load(CORE) as data:
        for seed, frame_HWC in zip(data["seeds"], data["frames"], strict=True):
            now = sample("train", int(seed)).frames_THWC[8]
            difference = np.abs(now.astype(int) - frame_HWC)
            assert difference.max() <= 2, f"seed {seed}"


@each_world
def test_a_sample_is_a_function_of_split_and_seed_alone(world: str) -> None:
    settings = {"world": world, "num_frames": 5, "height": 24, "width": 32}
    alone = [sample("heldout", seed, **settings) for seed in range(6)]
    threaded = samples("heldout", range(6), workers=4, **settings)
    for a, b in zip(alone, threaded, strict=True):
        assert np.array_equal(a.frames_THWC, b.frames_THWC) and a.caption == b.caption
        assert np.array_equal(a.tracks_TN3, b.tracks_TN3) and np.array_equal(a.mask_THW, b.mask_THW)


def test_the_attributes_do_not_depend_on_the_settings() -> None:
    small = sample("train", 5, num_frames=5, height=16, width=16)
    wide = sample("train", 5, num_frames=9, height=24, width=48, fps=24.0, language="zh")
    assert small.attributes == wide.attributes
    assert wide.frames_THWC.shape == (9, 24, 48, 3) and wide.frames_THWC.dtype == np.uint8
    assert wide.mask_THW.shape == (9, 24, 48) and wide.depth_THW.shape == (9, 24, 48)


@each_world
def test_splits_are_disjoint(world: str) -> None:
    drawn = {split: [draw_attributes(split, seed, world) for seed in range(400)] for split in SPLITS}
    for split in ("train", "heldout", "physics"):
        assert not any(held_out(thing) for a in drawn[split] for thing in a.things)
    assert all(any(held_out(thing) for thing in a.things) for a in drawn["combinations"])
    assert sum(a == b for a, b in zip(drawn["train"], drawn["heldout"], strict=True)) < 5
    assert caption_of("train", 0, variant=0) != caption_of("train", 0, variant=3)


def test_the_physics_split_lies_outside_the_training_range() -> None:
    def roll_speeds(split: str) -> list[float]:
        found = []
        for seed in range(150):
            laid = lay(split, seed, num_frames=2)
            for n, thing in enumerate(laid.attributes.things):
                if thing.motion in ("rolls left", "rolls right"):
                    found.append(abs(laid.velocities_TN3[0, n, 0]))
        return found

    train, outside = roll_speeds("train"), roll_speeds("physics")
    assert len(train) > 10 and len(outside) > 10
    assert all(1.0 <= speed <= 1.9 for speed in train)
    assert not any(1.0 <= speed <= 1.9 for speed in outside)


@each_world
def test_masks_and_depth_agree_with_the_projected_tracks(world: str) -> None:
    checked = 0
    for seed in range(30):
        if len(draw_attributes("train", seed, world).things) > 1:
            continue  # one may hide the other
        clip = sample("train", seed, world=world, num_frames=9, height=48, width=64)
        pixel_TN2, depth_TN = clip.cameras.project(clip.tracks_TN3, 48, 64)
        for n, thing in enumerate(clip.attributes.things):
            for t in range(0, 9, 4):
                rows, columns = np.nonzero(clip.mask_THW[t] == n + 1)
                if len(rows) < 12 or rows.min() == 0 or columns.min() == 0 or columns.max() == 63:
                    continue  # cut by the frame
                if thing.kind not in ("ball", "cube", "cylinder", "torus", "capsule") or thing.motion == "swings":
                    continue  # the centre of its outline is not its own centre
                middle = np.array([(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2])
                assert np.abs(middle - pixel_TN2[t, n]).max() < 2.5
                near = clip.depth_THW[t][rows, columns]
                reach = 1.4 * clip.sizes_N[n]
                assert (np.abs(near - depth_TN[t, n]) < reach).all()
                checked += 1
        assert (clip.depth_THW[clip.mask_THW > 0] < FAR).all()
        assert (clip.depth_THW[:, 0] == FAR).mean() > 0.3  # sky at the top
    assert checked > 3


def test_things_stay_in_view() -> None:
    visible = [
        (sample("train", seed, antialias=0).mask_THW == n + 1).sum((1, 2)).min()
        for seed in range(40)
        for n in range(len(draw_attributes("train", seed).things))
    ]
    assert np.mean(np.array(visible) >= 12) > 0.93


@each_world
def test_antialiasing_reduces_the_error_against_a_supersampled_picture(world: str) -> None:
    rough, smooth = [], []
    for seed in range(4):
        scene = lay("train", seed, world=world, num_frames=2, height=40, width=40).scene
        truth = render(scene, 40, 40, antialias=16, frames=slice(1, 2))[0].astype(float)
        rough.append(((render(scene, 40, 40, antialias=0, frames=slice(1, 2))[0] - truth) ** 2).mean())
        smooth.append(((render(scene, 40, 40, antialias=1, frames=slice(1, 2))[0] - truth) ** 2).mean())
    assert np.mean(smooth) < 0.35 * np.mean(rough)


def test_a_larger_picture_shows_the_same_scene() -> None:
    scene = lay("train", 3).scene
    small = render(scene, 32, 32, frames=slice(4, 5))[0][0].astype(float)
    large = render(scene, 128, 128, frames=slice(4, 5))[0][0].astype(float)
    shrunk = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 3.0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown split"):
        sample("test", 0)
    with pytest.raises(ValueError, match="unknown world"):
        sample("train", 0, world="outer")
    with pytest.raises(ValueError, match="fps"):
        sample("train", 0, fps=0.0)
    assert renderer.FAR > 1e8
