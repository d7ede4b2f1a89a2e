"""Muon: orthogonal steps of AdamW's size, for the matrices inside a network and for nothing else."""

import pytest
import torch

from sorano.models.wan.text_encoder import TextEncoder
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder
from sorano.train import optimizer
from sorano.train.optimizer import ADAMW_RMS, Muon, optimizers, orthogonal
from sorano.train.recipes import find


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 12, 40), (2, 40, 12)])
def test_its_steps_are_nearly_orthogonal_and_keep_their_directions(shape, dtype):
    u, stretch, v = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False
    )
    made = orthogonal(u * torch.logspace(0, -1.3, stretch.shape[1]) @ v, dtype)  # one direction twenty times as strong
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.5 and values.max() < 1.3
    nearest = u @ v
    likeness = (made * nearest).sum((1, 2)) / (made.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert likeness.min() > 0.95


@pytest.mark.parametrize(("feature", "dtype"), [("", torch.float32), ("AMX", torch.bfloat16)])
def test_a_processor_that_emulates_bfloat16_multiplies_in_float32(monkeypatch, feature, dtype):
    monkeypatch.setattr(optimizer, "bf16_feature", lambda: feature)
    taken = []
    monkeypatch.setattr(optimizer, "orthogonal", lambda steps, dtype: taken.append(dtype) or steps)
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.ones(4, 4)
    Muon([weight], 0.1).step()
    assert taken == [dtype]


def test_matrices_made_orthogonal_together_are_as_if_alone():
    matrices = torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(1))
    alone = torch.stack([orthogonal(one[None])[0] for one in matrices])
    assert torch.allclose(orthogonal(matrices), alone, atol=0.02)


def test_its_steps_have_the_size_of_adamw_steps():
    weight = torch.nn.Parameter(torch.zeros(32, 8, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.01, weight_decay=0.0).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.01 * ADAMW_RMS, rel=0.3)


def test_a_badly_scaled_valley_is_crossed_sooner_than_with_adamw():
    def after(optimizer_of, steps=60):
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.zeros(16, 16))
        target = torch.randn(16, 16, generator=generator)
        mixing = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0] * torch.logspace(0, -1.5, 16)
        optimizer = optimizer_of([weight])
        for _ in range(steps):
            optimizer.zero_grad()
            loss = ((weight - target) @ mixing).square().sum()
            loss.backward()
            optimizer.step()
        return (weight.detach() - target).square().mean().item()

    muon = after(lambda parameters: Muon(parameters, lr=0.2, weight_decay=0.0))
    adamw = after(lambda parameters: torch.optim.AdamW(parameters, lr=0.2 * ADAMW_RMS, weight_decay=0.0))
    assert muon < adamw, (muon, adamw)


def test_every_trained_parameter_has_one_optimizer_and_only_inner_matrices_have_muon():
    recipe = find("smoke")
    for model in (VideoTransformer(recipe.transformer), TextEncoder(recipe.text_encoder), VideoAutoencoder(recipe.vae)):
        made = optimizers(model, 1e-3, betas=(0.9, 0.95), weight_decay=0.01)
        taken = [id(p) for optimizer in made for group in optimizer.param_groups for p in group["params"]]
        assert sorted(taken) == sorted(id(p) for p in model.parameters())
        names = {id(p): name for name, p in model.named_parameters()}
        inner = {names[id(p)] for p in made[1].param_groups[0]["params"]}
        assert inner and all(name.endswith("weight") for name in inner)
        assert not any(part in name for name in inner for part in ("proj_out", "patch_embedding", "conv_in", "shared"))
