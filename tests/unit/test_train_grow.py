"""Beginning from a smaller model: the grown networks compute what the smaller ones do."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from sorano.errors import RequestError
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.models.wan.text_encoder import TextEncoder, build_tokenizer
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder
from sorano.train.grow import block_places, grow_autoencoder, grow_text_encoder, grow_transformer

SMALL_VAE = VaeConfig(
    base_dim=8, decoder_base_dim=8, dim_mult=(1, 2, 2), num_res_blocks=1, temperal_downsample=(True, True),
    is_residual=True, patch_size=2, in_channels=12, out_channels=12, z_dim=4, latents_mean=(0.5,) * 4,
    latents_std=(2.0,) * 4,
)  # fmt: skip
BIG_VAE = dataclasses.replace(
    SMALL_VAE, patch_size=4, in_channels=48, out_channels=48, scale_factor_spatial=16, z_dim=6,
    latents_mean=(0.0,) * 6, latents_std=(1.0,) * 6,
)  # fmt: skip
SMALL = TransformerConfig(
    num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=32, text_dim=16, in_channels=4, out_channels=4
)
TEXT = TextEncoderConfig(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)


def disturbed(network: torch.nn.Module) -> torch.nn.Module:
    """The network with every weight away from what it starts from, zeros among them."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def test_a_grown_autoencoder_codes_a_video_as_the_smaller_one_codes_its_half():
    torch.manual_seed(0)
    small, big = disturbed(VideoAutoencoder(SMALL_VAE)), VideoAutoencoder(BIG_VAE)
    grow_autoencoder(big, small)
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        want = small.encode(F.avg_pool3d(video, (1, 2, 2)))
        mean, logvar = big.encode(video)
        assert torch.allclose(mean[:, :4], want[0], atol=1e-5) and torch.allclose(logvar[:, :4], want[1], atol=1e-5)
        assert mean.shape[1] == 6 and mean[:, 4:].std() > 0
        mean[:, 4:] = 0  # for what new channels hold reaches the decoder
        made = big.decode(big.normalise(mean), clamp=False)
        assert torch.allclose(
            made, F.interpolate(small.decode(small.normalise(want[0]), clamp=False), scale_factor=(1, 2, 2)), atol=1e-4
        )


def test_a_share_of_a_fresh_first_layer_lets_a_grown_encoder_see_inside_its_squares():
    small, big = VideoAutoencoder(SMALL_VAE), VideoAutoencoder(BIG_VAE)
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    squares = video.clone()  # the same averages, the other way round inside each square
    squares[..., 0::2, :], squares[..., 1::2, :] = video[..., 1::2, :], video[..., 0::2, :]
    fresh = big.encoder.conv_in.weight.detach().clone()
    apart = []
    for share in (0.0, 0.5):
        big.encoder.conv_in.weight.data.copy_(fresh)
        grow_autoencoder(big, small, fresh=share)
        with torch.no_grad():
            apart.append(float((big.encode(video)[0] - big.encode(squares)[0]).abs().max()))
    assert apart[0] < 1e-4 < 1e-2 < apart[1]


def test_a_grown_transformer_predicts_the_same_and_nothing_of_new_channels():
    torch.manual_seed(0)
    small = disturbed(VideoTransformer(SMALL))
    big = VideoTransformer(dataclasses.replace(SMALL, num_layers=3, in_channels=6, out_channels=6))
    grow_transformer(big, small)
    encoder = TextEncoder(TEXT)
    text = encoder.encode([[5, 6, 1], [7, 1]])
    latent, time = torch.randn(2, 6, 2, 4, 4), torch.tensor([300.0, 800.0])
    with torch.no_grad():
        want, found = small(latent[:, :4], time, text), big(latent, time, text)
    assert torch.allclose(found[:, :4], want, atol=1e-5)
    assert (found[:, 4:] == 0).all()


def test_blocks_are_spread_evenly():
    assert block_places(8, 8) == list(range(8))
    assert block_places(2, 4) == [0, 2]
    assert block_places(8, 12) == [0, 1, 3, 4, 6, 7, 9, 10]


def test_a_grown_text_encoder_reads_known_words_as_before():
    torch.manual_seed(0)
    old, new = build_tokenizer(["red", "ball"]), build_tokenizer(["cube", "ball", "red"])
    small = disturbed(TextEncoder(TEXT))
    big = TextEncoder(dataclasses.replace(TEXT, num_layers=2))
    grow_text_encoder(big, small, new, old)
    with torch.no_grad():
        want = small.encode(old.encode(["red ball"])).text_BSD
        assert torch.allclose(big.encode(new.encode(["red ball"])).text_BSD, want, atol=1e-5)


def test_the_same_networks_are_copied_whole():
    torch.manual_seed(0)
    vae, again = disturbed(VideoAutoencoder(SMALL_VAE)), VideoAutoencoder(SMALL_VAE)
    grow_autoencoder(again, vae)
    first, second = disturbed(VideoTransformer(SMALL)), VideoTransformer(SMALL)
    grow_transformer(second, first)
    for one, other in ((vae, again), (first, second)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_networks_of_another_width_are_refused():
    wide = dataclasses.replace(SMALL, num_attention_heads=4)
    with pytest.raises(RequestError, match="width is 48"):
        grow_transformer(VideoTransformer(wide), VideoTransformer(SMALL))
    with pytest.raises(RequestError, match="patch"):
        grow_autoencoder(VideoAutoencoder(SMALL_VAE), VideoAutoencoder(BIG_VAE))
    with pytest.raises(RequestError, match="more than"):
        grow_transformer(VideoTransformer(SMALL), VideoTransformer(dataclasses.replace(SMALL, num_layers=3)))
