"""Training the world model: the windows it learns from, and the smoke recipe from nothing to a folder."""

import collections
import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sorano import cli
from sorano.errors import RequestError
from sorano.shapes import Geometry
from sorano.train import recipes
from sorano.train.autoencoder import psnr, to_frames, to_video
from sorano.train.clips import ClipSpec, ClipStore
from sorano.train.flow import KINDS, LatentStore, draw_window, to_latent_grid
from sorano.train.loop import step_generator

STAGES = ("autoencoder-frames", "autoencoder-clips", "reading", "flow")


def quiet(text: str) -> None:
    pass


def latent_store(num_clips: int = 6, frames: int = 7) -> LatentStore:
    """Latents whose values say which clip and latent frame they are; alone-encoded frames say their frame, negated."""
    clip, time = torch.arange(num_clips), torch.arange(frames)
    latents = (100 * clip[:, None] + time)[:, None, :, None, None].expand(-1, 16, -1, 8, 8)
    alone_frames = torch.tensor([16, 24, 3, 10]).expand(num_clips, 4)
    alone = -(alone_frames.float())[:, :, None, None, None].expand(-1, -1, 16, 8, 8)
    return LatentStore(latents.half(), alone.half(), alone_frames, Geometry(4, 8))


def windows(count: int = 600):
    clips = torch.tensor([1, 4])
    for step in range(count):
        yield draw_window(latent_store(), clips, 5, step_generator(0, step))


def test_every_kind_of_known_latents_is_drawn_as_often_as_said():
    seen = collections.Counter(window.kind for window in windows())
    assert set(seen) == set(KINDS) and sum(KINDS.values()) == pytest.approx(1)
    for kind, share in KINDS.items():
        assert seen[kind] / 600 == pytest.approx(share, abs=0.05)


