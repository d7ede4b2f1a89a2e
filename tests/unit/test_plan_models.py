"""What a plan counts of a model equals what torch counts while the model runs, at its official size (on `meta`)."""

from dataclasses import replace

import pytest
import torch
from support.counts import FULL
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sorano.models.wan import sizes
from sorano.models.wan.config import MAX_TEXT_TOKENS
from sorano.models.wan.family import WAN
from sorano.models.wan.image_encoder import ImageEncoder
from sorano.models.wan.text_encoder import TextEncoder, TextTokens
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder
from sorano.plan.assumptions import load_assumptions
from sorano.plan.flops import find_model, of_dimensions, of_preset, published
from sorano.presets import PRESETS
from sorano.shapes import VideoShape

SMALL = VideoShape(9, 128, 192)
WORLD = of_preset(PRESETS["world"]).configs


def counted(run):
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


KINDS = ("world", "wan2.1-t2v-1.3b", "wan2.1-i2v-14b-480p", "wan2.1-flf2v-14b", "wan2.2-ti2v-5b")  # one of each shape


@pytest.mark.parametrize("name", PRESETS if FULL else KINDS)
def test_a_pass_of_every_preset_counts_as_torch_counts_it(name):
    model = of_preset(PRESETS[name])
    config, vae = model.configs.transformer, model.configs.vae
    latent = vae.geometry.latent(SMALL)
    with torch.device("meta"):
        network = VideoTransformer(config)
    size = (1, config.in_channels, latent.num_frames, latent.rows, latent.columns)
    images = None
    if model.configs.image_encoder:
        tokens = config.pos_embed_seq_len or model.configs.image_encoder.num_tokens
        images = torch.zeros(1, tokens, config.image_dim, device="meta")
    words = torch.zeros(1, MAX_TEXT_TOKENS, config.text_dim, device="meta")
    text = TextTokens(words, torch.tensor([MAX_TEXT_TOKENS - 1]))
    x, time = torch.zeros(size, device="meta"), torch.zeros(1, device="meta")
    flops = counted(lambda: network(x, time, network.prepare_text(text, image_BSD=images)))
    assert sum(weight.numel() for weight in network.parameters()) == config.parameters()
    assert model.forward(SMALL).total == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize("config", [sizes.VAE_2_1, sizes.VAE_2_2, WORLD.vae], ids=["2.1", "2.2", "world"])
def test_the_autoencoders_count_as_torch_counts_them(config):
    with torch.device("meta"):
        network = VideoAutoencoder(config)
    latent = config.geometry.latent(SMALL)
    z = torch.zeros(1, config.z_dim, latent.num_frames, latent.rows, latent.columns, device="meta")
    video = torch.zeros(1, 3, SMALL.num_frames, SMALL.height, SMALL.width, device="meta")
    decoded, encoded = counted(lambda: network.decode(z)), counted(lambda: network.encode(video))
    assert config.parameters() == sum(weight.numel() for weight in network.parameters())
    assert config.decode_flops(SMALL) == pytest.approx(decoded, rel=0.01)
    assert config.encode_flops(SMALL) == pytest.approx(encoded, rel=0.01)


@pytest.mark.parametrize("config", [sizes.UMT5_XXL, WORLD.text_encoder], ids=["umt5-xxl", "world"])
def test_the_text_encoders_count_as_torch_counts_them(config):
    with torch.device("meta"):
        network = TextEncoder(config)
    words = torch.zeros(2, 64, dtype=torch.long, device="meta")
    assert sum(weight.numel() for weight in network.parameters()) == config.parameters()
    assert config.flops(64, batch=2) == pytest.approx(counted(lambda: network(words)), rel=0.01)


def test_the_encoder_of_pictures_has_the_weights_that_are_planned():
    with torch.device("meta"):
        eyes = ImageEncoder(sizes.CLIP_VIT_H)
    assert sum(weight.numel() for weight in eyes.parameters()) == sizes.CLIP_VIT_H.parameters()


def test_parts_add_up_and_attention_grows_with_the_square():
    model = find_model(load_assumptions(), "wan2.1-t2v-1.3b")
    one, two = model.forward(VideoShape(81, 480, 832)), model.forward(VideoShape(81, 960, 832))
    assert two.attention == 4 * one.attention
    assert one.total == one.attention + one.linear + one.rest
    config = model.configs.transformer
    assert one.total == config.flops(WAN.geometry.latent(VideoShape(81, 480, 832)))


def test_a_model_of_a_wanted_size_keeps_its_proportions():
    like = published(load_assumptions(), "movie-gen-30b")
    assert of_dimensions(parameters=30e9, like=like).width == like.width
    for parameters in (1e9, 7e9, 100e9):
        made = of_dimensions(parameters=parameters, like=like)
        assert made.parameters == pytest.approx(parameters * like.parameters / like.all_parameters, rel=0.15)
    assert replace(like, name="custom").parameters == like.parameters
