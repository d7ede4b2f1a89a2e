"""LoRA files in every spelling merge into what diffusers computes with them, come out to the bit, or are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sorano.errors import CheckpointError
from sorano.models import lora as lora_module
from sorano.models.layers import fused
from sorano.models.lora import Delta, Lora, load_lora, merge, unmerge
from sorano.models.wan.transformer import FUSED, VideoTransformer, fuse_qkv

Tensors = dict[str, Tensor]
RANK = 3
LAYERS = [name for name, layer in tiny.transformer().named_modules() if isinstance(layer, nn.Linear)]
BLOCK_LAYERS = [name for name in LAYERS if name.startswith("blocks.")]
TIMES = torch.tensor([812.0, 333.0])


def _matrices(seed: int = 0, rank: int = RANK, layers: list[str] = LAYERS) -> dict[str, tuple[Tensor, Tensor]]:
    """Random (down, up) for each layer."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tiny.transformer().get_submodule(name).weight.shape for name in layers}
    return {
        name: (
            torch.randn(rank, shape[1], generator=generator) * 0.3,
            torch.randn(shape[0], rank, generator=generator) * 0.3,
        )
        for name, shape in shapes.items()
    }


def _as_peft(matrices: Mapping[str, tuple[Tensor, Tensor]], prefix: str = "transformer.", adapter: str = "") -> Tensors:
    tensors = {f"{prefix}{name}.lora_A{adapter}.weight": down for name, (down, _) in matrices.items()}
    return tensors | {f"{prefix}{name}.lora_B{adapter}.weight": up for name, (_, up) in matrices.items()}


def _wan_name(name: str) -> str:
    """Wan's own name of a layer that diffusers calls so."""
    number, _, inside = name.removeprefix("blocks.").partition(".")
    whole, block = ({ours: wan for wan, ours in table.items()} for table in (lora_module._WHOLE, lora_module._BLOCK))
    return f"blocks.{number}.{block[inside]}" if name.startswith("blocks.") else whole[name]


def _as_wan(matrices: Mapping[str, tuple[Tensor, Tensor]], alpha: float | None = None, flat: bool = False) -> Tensors:
    tensors = {}
    for name, (down, up) in matrices.items():
        layer = f"lora_unet_{_wan_name(name).replace('.', '_')}" if flat else f"diffusion_model.{_wan_name(name)}"
        tensors |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
        if alpha is not None:
            tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    return tensors


def _write(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path, metadata=metadata)
    return path


def _load(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None, name: str = "lora") -> Lora:
    return load_lora(_write(folder / f"{name}.safetensors", tensors, metadata))


