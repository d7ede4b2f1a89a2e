"""Stock pipelines load a folder that we saved and give our latents: float32, max|a-b| / max|b| at most 1e-4.

Text to video through `WanPipeline`, image to video through `WanImageToVideoPipeline` with a timestep for each token,
with the same noise, guidance and schedule, at the pipelines' default text length and at 512.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from sorano.models import checkpoint
from sorano.models.wan import transformer as transformer_module
from sorano.models.wan.text_encoder import TextTokens
from sorano.presets import PRESETS
from sorano.sampling import schedule as schedule_module
from sorano.sampling.denoise import denoise
from sorano.sampling.schedule import SCHEDULES, read_scheduler_config
from sorano.sampling.solver import SOLVERS

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

BOUND = 1e-4
PROMPT, GUIDANCE, STEPS = "a red ball rolls left on the grass", 4.0, 5
SIZE: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 9, "max_sequence_length": 512}


@pytest.fixture(scope="module", params=["random weights", "the embedded model"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "the embedded model":
        if not PRESETS["world"].folder.is_dir():
            pytest.skip("this checkout carries no weights")
        return PRESETS["world"].folder
    folder = tmp_path_factory.mktemp("parity") / "model"
    checkpoint.save(folder, tiny.bundle())
    return folder


@pytest.fixture(scope="module")
def text_to_video(folder: Path) -> Iterator[Any]:
    yield _quiet(diffusers.WanPipeline.from_pretrained(folder))


@pytest.fixture(scope="module")
def image_to_video(text_to_video: Any) -> Iterator[Any]:
    names = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
    parts = {name: getattr(text_to_video, name) for name in names}
    yield _quiet(diffusers.WanImageToVideoPipeline(**parts, expand_timesteps=True))


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _image(spatial: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture of 4 x 6 latents."""
    return np.random.default_rng(0).integers(0, 256, (4 * spatial, 6 * spatial, 3), dtype=np.uint8)


def _ours(folder: Path, *, image: bool = False) -> tuple[checkpoint.Bundle, Tensor]:
    bundle = checkpoint.load(folder)
    name, shift = read_scheduler_config(bundle.scheduler_config)
    prompt, empty = (bundle.text_encoder.encode(bundle.tokenizer.encode([text])) for text in (PROMPT, ""))
    known: dict[str, Tensor] = {}
    if image:
        pixels = torch.from_numpy(_image(bundle.geometry.spatial)).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
        latent, mask = torch.zeros(1, 16, 3, 4, 6), torch.zeros(1, 3, 4, 6, dtype=torch.bool)
        latent[:, :, :1], mask[:, 0] = bundle.vae.encode_latent(pixels), True
        known = {"known_BCTHW": latent, "known_mask_BTHW": mask}
    steps = denoise(
        bundle.transformer, tiny.latent(1), prompt, SCHEDULES[name](STEPS, shift),
        negative_text=empty, guidance=GUIDANCE, solver=SOLVERS[name], **known,
    )  # fmt: skip
    return bundle, list(steps)[-1].latent


def _stock(pipeline: Any, output_type: str = "latent", **arguments: Any) -> Tensor:
    frames: Tensor = pipeline(
        prompt=PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=tiny.latent(1).clone(),
        output_type=output_type, **{**SIZE, **arguments},
    ).frames  # fmt: skip
    return frames


def test_text_to_video_equals_the_stock_pipeline(folder: Path, text_to_video: Any) -> None:
    bundle, latent = _ours(folder)
    assert tiny.error(latent, _stock(text_to_video)) < BOUND
    video_BCTHW = bundle.vae.decode(latent)
    assert tiny.error((video_BCTHW.transpose(1, 2) + 1) / 2, _stock(text_to_video, "pt")) < BOUND


def test_the_pipelines_default_text_length_agrees(folder: Path, text_to_video: Any) -> None:
    default = {name: value for name, value in SIZE.items() if name != "max_sequence_length"}
    frames = text_to_video(
        prompt=PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=tiny.latent(1).clone(),
        output_type="latent", **default,
    ).frames  # fmt: skip
    assert tiny.error(_ours(folder)[1], frames) < BOUND


def test_image_to_video_equals_the_stock_pipeline(folder: Path, image_to_video: Any) -> None:
    from PIL import Image

    bundle, latent = _ours(folder, image=True)
    spatial = bundle.geometry.spatial
    size = {"height": 4 * spatial, "width": 6 * spatial}
    expected = _stock(image_to_video, image=Image.fromarray(_image(spatial)), **size)
    assert tiny.error(latent, expected) < BOUND
    assert tiny.error(latent[:, :, 1:], _ours(folder)[1][:, :, 1:]) > 1e-2  # the image matters


def test_the_stock_euler_scheduler_agrees_too(tmp_path: Path, text_to_video: Any) -> None:
    euler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5.0}
    checkpoint.save(tmp_path / "euler", dataclasses.replace(tiny.bundle(), scheduler_config=euler))
    pipeline = _quiet(diffusers.WanPipeline.from_pretrained(tmp_path / "euler"))
    assert tiny.error(_ours(tmp_path / "euler")[1], _stock(pipeline)) < BOUND


def test_a_folder_that_diffusers_saved_is_loaded(tmp_path: Path, folder: Path, text_to_video: Any) -> None:
    text_to_video.save_pretrained(tmp_path / "theirs")
    assert torch.equal(_ours(tmp_path / "theirs")[1], _ours(folder)[1])


def _shift_positions(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda grids, head_dim: original((grids[0] * 1.02, *grids[1:]), head_dim)


def _weaken_norm(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, weight, heads, eps, turns=None: original(x, weight, heads, eps + 1e-2, turns)


def _short_mask(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, total=512: original(self, 226)


def _real_timesteps(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda num_steps, shift=1.0: schedule_module.Schedule(
        (made := original(num_steps, shift)).sigmas, [1000 * sigma for sigma in made.sigmas[:-1]]
    )


PERTURBATIONS = {
    "rope": (transformer_module, "rotation", _shift_positions),
    "norm": (transformer_module, "norm_heads", _weaken_norm),
    "text mask": (TextTokens, "bias", _short_mask),
}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_parity_of_the_pipelines_fails_when_a_part_is_perturbed(
    name: str, folder: Path, text_to_video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _stock(text_to_video)
    assert tiny.error(_ours(folder)[1], expected) < BOUND
    owner, attribute, change = PERTURBATIONS[name]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert tiny.error(_ours(folder)[1], expected) > 3 * BOUND


def test_whole_timesteps_are_part_of_parity(folder: Path, text_to_video: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "unipc", _real_timesteps(SCHEDULES["unipc"]))
    assert tiny.error(_ours(folder)[1], _stock(text_to_video)) > BOUND
