"""What a request is said to cost, and what fits."""

from dataclasses import replace

import pytest

from sorano.errors import CapacityError, CheckpointError
from sorano.models.wan import family
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.plan import Machine, ModelConfigs, estimate_generate, free_memory_bytes
from sorano.plan import machine as plan_machine
from sorano.plan.generate import format_bytes
from sorano.shapes import VideoShape, parse_size

WAN = ModelConfigs(  # Wan 2.1 1.3B
    transformer=TransformerConfig(num_attention_heads=12, num_layers=30, ffn_dim=8960),
    vae=VaeConfig(),
    text_encoder=TextEncoderConfig(),
)
CLIP = VideoShape(81, 480, 832)
GPU = Machine("cuda:0", "bfloat16", 5e14, free_bytes=80 * 10**9)


def test_the_plan_of_open_weights_is_near_what_is_published():
    estimate = estimate_generate(WAN, GPU, CLIP, num_steps=50)
    assert WAN.transformer.parameters() == pytest.approx(1.42e9, rel=0.02)
    assert estimate.denoise_flops == pytest.approx(50 * 2 * 2.9e14, rel=0.4)
    assert 10 < estimate.denoise_seconds < 400
    assert estimate.fits


def test_twice_the_steps_cost_twice_the_denoising_and_guidance_doubles_it():
    one = estimate_generate(WAN, GPU, CLIP, num_steps=10, guided=False)
    assert estimate_generate(WAN, GPU, CLIP, num_steps=20, guided=False).denoise_flops == 2 * one.denoise_flops
    assert estimate_generate(WAN, GPU, CLIP, num_steps=10, guided=True).denoise_flops == 2 * one.denoise_flops
    assert estimate_generate(WAN, GPU, CLIP, num_steps=20, guided=False).decode_flops == one.decode_flops


def test_what_does_not_fit_says_what_would_and_that_fits():
    small = replace(GPU, free_bytes=20 * 10**9)
    estimate = estimate_generate(WAN, small, VideoShape(241, 1088, 1920), num_steps=50, fps=16)
    assert not estimate.fits and estimate.largest_fit
    with pytest.raises(CapacityError, match="20.0 GB is free") as caught:
        estimate.require()
    assert estimate.largest_fit in str(caught.value.hint)
    _, size, _, seconds = estimate.largest_fit.split()
    width, height = parse_size(size)
    shape = VideoShape(family.WAN.geometry.nearest_num_frames(float(seconds), 16), height, width)
    assert estimate_generate(WAN, small, shape, num_steps=50).fits


def test_weights_that_do_not_fit_leave_nothing_to_offer():
    estimate = estimate_generate(WAN, replace(GPU, free_bytes=10**8), CLIP, num_steps=50)
    with pytest.raises(CapacityError, match=r"smallest video needs \d.* smaller preset"):
        estimate.require()


def test_a_system_that_does_not_say_what_is_free_stops_nobody():
    estimate = estimate_generate(WAN, replace(GPU, free_bytes=None), CLIP, num_steps=50)
    assert estimate.fits
    estimate.require()


def test_float32_needs_more_memory_than_bfloat16():
    half, full = (
        estimate_generate(WAN, replace(GPU, dtype=dtype), CLIP, num_steps=50) for dtype in ("bfloat16", "float32")
    )
    assert full.peak_bytes > half.peak_bytes


def test_free_memory_is_what_the_system_and_the_container_allow(tmp_path, monkeypatch):
    meminfo, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    meminfo.write_text("MemTotal:       2000 kB\nMemAvailable:   1000 kB\n")
    monkeypatch.setattr(plan_machine, "MEMINFO", meminfo)
    monkeypatch.setattr(plan_machine, "CGROUP_LIMITS", ((limit, used),))
    assert free_memory_bytes() == 1_024_000
    limit.write_text("max\n")
    assert free_memory_bytes() == 1_024_000
    limit.write_text("900000\n")
    used.write_text("400000\n")
    assert free_memory_bytes() == 500_000
    used.write_text("999999\n")
    assert free_memory_bytes() == 0
    meminfo.write_text("nothing")
    limit.unlink()
    assert free_memory_bytes() is None


def test_configurations_are_read_from_a_folder(tiny_folder):
    configs = ModelConfigs.of_folder(tiny_folder)
    assert configs.pixel_grid == 16
    assert configs.parameters() < 1e6


def test_a_folder_without_configurations_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"model_index\.json is missing"):
        ModelConfigs.of_folder(tmp_path)


def test_bytes_are_said_as_people_read_them():
    assert [format_bytes(count) for count in (450e6, 1.44e9, 21e9)] == ["450 MB", "1.4 GB", "21.0 GB"]