def _weights(network: nn.Module) -> Tensors:
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def _same_bits(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def _output(network: VideoTransformer) -> Tensor:
    with torch.no_grad():
        return network(tiny.latent(), TIMES, tiny.text())


def _stock_output(matrices: Mapping[str, tuple[Tensor, Tensor]], factor: float) -> Tensor:
    """diffusers' network with the LoRA beside its layers, as PEFT computes it: W x + b + factor * up (down x)."""
    diffusers = pytest.importorskip("diffusers")
    stock = diffusers.WanTransformer3DModel.from_config(tiny.TRANSFORMER.to_dict()).eval()
    stock.load_state_dict(tiny.transformer().state_dict(), strict=True)

    def beside(down: Tensor, up: Tensor) -> Callable[..., Tensor]:
        return lambda _, inputs, output: output + factor * (inputs[0] @ down.T) @ up.T

    for name, (down, up) in matrices.items():
        stock.get_submodule(name).register_forward_hook(beside(down, up))
    text = tiny.text()
    padded = nn.functional.pad(text.text_BSD, (0, 0, 0, 512 - text.text_BSD.shape[1]))
    with torch.no_grad():
        return stock(tiny.latent(), TIMES, padded).sample


@pytest.mark.parametrize("scale", [1.0, -0.7])
def test_the_merged_network_equals_diffusers_with_the_lora(scale: float, tmp_path: Path) -> None:
    matrices, network = _matrices(), tiny.transformer()
    plain = _output(network)
    merge(network, _load(tmp_path, _as_wan(matrices, alpha=2.0)), scale)
    expected = _stock_output(matrices, scale * 2.0 / RANK)
    assert tiny.error(_output(network), expected) < 1e-5
    assert tiny.error(plain, expected) > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loras_come_and_go_without_leaving_a_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    first = _load(tmp_path, _as_peft(_matrices(seed=1)), name="first")
    second = _load(tmp_path, _as_peft(_matrices(seed=2, rank=5, layers=LAYERS[::2])), name="second")
    network = tiny.transformer().to(dtype)
    before, places = _weights(network), [weight.data_ptr() for weight in network.parameters()]
    merge(network, second, 0.3)
    only_second = _weights(network)
    assert not _same_bits(before, only_second)
    merge(network, first)
    unmerge(network, first)
    assert _same_bits(only_second, _weights(network))
    merge(network, first, 2.0)
    merge(network, first, 0.5)  # another scale, not a second helping
    unmerge(network, second)
    other = tiny.transformer().to(dtype)
    merge(other, first, 0.5)
    assert _same_bits(_weights(other), _weights(network))
    unmerge(network, first)
    assert _same_bits(before, _weights(network))
    assert [weight.data_ptr() for weight in network.parameters()] == places  # kept, not copied
    assert all(isinstance(weight, nn.Parameter) and not weight.requires_grad for weight in network.parameters())


def test_weights_side_by_side_part_for_a_lora_and_come_together_after_it(tmp_path: Path) -> None:
    network, plain = tiny.transformer(), tiny.transformer()
    fuse_qkv(network)
    lora = _load(tmp_path, _as_peft(_matrices(seed=1)), name="first")
    inputs = tiny.latent(1), torch.tensor([500.0]), tiny.text((5,))
    with torch.inference_mode():
        before = network(*inputs)
        merge(network, lora)
        merge(plain, lora)
        assert tiny.error(network(*inputs), plain(*inputs)) < 1e-5
        unmerge(network, lora)
        assert torch.equal(network(*inputs), before)
    assert all(fused([getattr(block.attn1, name) for name in FUSED]) is not None for block in network.blocks)


def test_two_loras_are_the_sum_of_both(tmp_path: Path) -> None:
    parts = [_matrices(seed=3), _matrices(seed=4)]
    network = tiny.transformer()
    for number, matrices in enumerate(parts):
        merge(network, _load(tmp_path, _as_peft(matrices), name=str(number)), 0.5 + number)
    for name in LAYERS:
        expected = tiny.transformer().get_submodule(name).weight.double()
        for number, (down, up) in enumerate(part[name] for part in parts):
            expected = expected + (0.5 + number) * up.double() @ down.double()
        assert tiny.error(network.get_submodule(name).weight.double(), expected) < 1e-6


SPELLINGS: dict[str, Callable[[Mapping[str, tuple[Tensor, Tensor]]], Tensors]] = {
    "diffusers": _as_peft,
    "diffusers, one network": lambda matrices: _as_peft(matrices, prefix=""),
    "PEFT": lambda matrices: _as_peft(matrices, prefix="base_model.model."),
    "PEFT with an adapter's name": lambda matrices: _as_peft(matrices, prefix="", adapter=".soft_light"),
    "diffusers' names for ComfyUI": lambda matrices: _as_peft(matrices, prefix="diffusion_model."),
    "Wan's names": _as_wan,
    "Wan's names with lora_A": lambda matrices: {
        key.replace("_down", "_A").replace("_up", "_B"): value for key, value in _as_wan(matrices).items()
    },
    "Musubi": lambda matrices: _as_wan(matrices, flat=True),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_says_the_same(spelling: str, tmp_path: Path) -> None:
    matrices = _matrices()
    found = _load(tmp_path, SPELLINGS[spelling](matrices)).parts
    assert found.keys() == {"transformer"}
    assert found["transformer"].keys() == {f"{name}.weight" for name in LAYERS}
    for name, (down, up) in matrices.items():
        delta = found["transformer"][f"{name}.weight"]
        assert delta.factor == 1.0
        assert torch.equal(delta.up, up) and delta.down is not None and torch.equal(delta.down, down)


@pytest.mark.parametrize("flat", [False, True], ids=["ComfyUI", "Musubi"])
def test_wans_names_and_alphas_mean_what_diffusers_makes_of_them(flat: bool, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from diffusers.loaders import lora_conversion_utils as stock

    tensors = _as_wan(_matrices(layers=BLOCK_LAYERS), alpha=1.7, flat=flat)
    convert = (
        stock._convert_musubi_wan_lora_to_diffusers if flat else stock._convert_non_diffusers_wan_lora_to_diffusers
    )
    expected = convert({key: tensor.clone() for key, tensor in tensors.items()})  # it scales some of them in place
    found = _load(tmp_path, tensors).parts["transformer"]
    assert len(expected) == 2 * len(found)
    for weight, delta in found.items():
        layer = f"transformer.{weight.removesuffix('.weight')}"
        product = expected[f"{layer}.lora_B.weight"] @ expected[f"{layer}.lora_A.weight"]
        assert delta.down is not None
        assert tiny.error(delta.factor * delta.up @ delta.down, product) < 1e-6


def test_other_layers_and_biases_mean_what_diffusers_makes_of_them(tmp_path: Path) -> None:
    """The time, text and head layers, image keys of Wan 2.1, and differences of biases."""
    pytest.importorskip("diffusers")
    from diffusers.loaders import lora_conversion_utils as stock

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)))

    names = ["blocks.0.self_attn.q", "blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img", "time_projection.1"]
    names += ["time_embedding.0", "time_embedding.2", "text_embedding.0", "text_embedding.2", "img_emb.proj.1"]
    names += ["img_emb.proj.3", "head.head"]
    tensors: Tensors = {}
    for number, name in enumerate(names, start=4):
        tensors[f"diffusion_model.{name}.lora_down.weight"] = matrix(RANK, number)
        tensors[f"diffusion_model.{name}.lora_up.weight"] = matrix(number + 1, RANK)
        tensors[f"diffusion_model.{name}.diff_b"] = matrix(number + 1)
    expected = stock._convert_non_diffusers_wan_lora_to_diffusers(dict(tensors))
    found = _load(tmp_path, tensors).parts["transformer"]
    kinds = {".lora_A.weight": ".weight", ".lora_B.weight": ".weight", ".lora_B.bias": ".bias"}
    for key, tensor in expected.items():
        kind = next(kind for kind in kinds if key.endswith(kind))
        delta = found[key.removeprefix("transformer.").removesuffix(kind) + kinds[kind]]
        assert torch.equal(tensor, delta.down if kind == ".lora_A.weight" else delta.up)
    assert len(found) == 2 * len(names)


