"""The transformer against itself: each fast path with its slow twin, and its costs counted."""

from __future__ import annotations

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sorano.models import layers
from sorano.models.attention import choose_backend, norm_heads, rotation
from sorano.models.config import ROWS_OF_SCORES
from sorano.models.layers import fused
from sorano.models.wan import transformer as transformer_module
from sorano.models.wan.config import TransformerConfig
from sorano.models.wan.text_encoder import TextTokens
from sorano.models.wan.transformer import (
    FUSED,
    TokenTimes,
    VideoTransformer,
    fuse_qkv,
    gated_sum,
    modulated_norm,
)
from sorano.shapes import LatentShape

TIMES = torch.tensor([[700.0, 0.0], [300.0, 20.0]])


def _index(agree: bool) -> Tensor:
    """18 tokens (3 frames of 2 x 3): the first frame known; for items that disagree, also one token of the second."""
    index = torch.zeros(2, 18, dtype=torch.long)
    index[:, :6] = 1
    if not agree:
        index[1, 9] = 1
    return index


@pytest.mark.parametrize("agree", [True, False])
def test_timesteps_by_index_equal_one_timestep_for_each_token(agree: bool) -> None:
    model, index = tiny.transformer(), _index(agree)
    found = model(tiny.latent(), TIMES, tiny.text(), timestep_index_BL=index)
    each = torch.arange(18).expand(2, 18)
    expected = model(tiny.latent(), TIMES.gather(1, index), tiny.text(), timestep_index_BL=each)
    assert tiny.error(found, expected) < 1e-6


def test_known_tokens_change_the_rest_only_through_their_timestep() -> None:
    model = tiny.transformer()
    same = torch.tensor([[700.0, 700.0], [300.0, 300.0]])
    plain = model(tiny.latent(), same[:, :1], tiny.text())
    assert tiny.error(model(tiny.latent(), same, tiny.text(), timestep_index_BL=_index(True)), plain) < 1e-6
    assert tiny.error(model(tiny.latent(), TIMES, tiny.text(), timestep_index_BL=_index(True)), plain) > 1e-3


