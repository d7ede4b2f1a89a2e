"""The autoencoder: equal to diffusers', equal in chunks and whole, blind to the future, counted exactly."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sorano.models import layers
from sorano.models.wan.config import VaeConfig
from sorano.models.wan.family import WAN
from sorano.models.wan.vae import VideoAutoencoder
from sorano.shapes import VideoShape

RESIDUAL = VaeConfig(
    base_dim=8, decoder_base_dim=12, dim_mult=(1, 2, 2), num_res_blocks=1, temperal_downsample=(True, True),
    is_residual=True, in_channels=12, out_channels=12, patch_size=2,
)  # fmt: skip
PLAIN = VaeConfig(base_dim=8, dim_mult=(1, 2, 4, 4), num_res_blocks=1, temperal_downsample=(False, True, True))
KINDS = pytest.mark.parametrize("config", [RESIDUAL, PLAIN], ids=["residual", "plain"])


def build(config: VaeConfig) -> VideoAutoencoder:
    torch.manual_seed(0)
    vae = VideoAutoencoder(config).eval().requires_grad_(False)
    for weight in vae.parameters():
        weight.normal_(std=0.15 if weight.ndim > 1 and weight.shape[-1] > 1 or weight.ndim == 5 else 0.3)
    vae.set_latent_statistics([0.1 * i for i in range(16)], [1 + 0.1 * i for i in range(16)])
    return vae


def video(num_frames: int = 17) -> torch.Tensor:
    return torch.rand(2, 3, num_frames, 16, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def latent(num_frames: int = 5) -> torch.Tensor:
    return torch.randn(2, 16, num_frames, 2, 4, generator=torch.Generator().manual_seed(1))


def error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours - reference).abs().max() / reference.abs().max())


def diffusers_twin(vae: VideoAutoencoder):
    diffusers = pytest.importorskip("diffusers")
    config = {k: v for k, v in vae.config.to_dict().items() if not k.startswith("_")}
    twin = diffusers.AutoencoderKLWan(**config).eval().requires_grad_(False)
    twin.load_state_dict(vae.state_dict(), strict=True)
    return twin


@pytest.fixture(autouse=True)
def as_in_generating():
    with torch.no_grad():  # with gradients, a CPU computes convolutions in another way
        yield


@KINDS
@pytest.mark.parametrize("grad", [False, True])
def test_encode_and_decode_equal_diffusers(config, grad):
    vae = build(config)
    twin = diffusers_twin(vae)
    torch.set_grad_enabled(grad)
    mean, logvar = vae.encode(video())
    posterior = twin.encode(video()).latent_dist
    assert error(mean, posterior.mean) < 1e-5
    assert error(logvar.clamp(-30, 20), posterior.logvar) < 1e-5
    assert error(vae.decode(latent()), twin.decode(vae.denormalise(latent())).sample) < 1e-5


@KINDS
@pytest.mark.parametrize("part", ["norm", "past", "bias"])
def test_the_parity_test_would_notice(config, part):
    vae = build(config)
    reference = diffusers_twin(vae).decode(vae.denormalise(latent())).sample
    if part == "norm":
        vae.decoder.norm_out.gamma[0] *= 1.01
    elif part == "past":
        vae.decoder.conv_in.weight[:, :, 0] *= 1.01
    else:
        vae.decoder.mid_block.resnets[0].conv2.bias[0] += 0.01
    assert error(vae.decode(latent()), reference) > 1e-5


@KINDS
def test_streamed_encode_and_decode_equal_whole(config):
    vae = build(config)
    chunks = video().split([1, 4, 8, 4], dim=2)
    assert error(torch.cat(list(vae.encode_stream(chunks)), 2), vae.encode_latent(video())) < 1e-5
    assert error(torch.cat(list(vae.decode_stream(latent())), 2), vae.decode(latent())) < 1e-5


def test_a_stream_goes_on_from_its_saved_state():
    vae, state = build(RESIDUAL), {}
    first = list(vae.decode_stream(latent()[:, :, :2], state))
    second = list(vae.decode_stream(latent()[:, :, 2:], state))
    assert error(torch.cat(first + second, 2), vae.decode(latent())) < 1e-5


def test_streaming_remembers_the_same_amount_whatever_the_length():
    vae = build(RESIDUAL)

    def remembered(num_latents: int) -> int:
        state: dict = {}
        for _ in vae.decode_stream(latent(num_latents), state):
            pass
        return sum(tensor.numel() for tensor in state.values())

    assert remembered(3) == remembered(12)


@KINDS
def test_the_past_does_not_depend_on_the_future(config):
    vae, changed = build(config), video().clone()
    changed[:, :, 9:] = 0
    before, after = vae.encode_latent(video()), vae.encode_latent(changed)
    assert error(after[:, :, :3], before[:, :, :3]) < 1e-6
    assert error(after[:, :, 3:], before[:, :, 3:]) > 1e-3


def test_a_lone_frame_takes_the_short_way_to_the_same_latent():
    vae = build(RESIDUAL)
    whole = vae.encode_latent(video())[:, :, :1]
    assert error(vae.encode_latent(video()[:, :, :1]), whole) < 1e-5


def test_other_frame_counts_are_refused():
    with pytest.raises(ValueError, match="1 \\+ 4k frames, got 16"):
        build(RESIDUAL).encode(video(16))


@KINDS
def test_config_counts_parameters_and_flops_exactly(config, monkeypatch):
    monkeypatch.setattr(layers, "FEW_CHANNELS", 0)  # a few channels are computed for zeros, too
    monkeypatch.setattr(layers, "_onednn_products", False)  # torch does not count these
    vae, shape = build(config), VideoShape(17, 16, 32)
    assert config.parameters() == sum(p.numel() for p in vae.parameters())
    for frames in (1, 17):
        shape = VideoShape(frames, 16, 32)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as encode:  # torch counts this backend's
            vae.encode(video(frames))
        assert config.encode_flops(shape, batch=2) == encode.get_total_flops()
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as decode:
            vae.decode(latent(WAN.geometry.latent(shape).num_frames))
        assert config.decode_flops(shape, batch=2) == decode.get_total_flops()


def test_config_survives_the_diffusers_form():
    assert VaeConfig.from_dict(RESIDUAL.to_dict()) == RESIDUAL
    with pytest.raises(ValueError, match="attn_scales"):
        VaeConfig.from_dict({**RESIDUAL.to_dict(), "attn_scales": [0.5]})


@KINDS
def test_what_streaming_remembers_is_counted(config):
    state = {}
    frames = torch.cat(list(build(config).decode_stream(latent()[:1], state)), 2)
    held = sum(one.numel() for value in state.values() for one in _tensors(value))
    shape = VideoShape(frames.shape[2], frames.shape[3], frames.shape[4])
    assert held == pytest.approx(config.state_bytes(shape, bytes_per_value=1), rel=0.1)


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [one for part in value for one in _tensors(part)] if isinstance(value, (tuple, list)) else []
