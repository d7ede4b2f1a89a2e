"""Which preset a name, a repository or a folder stands for, and whose settings it has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sorano.errors import CheckpointError, RequestError
from sorano.models.config import DIFFUSERS_VERSION
from sorano.models.wan import family, sizes
from sorano.models.wan.configs import ModelConfigs
from sorano.presets import PRESETS, find_preset, nearest_presets, preset_of_folder, write_card
from sorano.request import Request
from sorano.resolve import resolve

WAN = [name for name, preset in PRESETS.items() if preset.repo]


def write_configs(folder: Path, configs: ModelConfigs, **index: Any) -> Path:
    """A diffusers folder without weights."""
    parts = ("transformer", "vae", "text_encoder", "transformer_2", "image_encoder")
    networks = {name: getattr(configs, name) for name in parts if getattr(configs, name) is not None}
    for name, network in networks.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(network.to_dict()))
    words = {
        "_class_name": family.WAN.pipelines[configs.transformer.condition_channels > 0],
        "_diffusers_version": DIFFUSERS_VERSION,
        "expand_timesteps": configs.expand_timesteps,
        "transformer_2": ["diffusers", "WanTransformer3DModel"] if configs.transformer_2 else [None, None],
        **index,
    }
    (folder / "model_index.json").write_text(json.dumps(words))
    return folder


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("wan2.1-t2v-1.4b", "wan2.1-t2v-14b, wan2.1-t2v-1.3b"),
        ("wan2.1-t2v", "wan2.1-t2v-1.3b, wan2.1-t2v-14b"),
        ("wan2.1", "wan2.1-t2v-1.3b, wan2.1-t2v-14b, wan2.1-i2v-14b-480p, wan2.1-i2v-14b-720p"),
        ("Wan2.2-TI2V-5B", "wan2.2-ti2v-5b"),
        ("wrld", "world"),
        ("x.y", ""),
    ],
)
def test_a_name_that_is_no_preset_gets_the_nearest(text: str, near: str) -> None:
    with pytest.raises(RequestError, match="there is no preset") as caught:
        find_preset(text)
    assert (caught.value.hint or "").startswith(f"the nearest: --preset {near}")
    assert caught.value.exit_code == 2


def test_nearest_presets_are_never_none_and_never_many() -> None:
    for text in ("", "zzz", "wan", "Wan-AI/"):
        assert 1 <= len(nearest_presets(text)) <= 4


@pytest.mark.parametrize("text", ["./wan2.1-t2v-1.3b", "~/models/wan", "/no/such/folder", "a/b/c", ".wan"])
def test_what_is_written_as_a_path_is_a_path(text: str) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        find_preset(text)


def test_a_file_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="is not a folder"):
        find_preset("model.safetensors")


@pytest.mark.parametrize("name", WAN)
def test_a_repository_of_the_family_is_its_preset(name: str) -> None:
    repo = str(PRESETS[name].repo)
    assert find_preset(repo) is find_preset(repo.lower()) is PRESETS[name]


def test_another_repository_is_looked_for_among_the_pulled() -> None:
    preset = find_preset("some-one/some-model")
    assert (preset.name, preset.repo, preset.folder) == ("some-one/some-model", "some-one/some-model", None)
    request = Request(prompt="a ball", preset="some-one/some-model", seed=1)
    assert request.to_dict()["preset"] == request.to_json()["preset"] == "some-one/some-model"


@pytest.mark.parametrize("name", WAN)
def test_a_folder_with_a_presets_networks_has_its_settings_and_says_so(name: str, tmp_path: Path) -> None:
    row = PRESETS[name]
    assert row.repo is not None and row.configs is not None
    folder = write_configs(tmp_path / row.repo.split("/")[1], row.configs, boundary_ratio=row.boundary)
    preset = find_preset(folder)
    for field in ("size", "sizes", "num_frames", "fps", "num_steps", "guidance", "guidance_2", "shift", "alternatives"):
        assert getattr(preset, field) == getattr(row, field), field
    assert preset.negative_prompt == row.negative_prompt
    assert (preset.folder, preset.repo, preset.boundary) == (folder, None, None)  # the boundary is the folder's own
    request = Request(prompt="a ball", preset=str(folder), image=None)
    assert preset.note in resolve(request, preset).notes and name in str(preset.note)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models--Wan-AI--Wan2.1-I2V-14B-720P-Diffusers/snapshots/c0ffee", "wan2.1-i2v-14b-720p"),
        ("my-720p-cats", "wan2.1-i2v-14b-720p"),
        ("my-cats", "wan2.1-i2v-14b-480p"),
    ],
)
def test_of_two_rows_with_the_same_networks_the_path_tells(path: str, name: str, tmp_path: Path) -> None:
    preset = find_preset(write_configs(tmp_path / path, PRESETS[name].read_configs()))
    assert (preset.shift, preset.size) == (PRESETS[name].shift, PRESETS[name].size) and name in str(preset.note)


def test_a_folder_of_other_statistics_or_vocabulary_is_still_of_its_family(tmp_path: Path) -> None:
    configs = PRESETS["wan2.2-ti2v-5b"].read_configs()
    other = replace(
        configs,
        vae=configs.vae.with_statistics([0.0] * 48, [1.0] * 48),
        text_encoder=replace(sizes.UMT5_XXL, vocab_size=32000),
    )
    assert find_preset(write_configs(tmp_path / "mine", other)).fps == 24


def test_a_converted_folder_with_a_boundary_and_one_expert_is_of_wan_2_1(tmp_path: Path) -> None:
    folder = write_configs(tmp_path / "mine", PRESETS["wan2.1-t2v-14b"].read_configs(), boundary_ratio=0.875)
    assert "wan2.1-t2v-14b" in str(find_preset(folder).note)


def test_a_folder_of_other_networks_has_the_defaults_of_wan_2_1_and_no_note(tmp_path: Path) -> None:
    configs = PRESETS["wan2.1-t2v-1.3b"].read_configs()
    other = replace(configs, transformer=replace(configs.transformer, num_layers=28))
    preset = find_preset(write_configs(tmp_path / "mine", other))
    assert (preset.size, preset.num_frames, preset.shift, preset.note) == ("832x480", 81, None, None)


def test_a_card_comes_before_the_settings_of_a_row(tmp_path: Path) -> None:
    folder = write_configs(tmp_path / "mine", PRESETS["wan2.2-ti2v-5b"].read_configs())
    write_card(folder, num_steps=4, guidance=1.0, size="640x352")
    preset = preset_of_folder(folder, "my-model")
    assert (preset.name, preset.num_steps, preset.guidance, preset.size) == ("my-model", 4, 1.0, "640x352")
    assert (preset.fps, preset.note) == (24, None)  # the card does not say how fast it moves


@pytest.mark.parametrize(
    ("pipeline", "whose"),
    [
        ("FluxPipeline", "FLUX"),
        ("HunyuanVideoPipeline", "HunyuanVideo"),
        ("LTXPipeline", "LTX-Video"),
        ("StableDiffusionXLPipeline", "Stable Diffusion XL"),
        ("CogVideoXPipeline", "CogVideoX"),
        ("WanVACEPipeline", "Wan's VACE"),
        ("SomethingNewPipeline", "SomethingNewPipeline"),
        (None, "of no pipeline"),
        (["WanPipeline"], "WanPipeline"),
    ],
)
def test_a_folder_of_another_family_says_whose_it_is(pipeline: Any, whose: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    with pytest.raises(CheckpointError) as caught:
        find_preset(tmp_path).read_configs()
    assert whose in caught.value.message and "model_index.json" in caught.value.message
    assert "Sorano runs the Wan family" in caught.value.message and caught.value.exit_code == 3


def test_the_embedded_folder_is_its_preset_by_any_path(tmp_path, monkeypatch):
    import shutil

    from sorano.presets import PRESETS, find_preset

    world = PRESETS["world"]
    monkeypatch.chdir(world.folder.parent)
    assert find_preset("./world") is world
    copy = tmp_path / "copy"
    shutil.copytree(world.folder, copy)
    copied = find_preset(str(copy))  # by the card that it ships
    assert (copied.size, copied.num_frames, copied.fps, copied.num_steps) == ("128x128", 25, 12, 12)
    assert copied.known == world.known and copied.small_vocabulary and copied.max_side == world.max_side


def test_a_small_folder_without_a_card_is_asked_for_small_videos(tmp_path):
    import shutil

    from sorano.presets import PRESETS, find_preset

    copy = tmp_path / "copy"
    shutil.copytree(PRESETS["world"].folder, copy)
    (copy / "sorano.json").unlink()
    preset = find_preset(str(copy))
    width = int(preset.size.split("x")[0])
    assert width <= 256 and preset.num_frames <= 33 and preset.num_steps <= 30 and preset.small_vocabulary
    assert "sorano.json" in preset.note and preset.size in preset.note
