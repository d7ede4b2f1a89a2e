"""Each network alone equals its reference in diffusers or transformers: float32, max|a-b| / max|b| at most 1e-5.

And the tests would notice: perturbing RoPE, a norm, the text mask or a timestep by a little breaks the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from support.references import stock_scheduler
from torch import Tensor, nn

from sorano.models import attention as attention_module
from sorano.models import layers as layers_module
from sorano.models.wan import text_encoder as text_module
from sorano.models.wan import transformer as transformer_module
from sorano.models.wan import vae as vae_module
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.models.wan.text_encoder import TextTokens
from sorano.sampling import solver as solver_module
from sorano.sampling.schedule import SCHEDULES
from sorano.sampling.solver import SOLVERS

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

BOUND = 1e-5
OTHER = TransformerConfig(num_attention_heads=3, attention_head_dim=20, in_channels=16, out_channels=16, text_dim=32,
    freq_dim=32, ffn_dim=72, num_layers=3, cross_attn_norm=False, eps=1e-5)  # fmt: skip
TIMES = torch.tensor([[812.0, 0.0], [333.0, 12.5]])


def _stock_transformer(config: TransformerConfig) -> Any:
    stock = diffusers.WanTransformer3DModel.from_config(config.to_dict()).eval()
    stock.load_state_dict(tiny.transformer(config).state_dict(), strict=True)
    return stock


def _index() -> Tensor:
    index = torch.zeros(2, 18, dtype=torch.long)
    index[:, :6] = 1
    index[1, 10:13] = 1
    return index


def _padded(text: TextTokens, total: int = 512) -> Tensor:
    return nn.functional.pad(text.text_BSD, (0, 0, 0, total - text.text_BSD.shape[1]))


def _transformer_error(config: TransformerConfig = tiny.TRANSFORMER, per_token: bool = True) -> float:
    ours, stock, text = tiny.transformer(config), _stock_transformer(config), tiny.text()
    with torch.no_grad():
        if per_token:
            found = ours(tiny.latent(), TIMES, text, timestep_index_BL=_index())
            timestep = TIMES.gather(1, _index())
        else:
            found = ours(tiny.latent(), TIMES[:, 0], text)
            timestep = TIMES[:, 0]
        expected = stock(tiny.latent(), timestep, _padded(text)).sample
    return tiny.error(found, expected)


@pytest.mark.parametrize("per_token", [False, True], ids=["one timestep", "a timestep per token"])
@pytest.mark.parametrize("config", [tiny.TRANSFORMER, OTHER], ids=["usual", "other"])
def test_the_transformer_equals_diffusers(config: TransformerConfig, per_token: bool) -> None:
    assert _transformer_error(config, per_token) < BOUND


def test_rotations_equal_diffusers_table_to_the_bit() -> None:
    stock = diffusers.models.transformers.transformer_wan.WanRotaryPosEmbed(24, (1, 2, 2), 64)
    cos, sin = stock(tiny.latent(frames=5, rows=8, columns=6))
    rope = tiny.transformer()._make_rotation((5, 4, 3), torch.arange(5.0))
    assert torch.equal(rope[..., 0], cos[0, ..., 0::2])
    assert torch.equal(rope[..., 1], sin[0, ..., 1::2])


def test_gradients_equal_diffusers() -> None:
    ours = tiny.transformer().requires_grad_(True)
    stock, text = _stock_transformer(tiny.TRANSFORMER), tiny.text()
    ours(tiny.latent(), TIMES, text, timestep_index_BL=_index()).square().mean().backward()
    stock(tiny.latent(), TIMES.gather(1, _index()), _padded(text)).sample.square().mean().backward()
    expected = dict(stock.named_parameters())
    errors = {name: tiny.error(weight.grad, expected[name].grad) for name, weight in ours.named_parameters()}
    assert {name: error for name, error in errors.items() if error > 1e-3} == {}  # sums of 1024 keys against 16


def _shift_positions(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda grids, head_dim: original((grids[0] * 1.01, *grids[1:]), head_dim)


def _weaken_norm(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, weight, heads, eps, rope=None: original(x, weight, heads, eps + 1e-3, rope)


def _miscount(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, total=512: original(self, total + 5)


def _no_pad_key(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda self, total=512: original(self, total).masked_fill(original(self, total) > 0, -math.inf)


PERTURBATIONS = {
    "rope": (transformer_module, "rotation", _shift_positions),
    "query and key norm": (transformer_module, "norm_heads", _weaken_norm),
    "count of the padding": (TextTokens, "bias", _miscount),
    "pad key": (TextTokens, "bias", _no_pad_key),
    "norm of the tokens": (
        transformer_module,
        "modulated_norm",
        lambda original: lambda x, shift, scale, times, eps, dtype: original(x, shift, scale, times, 1e-3, dtype),
    ),
    "feed-forward's GELU": (
        transformer_module.GeluLinear,
        "forward",
        lambda original: lambda self, x: nn.functional.gelu(self.proj(x)),
    ),
    "sign of the rotation": (
        attention_module,
        "rotate",
        lambda original: lambda x, rope, backwards=False: original(x, rope * torch.tensor([1.0, -1.0])),
    ),
    "timestep of known tokens": (
        transformer_module,
        "TokenTimes",
        lambda original: lambda index, count, length: original(index.roll(1, 1), count, length),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_transformers_parity_fails_when_a_part_is_perturbed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _transformer_error() < BOUND
    owner, attribute, change = PERTURBATIONS[name]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert _transformer_error() > 3 * BOUND


def _encoder_error(config: TextEncoderConfig = tiny.TEXT_ENCODER) -> float:
    ours = tiny.text_encoder(config)
    stock = transformers.UMT5EncoderModel(transformers.UMT5Config(**config.to_dict())).eval()
    loaded = stock.load_state_dict(ours.state_dict(), strict=False)
    assert loaded.missing_keys in ([], ["encoder.embed_tokens.weight"]) and not loaded.unexpected_keys  # tied
    ids = [[3, 9, 4, 30, 22, 8, 1], list(range(2, 38)) + [1], [1]]
    length = max(map(len, ids))
    padded = torch.tensor([prompt + [0] * (length - len(prompt)) for prompt in ids])
    mask = torch.tensor([[1] * len(prompt) + [0] * (length - len(prompt)) for prompt in ids])
    with torch.no_grad():
        expected = stock(padded, mask).last_hidden_state * mask[..., None]
    return tiny.error(ours.encode(ids).text_BSD[:, :-1], expected)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_text_encoder_equals_transformers(heads: int) -> None:
    config = TextEncoderConfig(
        vocab_size=40, d_model=32, d_kv=12, d_ff=48, num_layers=3, num_heads=heads, relative_attention_max_distance=20
    )
    assert _encoder_error(config) < BOUND
    assert _encoder_error() < BOUND


def _scaled(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda q, k, v, bias=None, scale=None: original(q, k, v, bias, 0.999)


ENCODER_PERTURBATIONS = {
    "position buckets": (text_module, "position_buckets", lambda original: lambda n, b, d: original(n, b, d + 40)),
    "scale of attention": (text_module, "attention", _scaled),
    "mask": (
        text_module.BiasedAttention,
        "forward",
        lambda original: lambda self, x, buckets, mask: original(self, x, buckets, None),
    ),
    "norm": (
        text_module.RMSNorm,
        "forward",
        lambda original: lambda self, x, dtype: original(self, x - 1e-3 * x.mean(-1, keepdim=True), dtype),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODER_PERTURBATIONS)
def test_the_encoders_parity_fails_when_a_part_is_perturbed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _encoder_error() < BOUND
    owner, attribute, change = ENCODER_PERTURBATIONS[name]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert _encoder_error() > 3 * BOUND


def _vae_errors(config: VaeConfig) -> tuple[float, float]:
    """Of encoding to a normalised latent, and of decoding."""
    ours = tiny.vae(config)
    words = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    stock = diffusers.AutoencoderKLWan(**words).eval().requires_grad_(False)
    stock.load_state_dict(ours.state_dict(), strict=True)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
    video = torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latent = tiny.latent(1)
    with torch.no_grad():
        encoded = tiny.error(ours.encode_latent(video), (stock.encode(video).latent_dist.mean - mean) / std)
        return encoded, tiny.error(ours.decode(latent), stock.decode(latent * std + mean).sample)


VAES = pytest.mark.parametrize("config", [tiny.VAE, tiny.VAE_2_1], ids=["2.2", "2.1"])
VAE_PERTURBATIONS = {
    "norm": (
        layers_module.ChannelRMSNorm,
        "scale",
        lambda original: lambda self, x: original(self, x) * 1.001,
    ),
    "first frame": (
        vae_module,
        "cat_frames",
        lambda original: lambda videos: original([videos[0] * 1.01, *videos[1:]]),
    ),
    "statistics": (
        vae_module,
        "_per_channel",
        lambda original: lambda values: original([1.001 * value for value in values]),
    ),
}  # fmt: skip


@VAES
def test_the_autoencoders_equal_diffusers(config: VaeConfig) -> None:
    assert max(_vae_errors(config)) < BOUND


@VAES
@pytest.mark.parametrize("name", VAE_PERTURBATIONS)
def test_parity_of_encoding_and_decoding_fails_when_a_part_is_perturbed(
    name: str, config: VaeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, attribute, change = VAE_PERTURBATIONS[name]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert min(_vae_errors(config)) > 3 * BOUND


def _bent(x: Tensor, sigma: float) -> Tensor:
    """A velocity along which no step is exact."""
    return torch.tanh(x.roll(1, -1)) * (1 + sigma)


def _solver_error(name: str) -> float:
    stock, schedule = stock_scheduler(name, 3.0), SCHEDULES[name](6, 3.0)
    stock.set_timesteps(6)
    x = tiny.latent(1)
    for timestep, sigma in zip(stock.timesteps, schedule.sigmas, strict=False):
        x = stock.step(_bent(x, sigma), timestep, x, return_dict=False)[0]
    return tiny.error(list(SOLVERS[name](_bent, tiny.latent(1), schedule.sigmas))[-1][1], x)


SOLVER_PERTURBATIONS = {
    "corrector": (
        "unipc",
        "_corrected",
        lambda original: lambda x, sigma, after, seen, m, order: solver_module._predicted(x, sigma, after, seen, order),
    ),
    "order": ("unipc", "_predicted", lambda original: lambda x, s, after, seen, order: original(x, s, after, seen, 1)),
    "noise level": ("unipc", "_lambda", lambda original: lambda sigma: original(sigma * 0.999)),
    "step": ("euler", "pairwise", lambda original: lambda sigmas: [(a, b * 0.999) for a, b in original(sigmas)]),
}  # fmt: skip


@pytest.mark.parametrize("name", SOLVERS)
def test_the_solvers_equal_diffusers(name: str) -> None:
    assert _solver_error(name) < BOUND


@pytest.mark.parametrize("part", SOLVER_PERTURBATIONS)
def test_parity_of_the_solvers_fails_when_a_part_is_perturbed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, attribute, change = SOLVER_PERTURBATIONS[part]
    monkeypatch.setattr(solver_module, attribute, change(getattr(solver_module, attribute)))
    assert _solver_error(name) > 3 * BOUND
