"""The picture's preparation and the CLIP tower equal transformers', on random weights; and the tests would notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sorano.models.wan import image_encoder as image_module
from sorano.models.wan.config import ImageEncoderConfig
from sorano.models.wan.image_encoder import ImageEncoder, ImageProcessor, weight_name
from sorano.video import read_image

transformers = pytest.importorskip("transformers")

BOUND = 1e-5
TINY = ImageEncoderConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=7
)
OTHER = ImageEncoderConfig(
    hidden_size=36, intermediate_size=72, num_hidden_layers=4, num_attention_heads=3, image_size=30, patch_size=8,
    layer_norm_eps=1e-3,
)  # fmt: skip


def _encoder(config: ImageEncoderConfig = TINY, seed: int = 6) -> ImageEncoder:
    network = ImageEncoder(config)
    tiny.randomise(network, seed, std=0.3)
    return network.requires_grad_(False).eval()


def _stock(config: ImageEncoderConfig = TINY) -> Any:
    """transformers' network with the same weights, whether it names them with the prefix or without."""
    stock = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**config.to_dict())).eval()
    ours = _encoder(config).state_dict()
    stock.load_state_dict({name: ours[weight_name(name)] for name in stock.state_dict()}, strict=True)
    return stock


def _images(config: ImageEncoderConfig = TINY, batch: int = 2) -> Tensor:
    shape = (batch, config.num_channels, config.image_size, config.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def _error(config: ImageEncoderConfig = TINY, batch: int = 2) -> float:
    images = _images(config, batch)
    with torch.no_grad():
        expected = _stock(config)(images, output_hidden_states=True).hidden_states[-2]
    return tiny.error(_encoder(config).encode(images), expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", [TINY, OTHER], ids=["usual", "other"])
def test_the_tokens_equal_transformers_before_its_last_layer(config: ImageEncoderConfig, batch: int) -> None:
    assert _error(config, batch) < BOUND


def _with_eps(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, width, eps: original(self, width, eps + 1e-3)


def _early(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, images: original(self, images) + 0.01 * self.position_embedding.weight.roll(1, 0)


PERTURBATIONS = {
    "norms": (image_module.AffineNorm, "__init__", _with_eps),
    "positions": (image_module.Embeddings, "forward", _early),
    "GELU": (
        image_module.ImageMlp,
        "forward",
        lambda original: lambda self, x: self.fc2(nn.functional.gelu(self.fc1(x), approximate="tanh")),
    ),
    "attention": (image_module, "attention", lambda original: lambda q, k, v: original(q, k, v, scale=0.35)),
}  # fmt: skip


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_parity_fails_when_a_part_is_perturbed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _error() < BOUND
    owner, attribute, change = PERTURBATIONS[name]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert _error() > 3 * BOUND


def test_the_last_layer_and_the_norm_after_it_change_nothing() -> None:
    encoder, images = _encoder(), _images()
    expected = encoder.encode(images)
    with torch.no_grad():
        for part in (encoder.vision_model.encoder.layers[-1], encoder.vision_model.post_layernorm):
            for weight in part.parameters():
                weight.fill_(torch.nan)
    assert torch.equal(encoder.encode(images), expected)


def test_bfloat16_products_stay_near_float32() -> None:
    encoder, images = _encoder(), _images()
    found = encoder.encode(images.bfloat16())
    assert found.dtype == torch.float32
    assert tiny.error(found, encoder.encode(images)) < 0.05


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 28, 27\].*\[3, 28, 28\]"):
        _encoder().encode(torch.zeros(1, 3, 28, 27))


def test_names_and_shapes_at_full_size_are_transformers() -> None:
    config = ImageEncoderConfig()
    with torch.device("meta"):
        ours = ImageEncoder(config)
        stock = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**config.to_dict()))
    expected = {weight_name(name): tensor.shape for name, tensor in stock.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    assert config.parameters() == sum(weight.numel() for weight in ours.parameters())
    assert round(config.parameters() / 1e6, 2) == 630.77  # ViT-H/14 without its projection
    assert config.num_tokens == 257


def test_a_folder_that_transformers_wrote_is_loaded_strictly(tmp_path: Path) -> None:
    _stock().save_pretrained(tmp_path)
    assert ImageEncoderConfig.from_dict(json.loads((tmp_path / "config.json").read_text())) == TINY
    tensors = {weight_name(name): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    network = ImageEncoder(TINY)
    network.load_state_dict(tensors, strict=True)
    assert torch.equal(network.encode(_images()), _encoder().encode(_images()))


def test_names_of_old_files_and_of_new_memory_are_understood() -> None:
    assert weight_name("vision_model.embeddings.position_ids") is None
    assert weight_name("vision_model.embeddings.class_embedding") == "vision_model.embeddings.class_embedding"
    assert weight_name("embeddings.class_embedding") == "vision_model.embeddings.class_embedding"


def test_what_we_write_transformers_loads(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps(TINY.to_dict()))
    save_file(_encoder().state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    stock = transformers.CLIPVisionModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = stock(_images(), output_hidden_states=True).hidden_states[-2]
    assert tiny.error(_encoder().encode(_images()), expected) < BOUND


def test_configs_are_read_as_transformers_reads_them() -> None:
    assert ImageEncoderConfig.from_dict(ImageEncoderConfig().to_dict()) == ImageEncoderConfig()
    sparse = {"model_type": "clip_vision_model", "hidden_act": "gelu"}
    stock = transformers.CLIPVisionConfig(**sparse)
    found = ImageEncoderConfig.from_dict(sparse)
    assert all(getattr(found, name) == getattr(stock, name) for name in ImageEncoderConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "siglip_vision_model"}, "model_type is 'siglip_vision_model'"),
        ({"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'"),
        ({"image_size": [224, 224]}, "image_size is"),
        ({"num_attention_heads": 7}, "7 heads"),
    ],
)
def test_another_kind_of_encoder_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ImageEncoderConfig.from_dict({**ImageEncoderConfig().to_dict(), **change})


def test_costs_are_counted_exactly() -> None:
    for config in (TINY, OTHER):
        encoder = _encoder(config)
        assert config.parameters() == sum(weight.numel() for weight in encoder.parameters())
        with FlopCounterMode(display=False) as counter:
            encoder.encode(_images(config, batch=2))
        assert counter.get_total_flops() == config.flops(batch=2)
    assert ImageEncoderConfig().weight_bytes(2) == 2 * ImageEncoderConfig().parameters()


def test_peak_bytes_is_at_least_what_a_pass_holds() -> None:
    config, encoder = TINY, _encoder()
    with torch.profiler.profile(profile_memory=True) as profile:
        encoder.encode(_images())
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    assert 0 < most <= config.peak_bytes(batch=2)


def _stock_processor(**settings: Any) -> Any:
    """transformers' processor that works with PIL, whatever this version calls it."""
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return kind(**settings)


def _picture(rows: int, columns: int, seed: int = 8) -> np.ndarray:
    """Noise over slow waves, so that both the filter's reach and its rounding show."""
    noise = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3))
    waves = 127 + 127 * np.sin(np.arange(rows)[:, None, None] / 9 + np.arange(columns)[:, None] / 7 + np.arange(3))
    return ((noise + 3 * waves) / 4).astype(np.uint8)