def test_several_timesteps_need_an_index() -> None:
    with pytest.raises(ValueError, match="timestep_index_BL"):
        tiny.transformer()(tiny.latent(), TIMES, tiny.text())


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that was made, of a dtype if told, and beside one that is there already."""

    def __init__(self, dtype: torch.dtype | None = None, beside: Tensor | None = None) -> None:
        super().__init__()
        self.numel, self.dtype = 0, dtype
        self.there = None if beside is None else beside.data_ptr()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            counts = isinstance(one, Tensor) and self.dtype in (None, one.dtype)
            if counts and (self.there is None or one.data_ptr() != self.there):
                self.numel = max(self.numel, one.numel())
        return out


def test_no_tensor_of_six_rows_for_each_token_is_ever_made() -> None:
    latent = tiny.latent(batch=2, frames=4, rows=16, columns=16)
    index = torch.zeros(2, 256, dtype=torch.long)
    index[0, :64] = 1
    model = tiny.transformer()
    prepared = model.prepare_text(tiny.text())
    choose_backend("fused")
    try:
        with Largest() as largest:
            model(latent, TIMES, prepared, timestep_index_BL=index)
    finally:
        choose_backend("auto")
    assert 0 < largest.numel < 2 * 256 * 6 * 48


def test_prepared_text_gives_the_same_velocity() -> None:
    model = tiny.transformer()
    prepared = model.prepare_text(tiny.text())
    direct = model(tiny.latent(), TIMES[:, 0], tiny.text())
    assert torch.equal(model(tiny.latent(), TIMES[:, 0], prepared), direct)


def test_an_item_does_not_depend_on_its_batch() -> None:
    model = tiny.transformer()
    together = model(tiny.latent(), TIMES[:, :1], tiny.text())
    for i in range(2):
        alone = model(tiny.latent()[i : i + 1], TIMES[i : i + 1, :1], tiny.text()[i : i + 1])
        assert tiny.error(together[i : i + 1], alone) < 1e-5


def test_one_pad_key_equals_all_the_padding() -> None:
    model = tiny.transformer()
    short, long = tiny.text(), F.pad(tiny.text().text_BSD, (0, 0, 0, 504))
    for block in model.blocks:
        block.attn2.norm_k.weight.data.mul_(3)  # sharp attention: an error in the bias shows
    padded = model.prepare_text(TextTokens(long, torch.tensor([512, 512])))
    found = model(tiny.latent(), TIMES[:, 0], short)
    assert tiny.error(found, model(tiny.latent(), TIMES[:, 0], padded)) < 5e-6
    wrong = model.prepare_text(TextTokens(short.text_BSD, torch.tensor([8, 8])))
    assert tiny.error(model(tiny.latent(), TIMES[:, 0], wrong), found) > 1e-3


def test_where_a_bias_must_be_rounded_the_pad_key_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model, latent = tiny.transformer(), tiny.latent().bfloat16()
    expected = model(latent, TIMES[:, 0], tiny.text()).float()
    monkeypatch.setattr(transformer_module, "keeps_float32_bias", lambda device: False)
    prepared = model.prepare_text(tiny.text(), torch.bfloat16)
    assert prepared.bias_B11S.dtype == torch.bfloat16
    assert prepared.keys_BSNK[0].shape[1] == prepared.bias_B11S.shape[-1] == 16
    assert tiny.error(model(latent, TIMES[:, 0], prepared).float(), expected) < 0.02
    assert model.prepare_text(tiny.text()).keys_BSNK[0].shape[1] == 8  # float32 needs no splitting


def test_positions_are_relative_and_may_be_fractional() -> None:
    model = tiny.transformer()
    run = lambda positions: model(tiny.latent(), TIMES[:, 0], tiny.text(), positions_T=positions)  # noqa: E731
    default = model(tiny.latent(), TIMES[:, 0], tiny.text())
    assert torch.equal(run([0, 1, 2]), default)
    assert tiny.error(run([5.25, 6.25, 7.25]), default) < 1e-5  # only distances count
    assert tiny.error(run([0, 1, 1.75]), default) > 1e-4
    per_item = run(torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 1.75]]))
    assert tiny.error(per_item[:1], default[:1]) < 1e-6
    assert tiny.error(per_item[1:], run([0, 1, 1.75])[1:]) < 1e-6


def test_a_frame_given_out_of_order_with_its_position_changes_nothing() -> None:
    model, latent, order = tiny.transformer(), tiny.latent(), [2, 0, 1]
    expected = model(latent, TIMES[:, 0], tiny.text())
    found = model(latent[:, :, order], TIMES[:, 0], tiny.text(), positions_T=[float(i) for i in order])
    assert tiny.error(found, expected[:, :, order]) < 1e-5


def test_rotations_are_remembered_within_bounds() -> None:
    model = tiny.transformer()
    for step in range(40):
        model(tiny.latent(), TIMES[:, 0], tiny.text(), positions_T=[0.0, 1.0, 2.0 + step])
    assert len(model._rotations) <= 16
    before = model._rotations[next(reversed(model._rotations))]
    model(tiny.latent(), TIMES[:, 0], tiny.text(), positions_T=[0.0, 1.0, 41.0])
    assert model._rotations[next(reversed(model._rotations))] is before


def test_a_latent_off_the_patch_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 5, 6\).*\(1, 2, 2\)"):
        tiny.transformer()(tiny.latent(rows=5), TIMES[:, 0], tiny.text())


def test_bfloat16_activations_with_float32_weights() -> None:
    model = tiny.transformer()
    expected = model(tiny.latent(), TIMES, tiny.text(), timestep_index_BL=_index(False))
    found = model(tiny.latent().bfloat16(), TIMES, tiny.text(), timestep_index_BL=_index(False))
    assert found.dtype == torch.bfloat16
    assert tiny.error(found.float(), expected) < 0.05
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


@pytest.mark.parametrize("index", [None, _index(True), _index(False)], ids=["one", "runs", "mixed"])
def test_the_modulated_norm_and_the_gated_sum_have_autograds_gradients(index: Tensor | None) -> None:
    count = 1 if index is None else 2
    times = TokenTimes(index, count, 18)
    pick = torch.zeros(2, 18, dtype=torch.long) if index is None else index
    results = []
    for slow in (True, False):
        torch.manual_seed(0)
        x, y = (torch.randn(2, 18, 8).requires_grad_() for _ in range(2))
        shift, scale, gate = (torch.randn(2, count, 8).requires_grad_() for _ in range(3))
        if slow:
            rows = [row.gather(1, pick[..., None].expand(-1, -1, 8)) for row in (shift, scale, gate)]
            out = x + (F.layer_norm(x, (8,), eps=1e-6) * (1 + rows[1]) + rows[0]) * y * rows[2]
        else:
            normed = modulated_norm(x, shift, scale, times, 1e-6, torch.float32)
            out = gated_sum(x, normed * y, gate, times)
        out.sin().sum().backward()
        results.append([out.detach(), *(t.grad for t in (x, y, shift, scale, gate))])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("agree", [None, True, False], ids=["one", "runs", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_and_part_by_part_the_velocity_is_the_same(
    agree: bool | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sampling runs (parts of 64 tokens here, products together, in place) against what training runs."""
    model, latent = tiny.transformer(), tiny.latent(batch=2, frames=3, rows=16, columns=14).to(dtype)
    index = None
    if agree is not None:
        index = torch.zeros(2, 168, dtype=torch.long)
        index[:, :56] = 1
        index[1, 90] = 0 if agree else 1
    times = TIMES if agree is not None else TIMES[:, :1]
    expected = model(latent, times, tiny.text(), timestep_index_BL=index)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    fuse_qkv(model)
    assert all(fused([getattr(block.attn1, name) for name in FUSED]) is not None for block in model.blocks)
    monkeypatch.setattr(layers, "CACHED_BYTES", {"cpu": 1})
    before = latent.clone()
    with torch.inference_mode():
        found = model(latent, times, tiny.text(), timestep_index_BL=index)
    assert tiny.error(found.float(), expected.float()) < (1e-5 if dtype == torch.float32 else 0.03)
    assert torch.equal(latent, before)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_norms_make_no_float32_copy_of_all_tokens_and_the_gated_sum_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "CACHED_BYTES", {"cpu": 1})
    x, row, times = torch.randn(1, 1000, 48), torch.randn(1, 1, 48), TokenTimes(None, 1, 1000)
    rope = rotation((torch.arange(1000),) * 3, 24)
    with torch.no_grad():
        with Largest(torch.float32, beside=x) as largest:
            y = modulated_norm(x, row, row, times, 1e-6, torch.bfloat16)
            norm_heads(y, row[0, 0], 2, 1e-6, rope)
        assert gated_sum(x, y, row, times) is x
    assert 0 < largest.numel < x.numel() / 4


