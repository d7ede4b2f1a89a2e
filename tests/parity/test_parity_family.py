"""Every kind of the Wan family against diffusers: random weights, float32, CPU, small sizes.

Networks: max|a-b| / max|b| at most 1e-5. Whole pipelines, from the same seed to the final latent: at most 1e-4.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from sorano.listener import Listener
from sorano.models import checkpoint
from sorano.models.wan import sizes
from sorano.models.wan import transformer as transformer_module
from sorano.models.wan.config import TransformerConfig
from sorano.models.wan.text_encoder import TextEncoder, TextTokens
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder
from sorano.pipeline import Model, denoise, encode_text, start
from sorano.plan.machine import Machine
from sorano.presets import PRESETS, find_preset
from sorano.request import Request
from sorano.resolve import resolve
from sorano.sampling import schedule as schedule_module
from sorano.sampling import solver as solver_module

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

NETWORK, PIPELINE = 1e-5, 1e-4
PROMPT, NEGATIVE, STEPS, SEED = "a red ball rolls left on the grass", "at noon", 6, 11
MACHINE = Machine(device="cpu", dtype="float32", flops_per_second=1e11, free_bytes=None, reason="a test")
KINDS = ("t2v", "i2v", "flf2v", "ti2v", "t2v-a14b", "i2v-a14b")


def bundle_of(kind: str) -> checkpoint.Bundle:
    """A tiny model of each kind, with random weights."""
    if kind == "ti2v":
        return tiny.bundle()
    bundle = dataclasses.replace(tiny.bundle(), vae=tiny.vae(tiny.VAE_2_1), expand_timesteps=False)
    config = tiny.TRANSFORMER
    if "i2v" in kind or kind == "flf2v":
        config = dataclasses.replace(config, in_channels=36)
    if kind in ("i2v", "flf2v"):
        tokens = 2 * tiny.IMAGE_ENCODER.num_tokens if kind == "flf2v" else None
        width = tiny.IMAGE_ENCODER.hidden_size
        config = dataclasses.replace(config, image_dim=width, added_kv_proj_dim=config.width, pos_embed_seq_len=tokens)
        bundle = dataclasses.replace(bundle, image_encoder=tiny.image_encoder(), image_processor=tiny.image_processor())
    bundle = dataclasses.replace(bundle, transformer=tiny.transformer(config))
    if "a14b" in kind:
        bundle = dataclasses.replace(bundle, transformer_2=tiny.transformer(config, seed=9), boundary=0.9)
    return bundle


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, written by us."""
    made = {}
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp("family") / kind
        checkpoint.save(made[kind], bundle_of(kind))
    return made


def picture(number: int, tmp_path: Path, height: int = 32, width: int = 48) -> Path:
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = tmp_path / f"{number}-{width}.png"
    Image.fromarray(pixels).save(file)
    return file


def words(kind: str, tmp_path: Path) -> dict[str, Any]:
    """What is asked of each kind."""
    given: dict[str, Any] = {"guidance": 4.0, "shift": 5.0}  # not the folders' 3.0: what is asked has to count
    if kind not in ("t2v", "t2v-a14b"):
        given["image"] = picture(0, tmp_path)
    if kind == "flf2v":
        given["last"] = picture(1, tmp_path)
    if "a14b" in kind:
        given["guidance_2"] = 2.5
    return given


def ours(folder: Path, *, boundary: float | None = None, steps: int = STEPS, **given: Any) -> Tensor:
    preset = dataclasses.replace(find_preset(folder), boundary=boundary)
    request = Request(
        prompt=PROMPT, negative_prompt=NEGATIVE, preset=str(folder), size="48x32", seconds=9 / 16, seed=SEED,
        num_steps=steps, **given,
    )  # fmt: skip
    job = resolve(request, preset, preset.read_configs())
    model, listener = Model(preset, MACHINE, checkpoint.load(folder)), Listener()
    text, state = encode_text(model, job), start(model, job, listener)
    return denoise(model, job, text, state, listener)