def test_the_names_are_those_of_diffusers_largest_kind() -> None:
    """First-and-last-frame to video has every layer that a Wan transformer may have."""
    diffusers = pytest.importorskip("diffusers")
    config = {**tiny.TRANSFORMER.to_dict(), "image_dim": 16, "added_kv_proj_dim": 48, "pos_embed_seq_len": 10}
    with torch.device("meta"):
        stock = diffusers.WanTransformer3DModel.from_config(config)
    weights = {name for name, _ in stock.named_parameters() if not name.endswith(".bias")}
    names = [*lora_module._WHOLE, *(f"blocks.{i}.{name}" for i in range(2) for name in lora_module._BLOCK)]
    assert {lora_module._weight_of(name) for name in names} == weights


def test_whole_differences_are_added_as_they_are(tmp_path: Path) -> None:
    network = tiny.transformer()
    targets = {
        "head.head.diff": "proj_out.weight",
        "head.head.diff_b": "proj_out.bias",
        "head.diff_m": "scale_shift_table",
        "blocks.1.diff_m": "blocks.1.scale_shift_table",
        "blocks.0.norm3.diff": "blocks.0.norm2.weight",
        "blocks.0.norm3.diff_b": "blocks.0.norm2.bias",
        "blocks.0.self_attn.norm_q.diff": "blocks.0.attn1.norm_q.weight",
        "patch_embedding.diff": "patch_embedding.weight",
    }
    before = _weights(network)
    tensors = {f"diffusion_model.{key}": torch.randn(before[weight].shape) for key, weight in targets.items()}
    lora = _load(tmp_path, tensors)
    merge(network, lora, 0.5)
    after = _weights(network)
    for key, weight in targets.items():
        assert torch.allclose(after[weight], before[weight] + 0.5 * tensors[f"diffusion_model.{key}"], atol=1e-6)
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(targets.values())
    unmerge(network, lora)
    assert _same_bits(before, _weights(network))


def test_a_convolution_is_a_product_too(tmp_path: Path) -> None:
    network = tiny.transformer()
    weight = network.patch_embedding.weight
    down, up = torch.randn(RANK, *weight.shape[1:]), torch.randn(weight.shape[0], RANK, 1, 1, 1)
    name = "transformer.patch_embedding"
    latent, expected = tiny.latent(), network.patch_embedding(tiny.latent())
    expected = expected + nn.functional.conv3d(nn.functional.conv3d(latent, down, stride=(1, 2, 2)), up)
    merge(network, _load(tmp_path, {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}))
    assert tiny.error(network.patch_embedding(latent), expected) < 1e-5