def test_products_of_half_precision_come_together_from_float32_weights() -> None:
    block = tiny.transformer().blocks[0].attn1
    x = torch.randn(1, 5, 48, dtype=torch.bfloat16)
    apart = [layer(x) for layer in (block.to_q, block.to_k, block.to_v)]
    fuse_qkv(block)
    with torch.inference_mode():
        for found, expected in zip(block._queries_keys_values(x), apart, strict=True):
            assert tiny.error(found.float(), expected.float()) < 0.01


def test_it_starts_as_no_velocity_and_every_weight_learns() -> None:
    torch.manual_seed(0)
    model = VideoTransformer(tiny.TRANSFORMER)
    assert not model(tiny.latent(), TIMES[:, 0], tiny.text()).any()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    target = tiny.latent(seed=9)
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.mse_loss(model(tiny.latent(), TIMES, tiny.text(), timestep_index_BL=_index(True)), target)
        loss.backward()
        optimizer.step()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


@pytest.mark.parametrize("config", [tiny.TRANSFORMER, TransformerConfig(num_attention_heads=1, attention_head_dim=12,
    in_channels=8, out_channels=4, text_dim=10, freq_dim=16, ffn_dim=20, num_layers=3, cross_attn_norm=False)],
)  # fmt: skip
def test_parameters_are_counted_exactly(config: TransformerConfig) -> None:
    model = VideoTransformer(config)
    assert config.parameters() == sum(weight.numel() for weight in model.parameters())
    assert config.weight_bytes(2) == 2 * config.parameters()