def stock(
    folder: Path, kind: str, output_type: str = "latent", *, boundary: float | None = None, steps: int = STEPS,
    euler: bool = False, **given: Any,
) -> Tensor:  # fmt: skip
    """The latent, or the frames, of diffusers' pipeline for the folder, from the same seed."""
    from PIL import Image

    pipeline = load_stock(folder, kind)
    if euler:
        pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=given["shift"])
    else:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, flow_shift=given["shift"])
    if boundary is not None:
        pipeline.register_to_config(boundary_ratio=boundary)
    call: dict[str, Any] = {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "height": 32, "width": 48, "num_frames": 9,
        "num_inference_steps": steps, "guidance_scale": given["guidance"], "output_type": output_type,
        "generator": torch.Generator().manual_seed(SEED), "max_sequence_length": 512,
    }  # fmt: skip
    if "guidance_2" in given:
        call["guidance_scale_2"] = given["guidance_2"]
    for ours_name, theirs in (("image", "image"), ("last", "last_image")):
        if ours_name in given:
            call[theirs] = Image.open(given[ours_name])
    latent: Tensor = pipeline(**call).frames
    return latent


def load_stock(folder: Path, kind: str) -> Any:
    takes_image = kind not in ("t2v", "t2v-a14b")
    parts: dict[str, Any] = {}
    if kind in ("i2v", "flf2v"):
        parts["image_processor"] = tiny.stock_image_processor()
    if kind == "ti2v":
        base = diffusers.WanPipeline.from_pretrained(folder)
        names = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
        pipeline = diffusers.WanImageToVideoPipeline(
            **{name: getattr(base, name) for name in names}, expand_timesteps=True
        )
    else:
        loader = diffusers.WanImageToVideoPipeline if takes_image else diffusers.WanPipeline
        pipeline = loader.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_of_each_kind_gives_the_stock_latent(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    given = words(kind, tmp_path)
    assert tiny.error(ours(folders[kind], **given), stock(folders[kind], kind, **given)) < PIPELINE


@pytest.mark.parametrize("kind", ["i2v", "flf2v", "ti2v", "i2v-a14b"])
def test_a_picture_larger_than_the_video_gives_the_stock_latent(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """The video begins with the picture made smaller; what attends to the picture sees all of it."""
    given = words(kind, tmp_path)
    for number, name in enumerate(("image", "last")):
        if name in given:
            given[name] = picture(number, tmp_path, 64, 96)
    assert tiny.error(ours(folders[kind], **given), stock(folders[kind], kind, **given)) < PIPELINE


@pytest.mark.parametrize("kind", ["i2v", "flf2v"])
def test_a_transformer_that_attends_to_images_equals_the_stock_one(kind: str, folders: dict[str, Path]) -> None:
    bundle = checkpoint.load(folders[kind])
    theirs = diffusers.WanTransformer3DModel.from_pretrained(folders[kind] / "transformer")
    generator = torch.Generator().manual_seed(2)
    count = (2 if kind == "flf2v" else 1) * tiny.IMAGE_ENCODER.num_tokens
    image_BSD = torch.randn(1, count, tiny.IMAGE_ENCODER.hidden_size, generator=generator)
    latent_BCTHW = torch.randn(2, 36, 3, 4, 6, generator=generator)
    text, time_B = tiny.text((7, 4)), torch.tensor([700.0, 700.0])
    prepared = bundle.transformer.prepare_text(text, image_BSD=image_BSD)
    padded = torch.nn.functional.pad(text.text_BSD, (0, 0, 0, 512 - text.text_BSD.shape[1]))
    halves = image_BSD.view(-1, tiny.IMAGE_ENCODER.num_tokens, image_BSD.shape[-1])  # the stock one joins two images
    with torch.no_grad():
        made = bundle.transformer(latent_BCTHW, time_B, prepared)
        for item in range(2):
            reference = theirs(
                latent_BCTHW[item : item + 1], time_B[:1], padded[item : item + 1],
                encoder_hidden_states_image=halves, return_dict=False,
            )[0]  # fmt: skip
            assert tiny.error(made[item : item + 1], reference) < NETWORK


def test_every_picture_matters(folders: dict[str, Path], tmp_path: Path) -> None:
    given = words("flf2v", tmp_path)
    latent = ours(folders["flf2v"], **given)
    for name in ("image", "last"):
        assert tiny.error(ours(folders["flf2v"], **{**given, name: picture(5, tmp_path)}), latent) > 1e-3


def test_both_experts_and_their_guidance_matter(folders: dict[str, Path], tmp_path: Path) -> None:
    given = words("t2v-a14b", tmp_path)
    latent = ours(folders["t2v-a14b"], **given)
    for change in ({"guidance": 1.0}, {"guidance_2": 1.0}):
        assert tiny.error(ours(folders["t2v-a14b"], **{**given, **change}), latent) > 1e-3


@pytest.mark.parametrize("kind", ["t2v", "ti2v", "flf2v"])
def test_the_shift_of_the_folder_counts_where_none_is_asked(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    asked = words(kind, tmp_path)
    silent = {**asked, "shift": None}
    assert tiny.error(ours(folders[kind], **silent), stock(folders[kind], kind, **{**asked, "shift": 3.0})) < PIPELINE
    assert tiny.error(ours(folders[kind], **silent), ours(folders[kind], **asked)) > 1e-3


@pytest.mark.parametrize("kind", ["t2v-a14b", "i2v-a14b"])
def test_the_boundary_of_a_preset_counts_before_the_folders(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    given = {**words(kind, tmp_path), "boundary": 0.7}
    found = ours(folders[kind], **given)
    assert tiny.error(found, stock(folders[kind], kind, **given)) < PIPELINE
    assert tiny.error(found, ours(folders[kind], **{**given, "boundary": None})) > 1e-3


def test_the_first_expert_has_the_step_at_the_boundary(folders: dict[str, Path], tmp_path: Path) -> None:
    given = {**words("t2v-a14b", tmp_path), "shift": 3.0, "steps": 4}
    assert 1000 * 0.9 in schedule_module.unipc_schedule(4, 3.0).timesteps  # 0.9 is the folder's boundary
    expected = stock(folders["t2v-a14b"], "t2v-a14b", **given)
    assert tiny.error(ours(folders["t2v-a14b"], **given), expected) < PIPELINE


@pytest.mark.parametrize("kind", KINDS)
def test_eulers_method_gives_the_stock_latent_too(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    given = words(kind, tmp_path)
    folder = shutil.copytree(folders[kind], tmp_path / "euler")
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    assert tiny.error(ours(folder, **given), stock(folders[kind], kind, euler=True, **given)) < PIPELINE


def _later_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    from sorano.sampling import denoise

    by_noise = denoise.by_noise
    monkeypatch.setattr(denoise, "by_noise", lambda a, b, schedule, boundary: by_noise(a, b, schedule, boundary - 0.3))


def _more_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = schedule_module.shifted
    monkeypatch.setattr(schedule_module, "shifted", lambda sigma, shift: shifted(sigma, shift * 1.05))


def _weaker_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = transformer_module.norm_heads
    monkeypatch.setattr(
        transformer_module, "norm_heads", lambda x, w, heads, eps, turns=None: norm(x, w, heads, eps + 0.01, turns)
    )


def _turned_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = transformer_module.rotation
    monkeypatch.setattr(transformer_module, "rotation", lambda grids, dim: rotation((grids[0] * 1.02, *grids[1:]), dim))


def _late_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    from sorano.conditions import LatentState

    put, know = LatentState.with_frame, LatentState.with_known
    monkeypatch.setattr(LatentState, "with_frame", lambda self, place, *frame: put(self, max(place, 1), *frame))
    monkeypatch.setattr(LatentState, "with_known", lambda self, latent, *, start=0: know(self, latent, start=start + 1))


def _short_text_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    bias = TextTokens.bias
    monkeypatch.setattr(TextTokens, "bias", lambda self, total=512: bias(self, 226))


def _no_corrector(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = solver_module._predicted
    monkeypatch.setattr(
        solver_module, "_corrected", lambda x, sigma, after, seen, m, order: predicted(x, sigma, after, seen, order)
    )


def _real_timesteps(monkeypatch: pytest.MonkeyPatch) -> None:
    make = schedule_module.unipc_schedule

    def with_fractions(num_steps: int, shift: float) -> Any:
        made = make(num_steps, shift)
        return schedule_module.Schedule(made.sigmas, [1000 * sigma for sigma in made.sigmas[:-1]])

    monkeypatch.setitem(schedule_module.SCHEDULES, "unipc", with_fractions)


SPOILERS = [_more_shift, _weaker_norm, _turned_positions, _short_text_mask, _no_corrector, _real_timesteps]


@pytest.mark.parametrize("kind", KINDS)
def test_parity_fails_when_something_is_spoilt(
    kind: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = words(kind, tmp_path)
    expected = stock(folders[kind], kind, **given)
    spoilers = [*SPOILERS, *([_late_mask] if "image" in given else []), *([_later_boundary] if "a14b" in kind else [])]
    for spoil in spoilers:
        with monkeypatch.context() as patched:
            spoil(patched)
            assert tiny.error(ours(folders[kind], **given), expected) > PIPELINE, spoil.__name__
    assert tiny.error(ours(folders[kind], **given), expected) < PIPELINE  # nothing stays spoilt


# At full size, without memory.

OFFICIAL = {
    "T2V-1.3B": (sizes.T2V_1_3B, {}),
    "T2V-14B": (sizes.T2V_14B, {}),
    "I2V-14B": (sizes.I2V_14B, {}),
    "FLF2V-14B": (sizes.FLF2V_14B, {}),
    "TI2V-5B": (sizes.TI2V_5B, {}),
    "I2V-A14B": (sizes.I2V_A14B, {}),
}


def table(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", OFFICIAL)
def test_at_full_size_names_and_shapes_are_the_stock_ones(name: str) -> None:
    config: TransformerConfig = OFFICIAL[name][0]
    words = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    with torch.device("meta"):
        mine, theirs = VideoTransformer(config), diffusers.WanTransformer3DModel(**words)
    assert table(mine) == table(theirs)
    assert config.parameters() == sum(tensor.numel() for tensor in theirs.parameters())


@pytest.mark.parametrize("config", [sizes.VAE_2_1, sizes.VAE_2_2], ids=["2.1", "2.2"])
def test_the_autoencoders_at_full_size_are_the_stock_ones(config: Any) -> None:
    words = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    with torch.device("meta"):
        mine, theirs = VideoAutoencoder(config), diffusers.AutoencoderKLWan(**words)
    assert table(mine) == table(theirs)
    assert config.parameters() == sum(tensor.numel() for tensor in theirs.parameters())


def test_the_text_encoder_at_full_size_is_the_stock_one() -> None:
    words = sizes.UMT5_XXL.to_dict()
    with torch.device("meta"):
        mine = TextEncoder(sizes.UMT5_XXL)
        theirs = transformers.UMT5EncoderModel(transformers.UMT5Config(**words))
    theirs_table = table(theirs)
    theirs_table.pop("encoder.embed_tokens.weight", None)  # tied to shared.weight
    assert table(mine) == theirs_table


def test_presets_have_the_official_networks_and_known_pictures() -> None:
    pictures = {
        name: (preset.read_configs().first_picture, preset.read_configs().last_picture)
        for name, preset in PRESETS.items()
    }
    assert pictures["wan2.1-t2v-1.3b"] == pictures["wan2.2-t2v-a14b"] == ("none", "none")
    assert pictures["wan2.1-i2v-14b-480p"] == pictures["wan2.1-i2v-14b-720p"] == ("required", "none")
    assert pictures["wan2.1-flf2v-14b"] == ("required", "required")
    assert pictures["wan2.2-ti2v-5b"] == pictures["world"] == ("optional", "none")
    assert pictures["wan2.2-i2v-a14b"] == ("required", "optional")
    billions = {name: preset.read_configs().transformer.parameters() / 1e9 for name, preset in PRESETS.items()}
    assert billions["wan2.1-t2v-1.3b"] == pytest.approx(1.42, abs=0.01)
    assert billions["wan2.1-t2v-14b"] == pytest.approx(14.29, abs=0.02)
    assert billions["wan2.2-ti2v-5b"] == pytest.approx(5.0, abs=0.05)


@pytest.mark.parametrize("kind", ["i2v", "flf2v", "t2v-a14b"])
def test_a_folder_that_the_stock_pipeline_saved_gives_the_same_latent(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    load_stock(folders[kind], kind).save_pretrained(tmp_path / "theirs")
    given = words(kind, tmp_path)
    assert torch.equal(ours(tmp_path / "theirs", **given), ours(folders[kind], **given))


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_the_stock_frames(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    given = words(kind, tmp_path)
    latent = ours(folders[kind], **given)
    with torch.no_grad():
        video_BTCHW = checkpoint.load(folders[kind]).vae.decode(latent).transpose(1, 2) / 2 + 0.5
    assert tiny.error(video_BTCHW, stock(folders[kind], kind, output_type="pt", **given)) < PIPELINE
