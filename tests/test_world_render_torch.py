"""The tensor renderer shows what the compiled one shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sorano.world.dataset import lay, sample, sample_batch
from sorano.world.render import render
from sorano.world.render_torch import render_batch
from sorano.world.scene import WORLDS

each_world = pytest.mark.parametrize("world", WORLDS, ids="{} world".format)


@each_world
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tensors_give_the_same_pixels(world: str, dtype: torch.dtype) -> None:
    scenes = [lay("train", seed, world=world, num_frames=3, height=32, width=40).scene for seed in range(30)]
    frames, mask, depth = (part.numpy() for part in render_batch(scenes, 32, 40, dtype=dtype))
    for clip, scene in enumerate(scenes):
        frames_THWC, mask_THW, depth_THW = render(scene, 32, 40)
        difference = np.abs(frames[clip].astype(int) - frames_THWC).max(-1)
        assert (difference <= 2).mean() >= 0.995, f"clip {clip}"
        assert (mask[clip] == mask_THW).mean() >= 0.998
        near = depth_THW < 30  # beyond, a ground point is a matter of the last bit
        assert (np.abs(depth[clip] - depth_THW)[near] < 0.02).mean() >= 0.995


def test_one_ray_per_pixel_agrees_as_well() -> None:
    scenes = [lay("heldout", seed, num_frames=2, height=24, width=24).scene for seed in range(8)]
    frames = render_batch(scenes, 24, 24, antialias=0)[0].numpy()
    truth = np.stack([render(scene, 24, 24, antialias=0)[0] for scene in scenes])
    assert (np.abs(frames.astype(int) - truth).max(-1) <= 2).mean() >= 0.998


def test_a_clip_is_the_same_alone_and_in_a_batch() -> None:
    scenes = [lay("train", seed, world="full", num_frames=2, height=24, width=24).scene for seed in range(6)]
    together = render_batch(scenes, 24, 24)[0]
    alone = render_batch(scenes[3:4], 24, 24)[0][0]
    assert (together[3].int() - alone.int()).abs().max() <= 1


def test_a_batch_of_samples_carries_captions_and_truth() -> None:
    settings = {"world": "full", "num_frames": 2, "height": 16, "width": 24}
    batch = sample_batch("train", [4, 5], **settings)
    for seed, clip in zip((4, 5), batch, strict=True):
        alone = sample("train", seed, **settings)
        assert clip.caption == alone.caption and clip.attributes == alone.attributes
        assert np.array_equal(clip.tracks_TN3, alone.tracks_TN3) and clip.frames_THWC.dtype == np.uint8
    assert sample_batch("train", [], **settings) == []


def test_clips_of_several_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        render_batch([lay("train", 0, num_frames=n).scene for n in (1, 2)], 8, 8)