def test_published_configurations_have_their_published_sizes() -> None:
    small = TransformerConfig(num_attention_heads=12, ffn_dim=8960, num_layers=30)
    large = TransformerConfig()
    assert round(small.parameters() / 1e9, 2) == 1.42  # "1.3B"
    assert round(large.parameters() / 1e9, 1) == 14.3


@pytest.mark.parametrize("timesteps", [1, 2])
def test_flops_are_those_that_torch_counts(timesteps: int) -> None:
    model, text = tiny.transformer(), tiny.text()
    index = None if timesteps == 1 else _index(True)
    with FlopCounterMode(display=False) as counter:
        model(tiny.latent(), TIMES[:, :timesteps], text, timestep_index_BL=index)
    expected = tiny.TRANSFORMER.flops(LatentShape(3, 4, 6), batch=2, text_tokens=8, timesteps=timesteps)
    assert counter.get_total_flops() == expected


def test_peak_bytes_is_at_least_what_a_pass_holds() -> None:
    latent = tiny.latent(batch=1, frames=5, rows=32, columns=32)
    live = peak = 0
    sizes: dict[int, int] = {}

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        """Follows the storages that are alive, as an accelerator's allocator would."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal live, peak
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else (out,):
                if isinstance(value, Tensor):
                    key = value.untyped_storage()._cdata
                    if key not in sizes:
                        sizes[key] = value.untyped_storage().nbytes()
                        live += sizes[key]
                        peak = max(peak, live)
                        storage = value.untyped_storage()
                        _watch(storage, lambda key=key: drop(key))
            return out

    def drop(key: int) -> None:
        nonlocal live
        live -= sizes.pop(key, 0)

    def _watch(storage: torch.UntypedStorage, done) -> None:  # type: ignore[no-untyped-def]
        import weakref

        weakref.finalize(storage, done)

    model = tiny.transformer()
    choose_backend("fused")
    try:
        with Watch(), torch.inference_mode():
            model(latent, TIMES[:1, 0], tiny.text((7,)))
    finally:
        choose_backend("auto")
    predicted = tiny.TRANSFORMER.peak_bytes(LatentShape(5, 32, 32), text_tokens=8)
    assert peak <= predicted
    assert predicted - 12 * ROWS_OF_SCORES <= 2 * peak  # rows of scores are bfloat16's on a CPU, and not held here


def test_attention_starts_on_the_words_and_not_on_the_padding():
    """Most of 512 positions are padding: a tenth of the attention at the start, of plain queries most of it."""
    config = TransformerConfig(
        num_attention_heads=4, attention_head_dim=48, num_layers=2, ffn_dim=64, text_dim=64, freq_dim=32
    )
    torch.manual_seed(0)
    model = VideoTransformer(config).requires_grad_(False)
    words = torch.randn(2, 13, 64)
    words[:, 12:] = 0
    prepared = model.prepare_text(TextTokens(words, torch.tensor([12, 12])))
    queries = model.blocks[0].attn2.to_q(torch.randn(2, 80, 192)).unflatten(-1, (4, 48))
    queries = queries / queries.flatten(2).square().mean(-1).sqrt()[..., None, None]

    def share_of_padding(queries_BLNK: torch.Tensor) -> float:
        scores = torch.einsum("blnk,bsnk->bnls", queries_BLNK, prepared.keys_BSNK[0][:, :13]) / 48**0.5
        return float((scores + prepared.bias_B11S[..., :13]).softmax(-1)[..., 12].mean())

    assert share_of_padding(queries) < 0.2
    assert share_of_padding(torch.randn(2, 80, 4, 48)) > 0.5