def _factors(lora: Lora, part: str = "transformer") -> dict[str, float]:
    return {weight.removesuffix(".weight"): delta.factor for weight, delta in lora.parts[part].items()}


def test_the_settings_that_diffusers_writes_are_honoured(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    q, out, first = "blocks.0.attn1.to_q", "blocks.1.attn1.to_out.0", "blocks.1.ffn.net.0.proj"
    matrices = {**_matrices(rank=4, layers=[q, out]), **_matrices(rank=2, layers=[first])}
    metadata = {"r": 4, "lora_alpha": 12, "rank_pattern": {"ffn.net.0.proj": 2}, "alpha_pattern": {f"^{q}": 5}}
    for name, rslora, expected in (
        ("plain", False, {q: 5 / 4, out: 12 / 4, first: 12 / 2}),
        ("rank-stabilised", True, {q: 5 / 2, out: 12 / 2, first: 12 / 2**0.5}),
    ):
        diffusers.WanPipeline.save_lora_weights(
            tmp_path / name,
            transformer_lora_layers=_as_peft(matrices, prefix=""),
            transformer_lora_adapter_metadata={**metadata, "use_rslora": rslora},
        )
        assert _factors(load_lora(tmp_path / name)) == pytest.approx(expected)


def test_settings_beside_a_peft_file_and_without_prefixes_are_honoured(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "base_model_name_or_path": "a.b"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    _write(tmp_path / "adapter_model.safetensors", _as_peft(_matrices(), prefix="base_model.model."))
    assert set(_factors(load_lora(tmp_path)).values()) == {2.0}
    plain = _load(tmp_path, _as_peft(_matrices()))
    assert set(_factors(plain).values()) == {1.0}  # the settings beside are of another file
    header = _load(tmp_path, _as_peft(_matrices(), prefix=""), {lora_module.METADATA: json.dumps(settings)})
    assert set(_factors(header).values()) == {2.0}


def test_a_layers_own_alpha_comes_before_the_settings(tmp_path: Path) -> None:
    tensors = _as_peft(_matrices()) | {f"transformer.{LAYERS[0]}.alpha": torch.tensor(9)}
    tensors[f"transformer.{LAYERS[0]}.lora_B.bias"] = torch.ones(
        tiny.transformer().get_submodule(LAYERS[0]).out_features
    )
    header = {lora_module.METADATA: json.dumps({"transformer.r": RANK, "transformer.lora_alpha": RANK})}
    lora = _load(tmp_path, tensors, header)
    factors = _factors(lora)
    assert (factors[LAYERS[0]], factors[LAYERS[1]]) == (3.0, 1.0)
    assert lora.parts["transformer"][f"{LAYERS[0]}.bias"].factor == 3.0


def test_a_file_for_two_experts_goes_to_each_its_own(tmp_path: Path) -> None:
    high, low = _matrices(seed=5), _matrices(seed=6, rank=2)
    tensors = _as_peft(high) | _as_peft(low, prefix="transformer_2.")
    header = {lora_module.METADATA: json.dumps({"transformer_2.r": 2, "transformer_2.lora_alpha": 4})}
    lora = _load(tmp_path, tensors, header)
    networks = tiny.transformer(seed=0), tiny.transformer(seed=9)
    before = [_weights(network) for network in networks]
    merge(networks[0], lora)
    merge(networks[1], lora, part="transformer_2")
    for network, matrices, factor, weights in zip(networks, (high, low), (1.0, 2.0), before, strict=True):
        for name, (down, up) in matrices.items():
            expected = weights[f"{name}.weight"] + factor * up @ down
            assert tiny.error(network.get_submodule(name).weight, expected) < 1e-6
    for network, weights in zip(networks, before, strict=True):
        unmerge(network, lora)
        assert _same_bits(weights, _weights(network))
    with pytest.raises(CheckpointError, match="nothing for transformer_2, only for transformer$"):
        merge(networks[1], _load(tmp_path, _as_peft(high), name="one"), part="transformer_2")


def _without(tensors: Tensors, key: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != key}


FIRST = f"transformer.{LAYERS[0]}"
BROKEN: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "one matrix": (lambda t: _without(t, f"{FIRST}.lora_B.weight"), rf"{FIRST}.lora_A.weight needs two matrices"),
    "no matrix": (lambda t: {f"{FIRST}.alpha": torch.tensor(1.0)}, rf"{FIRST}.alpha needs two matrices"),
    "two ranks": (lambda t: t | {f"{FIRST}.lora_B.weight": torch.ones(48, 5)}, rf"{FIRST}.lora_B.weight .* multiply"),
    "twice": (lambda t: t | {f"{FIRST}.lora_down.weight": t[f"{FIRST}.lora_A.weight"]}, "are of one layer"),
    "two spellings": (lambda t: _as_wan(_matrices()) | _as_peft(_matrices(), "diffusion_model."), "are of one weight"),
    "not a number": (lambda t: t | {f"{FIRST}.lora_A.weight": torch.full((3, 64), torch.nan)}, "NaN"),
    "integers": (lambda t: t | {f"{FIRST}.lora_A.weight": torch.ones(3, 64, dtype=torch.int8)}, "int8"),
    "many alphas": (lambda t: t | {f"{FIRST}.alpha": torch.ones(2)}, "alpha is not one number"),
    "DoRA": (lambda t: t | {f"{FIRST}.lora_magnitude_vector": torch.ones(48)}, "DoRA, which is not supported"),
    "LoKr": (lambda t: {"diffusion_model.blocks.0.ffn.0.lokr_w1": torch.ones(2, 2)}, "needs two sides"),
    "FLUX": (lambda t: {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 2)}, "FLUX"),
    "Stable Diffusion": (lambda t: {"lora_unet_down_blocks_0_ff.lora_down.weight": torch.ones(2, 2)}, "Stable Diff"),
    "VACE": (lambda t: {"diffusion_model.vace_blocks.0.ffn.0.lora_A.weight": torch.ones(2, 2)}, "is of Wan VACE"),
    "unknown": (lambda t: t | {"transformer.blocks.0.attn3.to_q.lora_A.weight": torch.ones(2, 2)}, "attn3.* no layer"),
    "a whole model": (lambda t: {"blocks.0.attn1.to_q.weight": torch.ones(2, 2)}, "to_q.weight is no part of a LoRA"),
    "empty": (lambda t: {}, "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_or_foreign_file_is_refused(name: str, tmp_path: Path) -> None:
    edit, match = BROKEN[name]
    with pytest.raises(CheckpointError, match=match) as error:
        _load(tmp_path, edit(_as_peft(_matrices())))
    assert str(tmp_path / "lora.safetensors") in error.value.message


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ("{", "cannot be read"),
        (json.dumps({"transformer.r": 7}), "rank 3, and rank 7 by"),
        (json.dumps({"transformer.r": RANK, "transformer.lora_alpha": None}), "settings cannot be read"),
        (json.dumps({"transformer.r": RANK, "transformer.use_dora": True}), "DoRA is not supported"),
    ],
)
def test_settings_that_do_not_hold_are_refused(settings: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=match):
        _load(tmp_path, _as_peft(_matrices()), {lora_module.METADATA: settings})


