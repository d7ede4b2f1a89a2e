"""The latent state: noise of a seed, and what is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from sorano.conditions import FirstFrame, frames_to_video, read_picture, start_state, video_to_frames
from sorano.errors import RequestError
from sorano.models import checkpoint
from sorano.models.wan.family import WAN
from sorano.shapes import LatentShape, VideoShape

LATENT = LatentShape(3, 4, 6)


class ByToken:
    """A model that takes known latents as tokens."""

    takes = "tokens"

    def __init__(self, encode):
        self.encode = encode

    def see(self, frames):
        return None


def test_one_seed_is_one_noise_alone_and_in_a_batch():
    batch = start_state([1, 2, 3], 16, LATENT).noise_BCTHW
    for index, seed in enumerate((1, 2, 3)):
        assert torch.equal(start_state([seed], 16, LATENT).noise_BCTHW[0], batch[index])
    assert not torch.equal(batch[0], batch[1])
    assert batch.dtype == torch.float32 and batch.device.type == "cpu"
    assert abs(float(batch.std()) - 1) < 0.05


def test_drawing_noise_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    start_state([1], 16, LATENT)
    assert torch.equal(torch.randn(3), expected)


def test_nothing_is_known_at_first():
    state = start_state([0], 16, LATENT)
    assert not state.any_known
    assert state.positions_T == (0.0, 1.0, 2.0)


def test_known_latents_stand_where_they_were_put():
    state = start_state([0], 16, LATENT)
    given = torch.randn(1, 16, 1, 4, 6)
    after = state.with_known(given, start=1)
    assert torch.equal(after.known_BCTHW[:, :, 1:2], given)
    assert after.known_mask_BTHW[0, :, 0, 0].tolist() == [False, True, False]
    assert torch.equal(after.noise_BCTHW, state.noise_BCTHW) and not state.any_known


def test_a_first_frame_is_encoded_alone_and_known(tiny_folder):
    vae = checkpoint.load(tiny_folder).vae
    shape = VideoShape(9, 32, 48)
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    start = start_state([0], 16, WAN.geometry.latent(shape))
    state, said = FirstFrame(picture).apply(start, shape, ByToken(vae.encode_latent))
    alone = vae.encode_latent(frames_to_video(picture[None]))
    assert alone.shape == (1, 16, 1, 4, 6)
    assert torch.equal(state.known_BCTHW[:, :, :1], alone)
    assert state.known_mask_BTHW.sum() == 4 * 6 and bool(state.known_mask_BTHW[:, 0].all())
    assert "48x32" in said and "cropped" not in said


def test_a_first_frame_of_another_aspect_says_what_is_cropped():
    shape = VideoShape(9, 32, 32)
    seen = []

    def encode(video_BCTHW):
        seen.append(video_BCTHW)
        return torch.zeros(1, 16, 1, 4, 4)

    wide = np.zeros((64, 128, 3), np.uint8)
    _, said = FirstFrame(wide).apply(start_state([0], 16, WAN.geometry.latent(shape)), shape, ByToken(encode))
    assert seen[0].shape == (1, 3, 1, 32, 32)
    assert "50% of it is cropped" in said


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_broken_picture_is_a_request_error(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=r"broken\.png"):
        read_picture(path)


def test_a_picture_is_read_from_its_file(tmp_path):
    Image.new("RGB", (20, 10), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").shape == (10, 20, 3)


def test_frames_and_video_are_inverse():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(video_to_frames(frames_to_video(frames)), frames)
    beyond = torch.tensor([-3.0, 3.0]).reshape(1, 1, 1, 1, 2).expand(1, 3, 1, 1, 2)
    assert video_to_frames(beyond)[0, 0, :, 0].tolist() == [0, 255]
