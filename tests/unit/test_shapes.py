"""Frames, pixels, latents, tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sorano.errors import RequestError
from sorano.models.wan import sizes
from sorano.shapes import Geometry, LatentShape, VideoShape, nearest_size, parse_size

WAN_2_1, WAN_2_2 = Geometry(4, 8, (1, 2, 2)), Geometry(4, 16, (1, 2, 2))


def test_a_small_clip_is_eighty_tokens():
    shape = VideoShape(17, 64, 64)
    assert WAN_2_1.latent(shape) == LatentShape(5, 8, 8)
    assert WAN_2_1.tokens(shape) == 80
    assert shape.size == "64x64"


def test_open_weights_shapes_have_their_published_tokens():
    assert WAN_2_1.tokens(VideoShape(81, 480, 832)) == 21 * 30 * 52  # Wan 2.1 1.3B at 480P
    assert WAN_2_2.tokens(VideoShape(121, 704, 1280)) == 31 * 22 * 40  # Wan 2.2 5B
    assert WAN_2_1.pixel_grid == 16 and WAN_2_2.pixel_grid == 32
    for vae, geometry in ((sizes.VAE_2_1, WAN_2_1), (sizes.VAE_2_2, WAN_2_2)):
        assert (vae.geometry.temporal, vae.geometry.spatial) == (geometry.temporal, geometry.spatial)


@pytest.mark.parametrize("num_frames", [0, -3, 2, 16, 18])
def test_frames_off_the_grid_are_refused(num_frames):
    with pytest.raises(ValueError, match="4k"):
        WAN_2_1.latent_frames(num_frames)


def test_pixels_off_the_grid_are_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        WAN_2_1.latent(VideoShape(17, 60, 64))
    with pytest.raises(ValueError, match="patches"):
        LatentShape(5, 7, 8).tokens((1, 2, 2))


@given(st.integers(1, 400), st.integers(1, 16))
def test_latent_and_video_frames_are_inverse(latents, temporal):
    geometry = Geometry(temporal, 8)
    assert geometry.latent_frames(geometry.video_frames(latents)) == latents


@given(st.floats(0.01, 60), st.floats(1, 60), st.integers(1, 16))
def test_the_nearest_length_is_on_the_grid_and_nothing_on_it_is_nearer(seconds, fps, temporal):
    geometry = Geometry(temporal, 8)
    num_frames = geometry.nearest_num_frames(seconds, fps)
    geometry.latent_frames(num_frames)
    distance = abs(num_frames - seconds * fps)
    assert distance <= abs(num_frames + temporal - seconds * fps) + 1e-6
    assert num_frames == 1 or distance <= abs(num_frames - temporal - seconds * fps) + 1e-6


def test_the_nearest_size():
    assert nearest_size(854, 480, 16) == (848, 480)
    assert nearest_size(70, 57, 16) == (64, 64)
    assert nearest_size(3, 900, 16) == (16, 896)


@pytest.mark.parametrize("text", ["832x480", " 832 X 480", "832×480", "832*480"])
def test_a_size_is_width_then_height(text):
    assert parse_size(text) == (832, 480)


@pytest.mark.parametrize("text", ["", "832", "0x64", "64x00", "-64x64", "64x64x3", "big", "1e3x64", "64.0x64"])
def test_a_size_that_is_not_two_whole_numbers_is_refused(text):
    with pytest.raises(RequestError, match="WIDTHxHEIGHT"):
        parse_size(text)
