"""The Wan family's official numbers, written out: networks, settings, statistics, and what a request becomes of them.

Sources: `wan/configs` and generate.py of Wan 2.1 and 2.2; diffusers' `convert_wan_to_diffusers.py`, which writes the
hub's `config.json` files, and the defaults of its pipelines; `google/umt5-xxl` and CLIP ViT-H/14.
"""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from sorano.models.wan import sizes
from sorano.models.wan.config import VaeConfig
from sorano.presets import PRESETS
from sorano.request import Request
from sorano.resolve import resolve

# fmt: off
TRANSFORMERS = {
    #                      heads layers ffn_dim  in out image_dim added_kv pos_embed
    "wan2.1-t2v-1.3b":     (12,  30,    8960,    16, 16, None,    None,    None),
    "wan2.1-t2v-14b":      (40,  40,    13824,   16, 16, None,    None,    None),
    "wan2.1-i2v-14b-480p": (40,  40,    13824,   36, 16, 1280,    5120,    None),
    "wan2.1-i2v-14b-720p": (40,  40,    13824,   36, 16, 1280,    5120,    None),
    "wan2.1-flf2v-14b":    (40,  40,    13824,   36, 16, 1280,    5120,    514),
    "wan2.2-ti2v-5b":      (24,  30,    14336,   48, 48, None,    None,    None),
    "wan2.2-t2v-a14b":     (40,  40,    13824,   16, 16, None,    None,    None),
    "wan2.2-i2v-a14b":     (40,  40,    13824,   36, 16, None,    None,    None),
}
COLUMNS = (
    "num_attention_heads", "num_layers", "ffn_dim", "in_channels", "out_channels", "image_dim", "added_kv_proj_dim",
    "pos_embed_seq_len",
)
OF_ALL = {
    "patch_size": (1, 2, 2), "attention_head_dim": 128, "cross_attn_norm": True, "eps": 1e-6, "freq_dim": 256,
    "text_dim": 4096, "rope_max_seq_len": 1024,
}

HIGH, LOW = ("1280x720", "720x1280"), ("832x480", "480x832")
SETTINGS = {
    #                      shift steps guidance _2   boundary frames fps size, then all sizes
    "wan2.1-t2v-1.3b":     (5.0,  50, 5.0, None, None,  81,  16, "832x480", LOW),
    "wan2.1-t2v-14b":      (5.0,  50, 5.0, None, None,  81,  16, "1280x720", HIGH + LOW),
    "wan2.1-i2v-14b-480p": (3.0,  40, 5.0, None, None,  81,  16, "832x480", LOW),
    "wan2.1-i2v-14b-720p": (5.0,  40, 5.0, None, None,  81,  16, "1280x720", HIGH),
    "wan2.1-flf2v-14b":    (16.0, 50, 5.0, None, None,  81,  16, "1280x720", HIGH + LOW),
    "wan2.2-ti2v-5b":      (5.0,  50, 5.0, None, None,  121, 24, "1280x704", ("1280x704", "704x1280")),
    "wan2.2-t2v-a14b":     (12.0, 40, 4.0, 3.0,  0.875, 81,  16, "1280x720", HIGH + LOW),
    "wan2.2-i2v-a14b":     (5.0,  40, 3.5, 3.5,  0.9,   81,  16, "1280x720", HIGH + LOW),
}
ALTERNATIVES = {  # shift, steps, guidance, guidance_2
    ("wan2.1-t2v-1.3b", "readme"):  (8.0,  50, 6.0, None),
    ("wan2.1-t2v-1.3b", "hub"):     (3.0,  50, 5.0, None),
    ("wan2.1-t2v-14b", "hub"):      (3.0,  50, 5.0, None),
    ("wan2.1-i2v-14b-480p", "hub"): (3.0,  50, 5.0, None),
    ("wan2.1-i2v-14b-720p", "hub"): (3.0,  50, 5.0, None),
    ("wan2.1-flf2v-14b", "hub"):    (16.0, 50, 5.0, None),
    ("wan2.2-ti2v-5b", "hub"):      (5.0,  50, 5.0, None),
    ("wan2.2-t2v-a14b", "hub"):     (3.0,  50, 5.0, 5.0),
    ("wan2.2-i2v-a14b", "hub"):     (3.0,  50, 5.0, 5.0),
}
REPOS = {
    "wan2.1-t2v-1.3b": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "wan2.1-t2v-14b": "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "wan2.1-i2v-14b-480p": "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    "wan2.1-i2v-14b-720p": "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
    "wan2.1-flf2v-14b": "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
    "wan2.2-ti2v-5b": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    "wan2.2-t2v-a14b": "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    "wan2.2-i2v-a14b": "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
}
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，"
    "背景人很多，倒着走"
)
PREFIX = {"wan2.1-i2v-14b-480p": "镜头晃动，", "wan2.1-i2v-14b-720p": "镜头晃动，", "wan2.1-flf2v-14b": "镜头切换，"}