SIZES = [(224, 224), (480, 832), (833, 481), (301, 97), (97, 301), (31, 17), (225, 224), (224, 449), (1, 3)]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_a_picture_is_prepared_as_transformers_prepares_it(rows: int, columns: int) -> None:
    frame = _picture(rows, columns)
    expected = _stock_processor()(images=Image.fromarray(frame), return_tensors="pt").pixel_values
    found = ImageProcessor()(frame)
    assert found.shape == expected.shape == (1, 3, 224, 224)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) <= 1e-6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA"])
def test_grey_and_transparent_files_are_prepared_as_what_was_read_of_them(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(_picture(120, 200))
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(_picture(120, 200, seed=9)[..., 0]))
    picture.convert(mode).save(tmp_path / "picture.png")
    frame = read_image(tmp_path / "picture.png")
    expected = _stock_processor()(images=Image.fromarray(frame), return_tensors="pt").pixel_values
    assert float((ImageProcessor()(frame) - expected).abs().max()) <= 1e-6


def test_settings_are_those_of_the_file(tmp_path: Path) -> None:
    stock = _stock_processor(
        size={"shortest_edge": 40},
        crop_size={"height": 28, "width": 36},
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2] * 3,
    )
    stock.save_pretrained(tmp_path)
    processor = ImageProcessor.from_dict(json.loads((tmp_path / "preprocessor_config.json").read_text()))
    frame = _picture(90, 50)
    expected = stock(images=Image.fromarray(frame), return_tensors="pt").pixel_values
    assert float((processor(frame) - expected).abs().max()) <= 1e-6
    assert ImageProcessor.from_dict(processor.to_dict()) == processor
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))
    again = type(stock).from_pretrained(tmp_path)
    assert torch.equal(again(images=Image.fromarray(frame), return_tensors="pt").pixel_values, expected)


def test_settings_of_old_files_are_understood() -> None:
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3}
    assert ImageProcessor.from_dict(old) == ImageProcessor()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"do_center_crop": False}, "do_center_crop is False"),
        ({"resample": 2}, "resample is 2"),
        ({"size": {"height": 224, "width": 224}}, "shortest edge"),
        ({"crop_size": 256}, "inside it"),
    ],
)
def test_other_steps_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ImageProcessor.from_dict({**ImageProcessor().to_dict(), **change})