def test_windows_are_laid_out_as_the_table_says():
    starts = {"middle": set(), "suffix": set()}
    for window in windows():
        data, known = window.latents_BCTHW.float(), window.known_BTHW
        first = data[:, 0, 0, 0, 0] - torch.tensor([100.0, 400.0])
        t = data.shape[2]
        assert known.shape == (2, t, 4, 4)
        by_time = known.flatten(2).all(2)
        if window.kind != "region":
            assert torch.equal(by_time, known.flatten(2).any(2))
        if window.kind in starts:
            starts[window.kind] |= set(first.tolist())
        else:
            assert (first == 0).all()
        if window.kind == "none":
            assert not known.any()
        elif window.kind == "first":
            assert by_time.nonzero()[:, 1].eq(0).all() and by_time.sum() == 2
        elif window.kind in ("prefix", "middle", "suffix"):
            row = by_time[0].int().tolist()
            expected = sorted(row, reverse=window.kind != "suffix")
            assert row == expected and 0 < sum(row) < t
        elif window.kind == "region":
            assert 0 < known.float().mean() < 1 and (known == known[:, :1]).all()
        elif window.kind == "keyframe":
            assert window.positions_BT is not None
            keys = data[:, 0, :, 0, 0] < 0
            assert keys.sum() in (2, 4) and by_time[keys].all()
            frames = -data[:, 0, :, 0, 0][keys]
            assert torch.allclose(window.positions_BT[keys].float(), frames / 4)
            assert (window.positions_BT[~keys].view(2, -1) == torch.arange(int((~keys).sum()) // 2)).all()
    assert starts["middle"] == {1.0, 2.0} and starts["suffix"] >= {0.0, 1.0, 2.0}


def test_a_mask_of_tokens_covers_their_latents():
    known = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    known[0, 1, 2, 3] = True
    grid = to_latent_grid(known, 8, 8)
    assert grid.shape == (1, 1, 2, 8, 8) and grid.sum() == 4 and grid[0, 0, 1, 4:6, 6:8].all()


def test_pixels_survive_the_way_into_the_model_and_back():
    frames = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1).repeat(3, -1)
    assert np.array_equal(to_frames(to_video(torch.from_numpy(frames))), frames)
    assert psnr(torch.tensor(0.04)).item() == pytest.approx(20)


def test_rendering_goes_on_after_a_kill(tmp_path):
    spec = ClipSpec(num_clips=3, num_frames=2, height=16, width=16)
    whole = ClipStore(tmp_path / "whole", spec)
    whole.render(quiet)
    killed = ClipStore(tmp_path / "killed", spec)
    killed.render(quiet, batch=1)
    text = (tmp_path / "killed" / "captions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed" / "captions.jsonl").write_text(text[0] + text[1][:5])
    killed.frames_NTHWC[1:] = 0
    resumed = ClipStore(tmp_path / "killed", spec)
    assert len(resumed) == 1
    resumed.render(quiet)
    assert np.array_equal(resumed.frames_NTHWC, whole.frames_NTHWC)
    assert np.array_equal(resumed.masks_NTHW, whole.masks_NTHW)
    assert resumed.captions == whole.captions


def test_a_folder_of_other_clips_is_refused(tmp_path):
    ClipStore(tmp_path, ClipSpec(num_clips=1, height=16, width=16))
    with pytest.raises(ValueError, match="holds other clips"):
        ClipStore(tmp_path, ClipSpec(num_clips=2, height=16, width=16))


def test_the_smoke_recipe_makes_a_folder_that_loads(tmp_path):
    from sorano.models import checkpoint

    recipe = recipes.find("smoke")
    folder = recipes.run(recipe, tmp_path, device="cpu", log=quiet)
    bundle = checkpoint.load(folder)
    assert bundle.transformer.config == recipe.transformer
    assert bundle.vae.config.latents_std != recipe.vae.latents_std  # measured, not the default
    stages = [tmp_path / name / "metrics.jsonl" for name in STAGES]
    assert [json.loads(path.read_text().splitlines()[-1])["step"] for path in stages] == [4, 4, 4, 6]
    saved = [path.with_name("checkpoint.safetensors") for path in stages]
    before = [path.stat().st_mtime_ns for path in saved]
    recipes.run(recipe, tmp_path, device="cpu", log=quiet)  # again: nothing is trained twice
    assert [path.stat().st_mtime_ns for path in saved] == before


def test_the_smoke_recipe_goes_on_from_its_own_weights_and_learns_from_ever_more_clips(tmp_path):
    recipe = recipes.find("smoke")
    first = recipes.run(recipe, tmp_path / "first", device="cpu", log=quiet)
    said = []
    recipes.run(recipe, tmp_path / "second", init=first, device="cpu", log=said.append)
    last = json.loads((tmp_path / "second" / "reading" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["apart"] < 1e-3  # near what the first one's text encoder says
    flow = json.loads((tmp_path / "second" / "flow" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"flow", "read_kind", "read_color", "read_motion", "read_camera"} <= set(flow)
    files = sorted(path.name for path in (tmp_path / "second" / "latents").glob("*.safetensors"))
    assert files == [f"{start:06d}.safetensors" for start in (0, 2, 4, 6)]
    assert [recipes.clips_at(recipe, step) for step in (0, 1, 2, 5, 100)] == [4, 4, 6, 8, 8]


def test_a_decoder_alone_learns_to_draw_the_same_latents_at_twice_the_size(tmp_path):
    from sorano.models import checkpoint

    small = recipes.find("smoke")
    recipe = dataclasses.replace(
        recipes.find("double"), name="smoke", num_clips=2, start_clips=2, size=64, vae=recipes._vae(8, 8, patch_size=4),
        transformer=small.transformer, text_encoder=small.text_encoder,
        decoder=recipes.StageRecipe(num_steps=3, batch_size=2, learning_rate=1e-3, num_frames=5),
    )  # fmt: skip
    with pytest.raises(RequestError, match="nothing to begin from"):
        recipes.run(recipe, tmp_path / "none", device="cpu", log=quiet)
    first = recipes.run(small, tmp_path / "small", device="cpu", log=quiet)
    second = recipes.run(recipe, tmp_path / "double", init=first, device="cpu", log=quiet)
    before, after = checkpoint.load(first), checkpoint.load(second)
    for part in ("transformer", "text_encoder"):
        pairs = zip(getattr(before, part).parameters(), getattr(after, part).parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(before.vae.latents_std, after.vae.latents_std)
    video = torch.rand(1, 3, 5, 64, 64) * 2 - 1
    small_video = torch.nn.functional.avg_pool3d(video, (1, 2, 2))
    assert torch.allclose(before.vae.encode(small_video)[0], after.vae.encode(video)[0], atol=2e-3)
    latent = after.vae.encode_latent(video)
    assert after.vae.decode(latent).shape == video.shape
    drawn = torch.nn.functional.interpolate(before.vae.decode(latent), scale_factor=(1, 2, 2))
    assert not torch.allclose(after.vae.decode(latent), drawn, atol=1e-3)


def test_the_sharp_recipe_adds_channels_beside_those_of_the_weights_that_it_begins_from(tmp_path):
    from sorano.models import checkpoint

    small = recipes.find("smoke")
    few = recipes.StageRecipe(num_steps=2, batch_size=2, learning_rate=1e-4)
    stages = {name: few for name in ("frames", "reading")}
    stages |= {name: dataclasses.replace(few, num_frames=5) for name in ("clips", "decoder")}
    recipe = dataclasses.replace(
        recipes.find("sharp"), name="smoke", num_clips=2, start_clips=2, size=32, vae=recipes._vae(8, 8, z_dim=20),
        transformer=recipes._transformer(48, 2, 2, 64, 32, channels=20), text_encoder=small.text_encoder,
        flow=dataclasses.replace(few, num_frames=17), num_frames=17, **stages,
    )  # fmt: skip
    first = recipes.run(small, tmp_path / "small", device="cpu", log=quiet)
    second = recipes.run(recipe, tmp_path / "sharp", init=first, device="cpu", log=quiet)
    before, after = checkpoint.load(first), checkpoint.load(second)
    assert (before.vae.config.z_dim, after.vae.config.z_dim, after.transformer.config.in_channels) == (16, 20, 20)
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    apart = (after.vae.encode(video)[0][:, :16] - before.vae.encode(video)[0]) / before.vae.latents_std
    assert apart.square().mean() < 0.5
    assert after.vae.encode(video)[0][:, 16:].std() > 0.1  # well above their noise


def test_heads_are_left_behind_for_the_last_third(tmp_path):
    recipe = recipes.find("smoke")
    folder = recipes.run(recipe, tmp_path, device="cpu", log=quiet)
    assert not any("head" in path.name for path in folder.rglob("*"))
    lines = [json.loads(line) for line in (tmp_path / "verbs" / "metrics.jsonl").read_text().splitlines()]
    assert "read_kind" in lines[-1]  # steps are logged together; the last ones have no reading
    weights = (tmp_path / "flow" / "checkpoint.safetensors").stat().st_size
    assert weights > 0


def test_half_of_the_captions_name_everything():
    from sorano.train.clips import phrasings
    from sorano.world.caption import parse
    from sorano.world.scene import draw_attributes

    for seed in range(20):
        truth = draw_attributes("train", seed)
        texts = phrasings(truth, seed)
        full = texts[len(texts) // 2 :]
        for text in full:
            stated = parse(text)
            for name in ("ground", "time", "camera", "relation"):
                assert getattr(stated, name) == getattr(truth.canonical(), name), text
            for said, true in zip(stated.things, truth.canonical().things, strict=True):
                for name in ("kind", "color", "size", "motion"):
                    assert getattr(said, name) == getattr(true, name), text
        assert len(full) == len(texts) / 2


def test_recipes_say_what_they_derive_without_computing():
    for recipe in recipes.RECIPES.values():
        names = [row[0] for row in recipes.describe(recipe)]
        assert {"tokens", "transformer", "training in all"} <= set(names)
        assert ("flow stage" in names) == bool(recipe.flow.num_steps)
    derived = {name: (value, why) for name, value, why in recipes.describe(recipes.find("long"))}
    assert derived["latent"] == ("16x7x8x8", "25 frames, 16x16x4") and derived["tokens"][0] == "112"
    assert recipes.weight_bytes(recipes.find("long")) <= 40e6
    with pytest.raises(RequestError, match="unknown recipe 'tpu'"):
        recipes.find("tpu")


def test_the_flow_stage_can_be_as_long_as_one_has_time():
    words = ["train", "world", "--recipe", "long", "--dry-run"]
    for extra, steps in (([], 40000), (["--flow-steps", "5800"], 5800)):
        done = CliRunner().invoke(cli.app, [*words, *extra])
        assert done.exit_code == 0 and f"{steps} steps of 32" in done.stdout
    assert CliRunner().invoke(cli.app, [*words, "--flow-steps", "0"]).exit_code == 2
