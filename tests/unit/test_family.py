"""A second family with another geometry: 8k + 1 frames, 32 x 32 pixels a latent. Only its `Family` knows."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from PIL import Image

import sorano
from sorano.conditions import Continue, Region
from sorano.errors import CheckpointError
from sorano.models import checkpoint, registry
from sorano.models.family import Family
from sorano.models.wan.config import VaeConfig
from sorano.models.wan.configs import ModelConfigs
from sorano.shapes import Geometry

EIGHT = VaeConfig(
    base_dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, temperal_downsample=(True, True, True), is_residual=True,
    patch_size=4, in_channels=48, out_channels=48, z_dim=16, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16,
    scale_factor_temporal=8, scale_factor_spatial=32,
)  # fmt: skip


def load(folder, *, device, dtype, digests, filled):
    """This family's loader: its networks are drawn, and the folder holds their configs."""
    return dataclasses.replace(tiny.bundle(), vae=tiny.vae(EIGHT).eval(), folder=folder)


FAMILY = Family(
    name="Eight",
    pipelines=("EightPipeline",),
    geometry=Geometry(8, 32, (1, 2, 2)),
    read_configs=ModelConfigs.of_folder,
    load=load,
)


class Notes(sorano.Listener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "eight"
    checkpoint.save(folder, dataclasses.replace(tiny.bundle(), vae=tiny.vae(EIGHT)))
    card = '{"size": "128x64", "num_frames": 25, "max_num_frames": 25, "fps": 8, "num_steps": 2, "guidance": 1.0, '
    card += '"known": ["first", "prefix", "middle", "suffix", "keyframe", "region"]}'
    (folder / "sorano.json").write_text(card)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "EightPipeline"}))
    registry.FAMILIES.append(FAMILY)
    yield folder
    registry.FAMILIES.remove(FAMILY)


@pytest.fixture
def make(folder, tmp_path):
    def make(name, **options):
        words = {"preset": str(folder), "seed": 1, "device": "cpu", "dtype": "float32", "upscale": 1}
        return sorano.generate("a red ball", output=tmp_path / name, **{**words, **options})

    return make


def test_a_folder_of_no_family_is_refused_with_those_that_are_run(folder, monkeypatch):
    assert registry.family_of_folder(folder) is FAMILY
    monkeypatch.setattr(registry, "FAMILIES", registry.FAMILIES[:1])
    with pytest.raises(CheckpointError, match="EightPipeline.*Sorano runs the Wan family"):
        registry.read_configs(folder)


def test_the_geometry_follows_from_the_configs(folder):
    found = sorano.load(str(folder), "cpu").preset.read_configs().geometry
    assert found == Geometry(temporal=8, spatial=32, patch=(1, 2, 2))
    assert found.pixel_grid == 64 and found.frames_rule == "8k + 1"
    assert [found.latent_frames(n) for n in (1, 9, 17)] == [1, 2, 3]


def test_text_to_video_is_made_in_its_steps(make):
    heard = Notes()
    made = make("a.mp4", num_frames=14, listener=heard)
    assert made.frames_THWC.shape == (17, 64, 128, 3)
    assert any("17 frames (8k + 1)" in note for note in heard.notes)
    assert made.report.verdict is sorano.Verdict.VERIFIED


def test_image_to_video_and_keyframes_take_pictures(make, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)).save(picture)
    plain = make("a.mp4").frames_THWC
    for options in ({"image": picture}, {"last": picture}, {"conditions": [sorano.Keyframe(1.0, picture)]}):
        made = make("b.mp4", overwrite=True, **options).frames_THWC
        assert made.shape == plain.shape and (made != plain).mean() > 0.3


def test_a_film_goes_on_window_by_window(make):
    made = make("film.mp4", seconds=5.0)
    assert len(made.frames_THWC) == 41 and made.report.verdict is sorano.Verdict.VERIFIED


def test_a_video_is_extended_and_a_region_is_made_anew(make):
    first = make("first.mp4", num_frames=17)
    longer = make("longer.mp4", seconds=1.0, conditions=[Continue(first.path)])
    assert len(longer.frames_THWC) == 17 + 8
    anew = make("anew.mp4", conditions=[Region(first.path, (0, 0, 64, 64))])
    assert anew.frames_THWC.shape == first.frames_THWC.shape


def test_going_back_makes_by_default_what_can_be_made_at_once(make):
    """Of a model whose usual clip is its longest, less than that: the given video's beginning needs room."""
    first = make("first.mp4", num_frames=25)
    earlier = make("earlier.mp4", conditions=[Continue(first.path, "backward")])
    assert len(earlier.frames_THWC) == 25 + 9