VAES = {
    "2.1": (sizes.VAE_2_1, {
        "base_dim": 96, "decoder_base_dim": None, "z_dim": 16, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2,
        "temperal_downsample": (False, True, True), "is_residual": False, "in_channels": 3, "out_channels": 3,
        "patch_size": None, "scale_factor_temporal": 4, "scale_factor_spatial": 8,
        "latents_mean": (
            -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
            0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
        ),
        "latents_std": (
            2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
            3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
        ),
    }),
    "2.2": (sizes.VAE_2_2, {
        "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2,
        "temperal_downsample": (False, True, True), "is_residual": True, "in_channels": 12, "out_channels": 12,
        "patch_size": 2, "scale_factor_temporal": 4, "scale_factor_spatial": 16,
        "latents_mean": (
            -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
            -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
            -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
            -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
            -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
            0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
        ),
        "latents_std": (
            0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
            0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
            0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
            0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
            0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
            0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
        ),
    }),
}
UMT5_XXL = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
    "pad_token_id": 0, "eos_token_id": 1,
}
CLIP_VIT_H = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "num_channels": 3, "image_size": 224, "patch_size": 14, "layer_norm_eps": 1e-5,
}
# fmt: on


def fields_of(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_the_tables_are_of_every_preset_of_the_family() -> None:
    names = set(PRESETS) - {"world"}
    assert names == set(TRANSFORMERS) == set(SETTINGS) == set(REPOS)
    assert {(name, other) for name in names for other, _ in PRESETS[name].alternatives} == set(ALTERNATIVES)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_networks_of_a_preset_are_the_official_ones(name: str) -> None:
    configs = PRESETS[name].read_configs()
    official = {**OF_ALL, **dict(zip(COLUMNS, TRANSFORMERS[name], strict=True))}
    assert fields_of(configs.transformer) == official
    assert configs.transformer_2 == (configs.transformer if "a14b" in name else None)
    assert configs.vae is (sizes.VAE_2_2 if name == "wan2.2-ti2v-5b" else sizes.VAE_2_1)
    assert configs.text_encoder is sizes.UMT5_XXL
    assert configs.image_encoder == (sizes.CLIP_VIT_H if name in PREFIX else None)
    assert configs.expand_timesteps == (name == "wan2.2-ti2v-5b")


@pytest.mark.parametrize("kind", VAES)
def test_the_autoencoders_are_the_official_ones(kind: str) -> None:
    config, official = VAES[kind]
    assert fields_of(config) == official
    assert VaeConfig.from_dict(config.to_dict()) == config


def test_the_encoders_are_the_official_ones() -> None:
    assert fields_of(sizes.UMT5_XXL) == UMT5_XXL
    assert fields_of(sizes.CLIP_VIT_H) == CLIP_VIT_H and sizes.CLIP_VIT_H.num_tokens == 257


def asked(name: str, tmp_path: Any, **words: Any) -> Any:
    """What a request that leaves all open becomes: what a user gets."""
    preset = PRESETS[name]
    configs = preset.read_configs()
    for flag, takes in (("image", configs.first_picture), ("last", configs.last_picture)):
        if takes == "required":
            words[flag] = tmp_path / f"{flag}.png"
            Image.new("RGB", (64, 64)).save(words[flag])
    return resolve(Request(prompt="a ball", preset=name, **words), preset, configs)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_request_gets_the_official_settings(name: str, tmp_path: Any) -> None:
    shift, steps, guidance, guidance_2, boundary, frames, fps, size, sizes = SETTINGS[name]
    job = asked(name, tmp_path)
    request = job.request
    assert (request.shift, request.num_steps, request.guidance, request.guidance_2) == (
        shift, steps, guidance, guidance_2,
    )  # fmt: skip
    assert (job.shape.num_frames, job.fps, job.shape.size) == (frames, fps, size)
    assert request.negative_prompt == PREFIX.get(name, "") + NEGATIVE
    preset = PRESETS[name]
    assert (preset.boundary, preset.sizes, preset.repo, preset.licence) == (
        boundary, sizes, REPOS[name], "Apache-2.0",
    )  # fmt: skip
    assert preset.size in preset.sizes


@pytest.mark.parametrize(("name", "settings"), ALTERNATIVES)
def test_a_request_gets_the_named_settings(name: str, settings: str, tmp_path: Any) -> None:
    job = asked(name, tmp_path, settings=settings)
    request = job.request
    found = (request.shift, request.num_steps, request.guidance, request.guidance_2)
    assert found == ALTERNATIVES[name, settings]
    assert job.preset.boundary == SETTINGS[name][4] and job.shape.size == SETTINGS[name][7]


def test_what_is_asked_comes_before_the_named_settings(tmp_path: Any) -> None:
    request = asked("wan2.1-t2v-1.3b", tmp_path, settings="readme", shift=9.5, num_steps=7).request
    assert (request.shift, request.num_steps, request.guidance) == (9.5, 7, 6.0)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_official_size_is_made_as_it_is(name: str, tmp_path: Any) -> None:
    for size in PRESETS[name].sizes:
        job = asked(name, tmp_path, size=size)
        assert job.shape.size == size and job.output_size == tuple(map(int, size.split("x")))