def test_pickles_corrupt_and_missing_files_are_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "lora.pt")
    (tmp_path / "lora.safetensors").write_bytes((tmp_path / "lora.pt").read_bytes())
    with pytest.raises(CheckpointError, match=r"lora\.pt is a pickle"):
        load_lora(tmp_path / "lora.pt")
    with pytest.raises(CheckpointError, match=r"lora\.safetensors is corrupt, or not a safetensors file"):
        load_lora(tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match="there is no LoRA at"):
        load_lora(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="holds 0 of"):
        load_lora(tmp_path)


MISFITS = {  # a layer, the width of its input, and what is said of it
    "a block too many": ("blocks.2.attn1.to_q", 48, "blocks.2.*not have"),
    "an image layer": ("blocks.0.attn2.add_k_proj", 48, "add_k_proj.*not have"),
    "another width": ("blocks.0.attn1.to_k", 40, r"\[48, 40\] for .* \[48, 48\]"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_lora_for_another_network_is_refused_whole_or_merged_without_what_does_not_fit(
    name: str, tmp_path: Path
) -> None:
    layer, width, match = MISFITS[name]
    tensors = _as_peft({layer: (torch.ones(2, width), torch.ones(48, 2))})
    good = _as_peft(_matrices(layers=["blocks.0.attn1.to_v"]))
    lora, network = _load(tmp_path, good | tensors), tiny.transformer()
    before = _weights(network)
    with pytest.raises(CheckpointError, match=match) as error:
        merge(network, lora)
    assert str(lora.path) in error.value.message and "strict=False" in str(error.value)
    assert _same_bits(before, _weights(network))
    with pytest.raises(ValueError, match="is not merged"):
        unmerge(network, lora)
    assert merge(network, lora, strict=False) == tuple(key for key in tensors if "lora_A" in key)
    changed = {weight for weight, value in _weights(network).items() if not torch.equal(value, before[weight])}
    assert changed == {"blocks.0.attn1.to_v.weight"}
    with pytest.raises(CheckpointError, match=match):
        merge(network, _load(tmp_path, tensors, name="nothing fits"), strict=False)


@pytest.mark.parametrize("leaving", [False, True], ids=["coming", "leaving"])
def test_an_error_in_the_middle_leaves_everything_as_it_was(
    leaving: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _load(tmp_path, _as_peft(_matrices(seed=1)), name="there")
    other = _load(tmp_path, _as_peft(_matrices(seed=2, layers=LAYERS[::-1])), name="other")
    network = tiny.transformer()
    original = _weights(network)
    merge(network, there)
    if leaving:
        merge(network, other)
    before, calls, add_to = _weights(network), [0], Delta.add_to

    def fail_once(self: Delta, weight: Tensor, scale: float) -> None:
        calls[0] += 1
        if calls[0] == 8:
            raise MemoryError("no memory left")
        add_to(self, weight, scale)

    monkeypatch.setattr(Delta, "add_to", fail_once)
    with pytest.raises(MemoryError):
        unmerge(network, other) if leaving else merge(network, other)
    assert calls[0] > 8  # what had been changed was computed again
    assert _same_bits(before, _weights(network))
    if leaving:
        unmerge(network, other)
    else:
        with pytest.raises(ValueError, match="is not merged"):
            unmerge(network, other)
    unmerge(network, there)
    assert _same_bits(original, _weights(network))


def test_a_scale_must_be_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan times"):
        merge(tiny.transformer(), _load(tmp_path, _as_peft(_matrices())), math.nan)


LAYER = "blocks.0.attn1.to_q"
_DRAWN = torch.Generator().manual_seed(11)
DOWN, UP = torch.randn(RANK, 48, generator=_DRAWN), torch.randn(48, RANK, generator=_DRAWN)
SMALL, REST = torch.randn(4, 4, generator=_DRAWN), torch.randn(12, 12, generator=_DRAWN)
MORE_SPELLINGS: dict[str, tuple[Tensors, Tensor]] = {  # what a file holds, and what it adds
    **{
        prefix: ({f"{prefix}.lora_A.weight": DOWN, f"{prefix}.lora_B.weight": UP}, UP @ DOWN)
        for prefix in (
            *(f"pipe.dit.{LAYER}", f"model.diffusion_model.{LAYER}", f"module.{LAYER}", f"_orig_mod.{LAYER}"),
            *(f"module._orig_mod.transformer.{LAYER}", f"dit.{LAYER}", "lycoris_blocks_0_attn1_to_q"),
            *("lora_transformer_blocks_0_attn1_to_q", "lycoris_transformer_blocks_0_self_attn_q"),
        )
    },
    "old diffusers": (
        {f"transformer.{LAYER}.lora.down.weight": DOWN, f"transformer.{LAYER}.lora.up.weight": UP}, UP @ DOWN
    ),
    "LoKr": ({f"{LAYER}.lokr_w1": SMALL, f"{LAYER}.lokr_w2": REST, f"{LAYER}.alpha": torch.tensor(5.0)},
             torch.kron(SMALL, REST)),
    "LoKr of pairs": (
        {f"{LAYER}.lokr_w1": SMALL, f"{LAYER}.lokr_w2_a": UP[:12], f"{LAYER}.lokr_w2_b": DOWN[:, :12],
         f"{LAYER}.alpha": torch.tensor(6.0)},
        torch.kron(SMALL, UP[:12] @ DOWN[:, :12]) * 6 / RANK,
    ),
    "LoHa": (
        {f"{LAYER}.hada_w1_a": UP, f"{LAYER}.hada_w1_b": DOWN, f"{LAYER}.hada_w2_a": UP, f"{LAYER}.hada_w2_b": DOWN,
         f"{LAYER}.alpha": torch.tensor(1.5)},
        (UP @ DOWN) ** 2 * 1.5 / RANK,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MORE_SPELLINGS)
def test_a_file_adds_what_its_program_means(name: str, tmp_path: Path) -> None:
    tensors, wanted = MORE_SPELLINGS[name]
    network = tiny.transformer()
    before = _weights(network)
    lora = _load(tmp_path, tensors)
    merge(network, lora, 0.5)
    change = _weights(network)[f"{LAYER}.weight"] - before[f"{LAYER}.weight"]
    assert torch.allclose(change, 0.5 * wanted, atol=1e-5)
    unmerge(network, lora)
    assert _same_bits(before, _weights(network))


def test_what_is_for_no_transformer_is_left_out_and_named(tmp_path: Path) -> None:
    tensors = _as_peft(_matrices())
    extra = {"lora_te_encoder_0.lora_down.weight": DOWN, "lora_te_encoder_0.lora_up.weight": UP}
    extra |= {"diffusion_model.blocks.1.self_attn.k.alpha": torch.tensor(2.0)}
    one = {key: tensor for key, tensor in tensors.items() if LAYER in key}
    lora = _load(tmp_path, one | extra)
    assert set(lora.left_out) == set(extra)
    merge(tiny.transformer(), lora)
    with pytest.raises(CheckpointError, match="text encoder"):
        _load(tmp_path, {key: tensor for key, tensor in extra.items() if "lora_te" in key})


@pytest.mark.parametrize(
    ("text", "file", "scale", "expert"),
    [
        ("a.safetensors", "a.safetensors", 1.0, None),
        ("a.safetensors:.5", "a.safetensors", 0.5, None),
        ("a.safetensors:1e-1", "a.safetensors", 0.1, None),
        ("a.safetensors:+1", "a.safetensors", 1.0, None),
        ("a.safetensors:-0.8@low", "a.safetensors", -0.8, "low"),
        ("a.safetensors@HIGH", "a.safetensors", 1.0, "high"),
        ("x/high_noise_model.safetensors", "high_noise_model.safetensors", 1.0, "high"),
        ("Wan22_A14B_T2V_LOW_Lightning.safetensors:0.5", "Wan22_A14B_T2V_LOW_Lightning.safetensors", 0.5, "low"),
        ("highlands.safetensors", "highlands.safetensors", 1.0, None),
        ("low_noise.safetensors@high", "low_noise.safetensors", 1.0, "high"),
    ],
)
def test_a_loras_scale_and_expert_are_read(text: str, file: str, scale: float, expert: str | None) -> None:
    from sorano.request import lora_expert, parse_lora

    path, found = parse_lora(text)
    assert (path.name, found, lora_expert(text)) == (file, scale, expert)


def test_each_of_two_experts_gets_its_own_file(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from sorano.errors import RequestError
    from sorano.listener import Listener
    from sorano.pipeline import merged, read_loras

    files = [
        _write(tmp_path / f"{name}.safetensors", _as_peft(_matrices(), "")) for name in ("high_noise", "low_noise")
    ]
    plain = [_write(tmp_path / f"{name}.safetensors", _as_peft(_matrices(), "")) for name in ("a", "b")]

    def uses(*texts: object, experts: int = 2) -> list[str | None]:
        configs = SimpleNamespace(transformer_2=object() if experts == 2 else None)
        preset = SimpleNamespace(name="two", read_configs=lambda: configs)
        job = SimpleNamespace(request=SimpleNamespace(lora=[str(text) for text in texts]), preset=preset)
        found = read_loras(job, Listener())
        network = tiny.transformer()
        for name in ("transformer", "transformer_2"):  # what is for the other expert leaves this one as it is
            with merged(found, Listener())(name, network):
                inside = len(lora_module._MERGED[network].active) if network in lora_module._MERGED else 0
            assert inside == sum(one.network in (None, name) for one in found)
        return [one.network for one in found]

    assert uses(*files) == ["transformer", "transformer_2"]
    assert uses(*files, experts=1) == [None, None]
    assert uses(plain[0]) == [None]
    assert uses(f"{plain[0]}@high", f"{plain[1]}:0.5@low") == ["transformer", "transformer_2"]
    with pytest.raises(RequestError, match="two experts") as caught:
        uses(*plain)
    assert "@high" in caught.value.hint
