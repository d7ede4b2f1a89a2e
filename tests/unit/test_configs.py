"""Reading `config.json` files: what the official ones hold is taken, what would mean another network is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sorano.errors import CheckpointError
from sorano.models.wan import sizes
from sorano.models.wan.config import ImageEncoderConfig, TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.models.wan.configs import ModelConfigs

OFFICIAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "transformer": (sizes.T2V_14B, sizes.T2V_14B.to_dict()),
    "vae": (sizes.VAE_2_1, sizes.VAE_2_1.to_dict()),
    "text_encoder": (  # as the hub has it: fields of the first export and of the decoder among them
        sizes.UMT5_XXL,
        {
            "_name_or_path": "google/umt5-xxl", "architectures": ["UMT5EncoderModel"], "classifier_dropout": 0.0,
            "d_ff": 10240, "d_kv": 64, "d_model": 4096, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new",
            "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
            "is_encoder_decoder": True, "is_gated_act": True, "layer_norm_epsilon": 1e-06, "model_type": "umt5",
            "num_decoder_layers": 24, "num_heads": 64, "num_layers": 24, "output_past": True, "pad_token_id": 0,
            "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "scalable_attention": True,
            "tie_word_embeddings": False, "tokenizer_class": "T5Tokenizer", "torch_dtype": "float32",
            "transformers_version": "4.48.0.dev0", "use_cache": True, "vocab_size": 256384,
        },
    ),
    "image_encoder": (
        sizes.CLIP_VIT_H,
        {
            "_name_or_path": "laion/CLIP-ViT-H-14", "architectures": ["CLIPVisionModel"], "attention_dropout": 0.0,
            "dropout": 0.0, "hidden_act": "gelu", "hidden_size": 1280, "image_size": 224, "initializer_factor": 1.0,
            "initializer_range": 0.02, "intermediate_size": 5120, "layer_norm_eps": 1e-05,
            "model_type": "clip_vision_model", "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 32,
            "patch_size": 14, "projection_dim": 1024, "torch_dtype": "bfloat16", "transformers_version": "4.49.0",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("part", OFFICIAL)
def test_the_official_config_is_read(part: str) -> None:
    config, words = OFFICIAL[part]
    assert type(config).from_dict(json.loads(json.dumps(words))) == config


def test_what_transformers_writes_is_read() -> None:
    transformers = pytest.importorskip("transformers")
    text = transformers.UMT5Config(d_model=32, num_layers=3).to_dict()
    assert TextEncoderConfig.from_dict(text).num_layers == 3
    eyes = transformers.CLIPVisionConfig(hidden_act="gelu").to_dict()
    assert ImageEncoderConfig.from_dict(eyes).num_hidden_layers == 12


def test_what_a_text_encoders_file_lacks_is_what_transformers_takes() -> None:
    transformers = pytest.importorskip("transformers")
    found, stock = TextEncoderConfig.from_dict({"model_type": "umt5"}), transformers.UMT5Config()
    assert {name: getattr(stock, name) for name in TextEncoderConfig.__dataclass_fields__} == found.__dict__


WRONG = {
    "transformer": {
        "num_layers": ["two", None, 2.5, True, 0, -1, [2]],
        "num_attention_heads": [2.5, "12", 0],
        "eps": ["small", None, float("nan"), True],
        "cross_attn_norm": ["yes", None, 1],
        "patch_size": [None, 2, [1, 2], [1, 2, "2"], [], "122"],
        "attention_head_dim": [127],
        "image_dim": ["1280", 0],
        "vace_layers": [[0, 2]],
        "qk_norm": [None],
        "sinks": [4],
    },
    "vae": {
        "z_dim": ["16", 17, None],
        "latents_mean": [None, [0.0] * 15, ["0"] * 16],
        "latents_std": [[1.0] * 17],
        "temperal_downsample": [[False, True], [0, 1, 1], None],
        "dim_mult": [[1, 2, "4", 4], 4],
        "is_residual": ["no"],
        "base_dim": [None],
        "mid_block_add_attention": [True],
    },
    "text_encoder": {
        "d_model": ["4096", None, 4096.5],
        "num_layers": ["two"],
        "layer_norm_epsilon": [None],
        "pad_token_id": [-1, "0"],
        "feed_forward_proj": ["relu"],
        "dense_act_fn": ["relu"],
        "is_gated_act": [False],
        "model_type": ["t5"],
        "quantization_config": [{"bits": 4}],
        "sliding_window": [128],
    },
    "image_encoder": {
        "hidden_size": ["1280", None],
        "num_attention_heads": [2.5, 7],
        "image_size": [[224, 224]],
        "layer_norm_eps": ["1e-5"],
        "num_registers": [4],
        "hidden_act": ["quick_gelu"],
    },
}


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [(part, field, value) for part, fields in WRONG.items() for field, values in fields.items() for value in values],
)
def test_a_wrong_value_or_an_unknown_field_is_named(part: str, field: str, value: Any, tmp_path: Path) -> None:
    config, words = OFFICIAL[part]
    with pytest.raises(ValueError, match=field):
        type(config).from_dict({**words, field: value})


@pytest.mark.parametrize("name", ["latents_mean", "latents_std"])
def test_an_autoencoder_that_states_no_statistics_is_refused(name: str) -> None:
    words = {key: value for key, value in sizes.VAE_2_1.to_dict().items() if key != name}
    with pytest.raises(ValueError, match=f"{name} has 0 values"):
        VaeConfig.from_dict(words)


def test_as_many_channels_come_out_as_in_where_none_are_stated() -> None:
    words = {**sizes.TI2V_5B.to_dict(), "out_channels": None}
    assert TransformerConfig.from_dict(words) == sizes.TI2V_5B


def test_the_error_names_the_file(tmp_path: Path) -> None:
    for part, (_, words) in OFFICIAL.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(words))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    assert ModelConfigs.of_folder(tmp_path).transformer == sizes.T2V_14B
    file = tmp_path / "text_encoder" / "config.json"
    file.write_text(json.dumps({**OFFICIAL["text_encoder"][1], "num_heads": "many"}))
    with pytest.raises(CheckpointError, match=r"text_encoder/config\.json.*num_heads is 'many'"):
        ModelConfigs.of_folder(tmp_path)
