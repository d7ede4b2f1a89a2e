"""The fast ways of the layers against their slow twins."""

import pytest
import torch
import torch.nn.functional as F

from sorano.models import layers
from sorano.models.layers import CausalConv3d, ChannelRMSNorm, Linear, cat_frames, frames_of, norm_silu, video_of

VIDEO = torch.randn(2, 6, 5, 8, 10, generator=torch.Generator().manual_seed(0))


def by_definition(layer: CausalConv3d, x: torch.Tensor) -> torch.Tensor:
    """Zeros in front, then torch's own 3-D convolution."""
    x = F.pad(x, (0, 0, 0, 0, layer.past, 0))
    return F.conv3d(x, layer.weight, layer.bias, layer.stride, (0, *layer.spatial_padding))


@pytest.mark.parametrize("few", [0, 64], ids=["tap by tap", "all taps in one"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), ((3, 1, 1), 1, (1, 0, 0)), ((3, 1, 1), (2, 1, 1), 0), (1, 1, 0)],
    ids=["cube", "time", "halves time", "point"],
)
def test_a_causal_convolution_by_taps_is_the_3d_one(kernel, stride, padding, few, monkeypatch):
    monkeypatch.setattr(layers, "FEW_CHANNELS", few)
    layer = CausalConv3d(6, 7, kernel, stride, padding)
    for frames in (5, 4, 3) if layer.past == 0 else (5, 2, 1):
        x = VIDEO[:, :, :frames]
        with torch.no_grad():
            found = layer(x)
        torch.testing.assert_close(found, by_definition(layer, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 5])
def test_its_gradients_are_those_of_the_3d_one(frames):
    layer, grads = CausalConv3d(6, 7, 3, padding=1), []
    for work in (layer, lambda x: by_definition(layer, x)):
        x = VIDEO[:, :, :frames].clone().requires_grad_()
        layer.zero_grad()
        work(x).square().mean().backward()
        grads.append([x.grad, layer.weight.grad.clone(), layer.bias.grad.clone()])
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (1, 4), (2, 1, 2)])
def test_a_causal_convolution_goes_on_from_what_it_remembers(chunks):
    layer, state = CausalConv3d(6, 7, 3, padding=1), {}
    for fast in (False, True):
        state.clear()
        with torch.set_grad_enabled(not fast):
            found = torch.cat([layer(chunk, state) for chunk in VIDEO.split(chunks, dim=2)], dim=2)
            torch.testing.assert_close(found, layer(VIDEO), rtol=1e-5, atol=1e-6)
    assert state[layer].shape[2] == 2


def test_frames_are_views_and_channels_stay_last():
    video = video_of(torch.randn(10, 6, 8, 10).contiguous(memory_format=torch.channels_last), batch=2)
    assert frames_of(video).data_ptr() == video.data_ptr()
    with torch.no_grad():
        made = CausalConv3d(6, 7, 3, padding=1)(video)
    for x in (video, video[:, :, :1], cat_frames([video[:, :, :2], video]), made):
        assert frames_of(x).is_contiguous(memory_format=torch.channels_last)
    lone = frames_of(video[:1, :, :1] * 2)
    assert lone.stride(0) == lone.numel()  # else torch takes it for channels first


def test_norm_and_silu_in_place_equal_the_separate_operations():
    norm = ChannelRMSNorm(6, 3)
    with torch.no_grad():
        norm.gamma.normal_()
        found, x = norm_silu(norm, VIDEO), VIDEO.clone()
    torch.testing.assert_close(found, F.silu(norm(VIDEO)), rtol=1e-5, atol=1e-6)
    assert torch.equal(x, VIDEO)  # the input is not overwritten


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_products_by_onednn_equal_those_of_torch(bias, monkeypatch):
    layer, x = Linear(48, 32, bias=bias), torch.randn(2, 70, 48)
    found = []
    with torch.no_grad():
        for onednn in (True, False):
            monkeypatch.setattr(layers, "_onednn_products", onednn)
            found += [layer(x), layer(x[:, 3:9].transpose(0, 1)).transpose(0, 1)]
    for fast, slow in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN")
@pytest.mark.parametrize("rows", [1, 10, 63, 112])
@pytest.mark.parametrize("width", [16, 32, 192])
def test_products_by_onednn_are_the_same_by_any_number_of_threads(rows, width, monkeypatch):
    monkeypatch.setattr(layers, "_onednn_products", True)
    generator = torch.Generator().manual_seed(rows * width)
    x, weight = (torch.randn(n, width, generator=generator) for n in (rows, 2 * width))
    before, made = torch.get_num_threads(), []
    with torch.no_grad():
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            made.append(layers.linear(x, weight))
    torch.set_num_threads(before)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
