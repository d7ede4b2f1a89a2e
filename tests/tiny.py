"""Tiny random models for tests: every part of the real ones, in milliseconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sorano.models.checkpoint import Bundle
from sorano.models.wan.config import ImageEncoderConfig, TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.models.wan.image_encoder import ImageEncoder, ImageProcessor
from sorano.models.wan.text_encoder import TextEncoder, TextTokens, Tokenizer, build_tokenizer
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder
from sorano.sampling.schedule import scheduler_config

WORDS = ["a red ball rolls left on the grass at noon", "一个红色的球"]
TRANSFORMER = TransformerConfig(
    num_attention_heads=2, attention_head_dim=24, text_dim=32, freq_dim=64, ffn_dim=64, num_layers=2
)
TEXT_ENCODER = TextEncoderConfig(vocab_size=40, d_model=32, d_kv=12, d_ff=48, num_layers=2, num_heads=3)
VAE = VaeConfig(
    base_dim=16,
    dim_mult=(1, 2, 2),
    num_res_blocks=1,
    temperal_downsample=(True, True),
    is_residual=True,
    in_channels=12,
    out_channels=12,
    patch_size=2,
    latents_mean=tuple(0.1 * i for i in range(16)),
    latents_std=tuple(1 + 0.1 * i for i in range(16)),
)
VAE_2_1 = VaeConfig(
    base_dim=8,
    dim_mult=(1, 2, 2, 2),
    num_res_blocks=1,
    latents_mean=VAE.latents_mean,
    latents_std=VAE.latents_std,
)
IMAGE_ENCODER = ImageEncoderConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=28
)


def randomise(network: nn.Module, seed: int, std: float = 0.15) -> None:
    """Draw every weight: an initialisation that starts branches at zero would hide their errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(std=std, generator=generator)
            if "norm" in name and name.endswith("weight"):
                weight.add_(1)


def transformer(config: TransformerConfig = TRANSFORMER, seed: int = 0) -> VideoTransformer:
    network = VideoTransformer(config)
    randomise(network, seed)
    return network.requires_grad_(False).eval()


def text_encoder(config: TextEncoderConfig = TEXT_ENCODER, seed: int = 1) -> TextEncoder:
    network = TextEncoder(config)
    randomise(network, seed, std=0.3)
    return network.requires_grad_(False).eval()


def vae(config: VaeConfig = VAE, seed: int = 2) -> VideoAutoencoder:
    torch.manual_seed(seed)
    return VideoAutoencoder(config).requires_grad_(False).eval()


def image_encoder(config: ImageEncoderConfig = IMAGE_ENCODER, seed: int = 5) -> ImageEncoder:
    network = ImageEncoder(config)
    randomise(network, seed)
    return network.requires_grad_(False).eval()


def image_processor(config: ImageEncoderConfig = IMAGE_ENCODER) -> ImageProcessor:
    return ImageProcessor(shortest_edge=config.image_size, crop_size=(config.image_size, config.image_size))


def tokenizer() -> Tokenizer:
    return build_tokenizer(WORDS)


def bundle() -> Bundle:
    """The embedded model's kind: a timestep for each token."""
    return Bundle(transformer(), vae(), text_encoder(), tokenizer(), scheduler_config(3.0), True)


def text(lengths: tuple[int, ...] = (7, 4), width: int = 32, seed: int = 3) -> TextTokens:
    """Random text tokens with zeros after the real ones."""
    tokens = torch.randn(len(lengths), max(lengths) + 1, width, generator=torch.Generator().manual_seed(seed))
    for row, length in enumerate(lengths):
        tokens[row, length:] = 0
    return TextTokens(tokens, torch.tensor(lengths))


def latent(batch: int = 2, frames: int = 3, rows: int = 4, columns: int = 6, seed: int = 4) -> Tensor:
    return torch.randn(batch, 16, frames, rows, columns, generator=torch.Generator().manual_seed(seed))


def error(ours: Tensor, reference: Tensor) -> float:
    """max|a-b| / max|b|"""
    return float((ours - reference).abs().max() / reference.abs().max())


def stock_image_processor(config: ImageEncoderConfig = IMAGE_ENCODER) -> object:
    """What transformers prepares pictures with, without torchvision."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = config.image_size
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
