"""A frame decoded in tiles is the frame decoded whole, to the decibels that the docstring promises, without seams."""

import math
from pathlib import Path

import pytest
import tiny
import torch

import sorano
from sorano.models import checkpoint
from sorano.models.wan import vae as module
from sorano.world.dataset import sample


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of videos in -1..1."""
    return -10 * math.log10(max(1e-30, float((a - b).square().mean()) / 4))


@pytest.fixture(scope="module")
def trained():
    folder = Path(sorano.__file__).parent / "weights" / "world"
    return checkpoint.load(folder).vae


@pytest.mark.parametrize("seed", [5, pytest.param(11, marks=pytest.mark.full)])
def test_trained_weights_give_75_decibels_and_no_seam(trained, seed):
    scale = trained.config.scale_factor_spatial
    size = 16 * scale  # 256 pixels, the smallest tile that a plan asks for
    clip = sample("heldout", seed, num_frames=9, height=24 * scale, width=32 * scale)
    video = torch.from_numpy(clip.frames_THWC.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        latent = trained.encode_latent(video)
        whole, tiled = trained.decode(latent), trained.decode_tiled(latent, size)
    assert tiled.shape == whole.shape
    assert psnr(tiled, whole) > 75
    borders = [kept.stop * scale for _, kept in module._tiles(32, 16, 4)[:-1]]
    assert len(borders) >= 2
    error = (tiled - whole).diff(dim=-1).abs().amax((0, 1, 2, 3))  # a step in the error is what a seam is
    assert max(error[column - 1] for column in borders) < 1 / 127.5  # less than one level of 255


@pytest.mark.parametrize("vae", [tiny.vae(), tiny.vae(tiny.VAE_2_1)], ids=["residual", "plain"])
def test_random_weights_give_50_decibels_in_any_chunks(vae):
    latent = torch.randn(1, 16, 3, 24, 19, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = vae.decode(latent)
        for at_once in (1, 2, 3):
            assert psnr(vae.decode_tiled(latent, 128, at_once), whole) > 50
        assert tiny.error(vae.decode_tiled(latent, 1024), whole) < 1e-5  # one tile is the whole


def test_with_a_border_as_wide_as_the_convolutions_reach_the_result_is_the_whole(monkeypatch):
    monkeypatch.setattr(module, "GUARD", 13)
    vae = tiny.vae(tiny.VAE_2_1)
    latent = torch.randn(1, 16, 2, 12, 60, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert tiny.error(vae.decode_tiled(latent, 52 * 8), vae.decode(latent)) < 1e-5


@pytest.mark.parametrize("total", range(1, 70))
def test_tiles_cover_everything_once_and_are_no_larger_than_asked(total):
    for size in (4, 16, 17, 32, 64):
        guard = min(6, size // 4)
        tiles = module._tiles(total, size, guard)
        assert [index for _, kept in tiles for index in range(total)[kept]] == list(range(total))
        for seen, kept in tiles:
            assert seen.stop - seen.start <= size
            assert seen.start == 0 or kept.start - seen.start == guard
            assert seen.stop == total or seen.stop - kept.stop == guard
