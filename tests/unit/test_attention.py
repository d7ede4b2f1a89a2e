"""Every backend against the definition, and the hand-written gradients against autograd's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sorano.models import attention as module
from sorano.models.attention import attention, backend, choose_backend, norm_heads, rotate, rotation, split_bias

BACKENDS = ("fused", "short", "by_rows", "plain")


@pytest.fixture(autouse=True)
def backend_is_restored() -> Iterator[None]:
    yield
    choose_backend("auto")


def _qkv(seed: int, length: int = 12, text: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, size, 3, 8, generator=generator) for size in (length, text, text)]


def _bias() -> Tensor:
    bias = torch.zeros(2, 1, 1, 7)
    bias[0, ..., 4], bias[0, ..., 5:], bias[1, ..., 6] = math.log(300), -math.inf, 2.0
    return bias


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("biased", [False, True])
def test_every_backend_computes_softmax_attention(backend: str, biased: bool) -> None:
    q, k, v = _qkv(0)
    bias = _bias() if biased else None
    choose_backend(backend)
    out = attention(q, k, v, bias, scale=0.7)
    scores = torch.einsum("blnk,bsnk->bnls", q, k) * 0.7 + (0 if bias is None else bias)
    expected = torch.einsum("bnls,bsnk->blnk", scores.softmax(-1), v)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_the_gradient_of_the_definition(backend: str) -> None:
    grads = []
    for name in ("plain", backend):
        choose_backend(name)
        tensors = [x.requires_grad_() for x in _qkv(1)]
        attention(*tensors, _bias()).square().sum().backward()
        grads.append([x.grad for x in tensors])
    for expected, found in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_bias_that_learns_gets_its_gradient() -> None:
    grads = []
    for name in ("plain", "short"):
        choose_backend(name)
        bias = _bias().nan_to_num(neginf=-9.0).requires_grad_()
        attention(*_qkv(2), bias).square().sum().backward()
        grads.append(bias.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-5, atol=1e-5)


def test_short_attention_in_bfloat16_stays_near_float32() -> None:
    q, k, v = _qkv(3)
    choose_backend("short")
    found = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), _bias())
    assert found.dtype == torch.bfloat16
    assert (found.float() - attention(q, k, v, _bias())).abs().max() < 0.03


def test_auto_takes_the_fused_kernel_for_long_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for name in BACKENDS:
        original = module._BACKENDS[name]
        monkeypatch.setitem(
            module._BACKENDS, name, lambda *args, name=name, original=original: taken.append(name) or original(*args)
        )
    monkeypatch.setattr(module, "SHORT_ATTENTION", 12 * 7)
    attention(*_qkv(4))
    attention(*_qkv(4, length=13))
    assert taken == ["short", "fused"]


def test_auto_takes_long_bfloat16_by_rows_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (x.bfloat16() for x in _qkv(4, length=600, text=600))
    for amx, grad, name in ((False, False, "by_rows"), (True, False, "fused"), (False, True, "fused")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        with torch.set_grad_enabled(grad):
            assert module._choose(q.transpose(1, 2), k.transpose(1, 2)) == name


def test_rows_of_scores_come_together_again_and_stay_near_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = _qkv(5, length=200, text=90)
    bias = torch.randn(2, 1, 200, 90)
    expected = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (3 * q, k, v)), bias).transpose(1, 2)
    monkeypatch.setattr(module, "ROWS_OF_SCORES", 64 * 90)  # four parts, the last one short
    choose_backend("by_rows")
    with torch.no_grad():
        torch.testing.assert_close(attention(3 * q, k, v, bias), expected, rtol=1e-5, atol=1e-5)
        found = attention((3 * q).bfloat16(), k.bfloat16(), v.bfloat16(), bias)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_kernels_are_those_that_run_here_the_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    module.kernels.cache_clear()
    found = module.kernels(torch.device("cpu"), torch.float32, 16)
    assert list(found) == ["FLASH_ATTENTION"] and found["FLASH_ATTENTION"] > 0  # a CPU has no other
    assert module.kernels(torch.device("cpu"), torch.float32, 16) is found  # timed once
    real = F.scaled_dot_product_attention

    def slow_flash(*args, **options):  # type: ignore[no-untyped-def]
        if _kernels_allowed() == ["FLASH_ATTENTION"]:
            time.sleep(0.02)
        with sdpa_kernel(SDPBackend.MATH):
            return real(*args, **options)

    module.kernels.cache_clear()
    monkeypatch.setattr(module.F, "scaled_dot_product_attention", slow_flash)
    assert list(module.kernels(torch.device("cpu"), torch.float32, 16))[-1] == "FLASH_ATTENTION"
    module.kernels.cache_clear()


def _kernels_allowed() -> list[str]:
    from torch.nn.attention import _cur_sdpa_kernel_backends

    return [kernel.name for kernel in _cur_sdpa_kernel_backends()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_chosen_kernels_agree_with_the_definition() -> None:
    q, k, v = (x.cuda().bfloat16() for x in _qkv(5, length=200, text=90))
    with torch.inference_mode():
        found = attention(q, k, v)
    choose_backend("plain")
    assert (found - attention(q, k, v)).abs().max() < 0.03
    assert module.kernels(q.device, q.dtype, q.shape[-1])


def test_the_backend_is_described_with_its_reason() -> None:
    assert "fastest on a CPU" in backend() and "512" in backend()
    assert "scaled_dot_product" in backend("cuda")
    choose_backend("plain")
    assert backend("cuda") == "plain (asked for)"


def test_a_split_bias_weighs_as_the_whole_one() -> None:
    bias = torch.log(torch.tensor([[1.0, 2.0, 3.0, 226.0, 500.0, 511.0, 0.0]]))
    for dtype in (torch.bfloat16, torch.float16):
        high, low = split_bias(bias, dtype)
        assert high.dtype == low.dtype == dtype
        torch.testing.assert_close(high.float().exp() + low.float().exp(), bias.exp(), rtol=3e-4, atol=0)
    rounded = bias.bfloat16().float().exp()
    assert ((rounded - bias.exp()).abs() / bias.exp()).nan_to_num().max() > 1e-3  # why it is done


def test_an_unknown_backend_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="'flash'.*fused"):
        choose_backend("flash")


def _norm_rotate_slowly(x: Tensor, weight: Tensor, rope: Tensor | None) -> Tensor:
    y = F.rms_norm(x, (x.shape[-1],), weight, 1e-6).unflatten(-1, (3, -1))
    if rope is None:
        return y
    cos, sin = rope.unbind(-1)
    x0, x1 = y.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([x0 * cos - x1 * sin, x0 * sin + x1 * cos], dim=-1).flatten(-2)


@pytest.mark.parametrize("turned", [False, True])
def test_norm_heads_equals_norm_then_rotation_with_its_gradient(turned: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    positions = torch.arange(10.0)
    rope = rotation((positions, positions / 3, positions % 4), 12) if turned else None
    upstream = torch.randn(2, 10, 3, 12, generator=generator)
    results = []
    for slow in (True, False):
        torch.manual_seed(6)
        x, weight = torch.randn(2, 10, 36).requires_grad_(), torch.rand(36).requires_grad_()
        y = _norm_rotate_slowly(x, weight, rope) if slow else norm_heads(x, weight, 3, 1e-6, rope)
        y.backward(upstream)
        results.append((y.detach(), x.grad, weight.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    torch.manual_seed(7)
    zeros = torch.zeros(2)
    near = rotation((torch.tensor([1.0, 3.5]), zeros, zeros), 12)
    far = rotation((torch.tensor([11.0, 13.5]), zeros, zeros), 12)
    q, k = torch.randn(1, 1, 1, 12), torch.randn(1, 1, 1, 12)
    turned = [(rotate(q.clone(), t[:1]) * rotate(k.clone(), t[1:])).sum() for t in (near, far)]
    torch.testing.assert_close(turned[0], turned[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rotate(q.clone(), near[1:]).norm(), q.norm())
    assert not torch.allclose(turned[0], (q * k).sum(), atol=1e-3)


def test_turning_back_undoes_turning() -> None:
    x = torch.randn(1, 4, 2, 12, generator=torch.Generator().manual_seed(8))
    rope = rotation((torch.arange(4.0), torch.arange(4.0), torch.arange(4.0)), 12)
    torch.testing.assert_close(rotate(rotate(x.clone(), rope), rope, backwards=True), x)


def test_rotation_without_complex_numbers_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 4, 2, 12, generator=torch.Generator().manual_seed(9))
    rope = rotation((torch.arange(4.0), torch.arange(4.0), torch.arange(4.0)), 12)
    expected = [rotate(x.clone(), rope, backwards=b) for b in (False, True)]
    monkeypatch.setattr(module, "COMPLEX_DEVICES", ())
    for b in (False, True):
        torch.testing.assert_close(rotate(x.clone(), rope, backwards=b), expected[b])
