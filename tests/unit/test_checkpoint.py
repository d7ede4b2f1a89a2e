"""Model folders: round trips, strictness, and every way in which one can be broken."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sorano.errors import CheckpointError
from sorano.models import checkpoint
from sorano.models.layers import fused
from sorano.models.wan import transformer
from sorano.sampling.schedule import scheduler_config

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


def _save(folder: Path, dtype: torch.dtype | None = None, **changes: Any) -> Path:
    checkpoint.save(folder, dataclasses.replace(tiny.bundle(), **changes), dtype=dtype)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _save(tmp_path / "model")


def _edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _edit_tensors(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_what_is_saved_is_loaded(folder: Path) -> None:
    saved, loaded = tiny.bundle(), checkpoint.load(folder)
    for name in ("transformer", "vae", "text_encoder"):
        ours, theirs = getattr(saved, name), getattr(loaded, name)
        assert ours.config == theirs.config
        expected = ours.state_dict()
        assert expected.keys() == theirs.state_dict().keys()
        assert all(torch.equal(expected[key], value) for key, value in theirs.state_dict().items())
        assert not theirs.training and not any(weight.requires_grad for weight in theirs.parameters())
    assert loaded.tokenizer.encode(["a red ball"]) == saved.tokenizer.encode(["a red ball"])
    assert loaded.scheduler_config == saved.scheduler_config
    assert loaded.expand_timesteps is True
    assert loaded.folder == folder


def test_the_layout_is_diffusers(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        TEXT,
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "transformer/config.json",
        TRANSFORMER,
        "vae/config.json",
        VAE,
    ]
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "WanPipeline" and index["expand_timesteps"] is True
    assert index["vae"] == ["diffusers", "AutoencoderKLWan"]


def test_loaded_networks_compute_what_the_saved_ones_do(folder: Path) -> None:
    saved, loaded = tiny.bundle(), checkpoint.load(folder)
    time = torch.tensor([500.0, 20.0])
    assert torch.equal(
        loaded.transformer(tiny.latent(), time, tiny.text()), saved.transformer(tiny.latent(), time, tiny.text())
    )
    assert torch.equal(loaded.vae.decode(tiny.latent()), saved.vae.decode(tiny.latent()))
    assert torch.equal(loaded.text_encoder.encode([[3, 1]]).text_BSD, saved.text_encoder.encode([[3, 1]]).text_BSD)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_on_disk_is_float32_in_memory_if_asked(tmp_path: Path, stored: torch.dtype) -> None:
    folder = _save(tmp_path / "half", dtype=stored)
    assert {tensor.dtype for tensor in load_file(folder / TRANSFORMER).values()} == {stored}
    loaded = checkpoint.load(folder, dtype=torch.float32)
    assert {weight.dtype for weight in loaded.transformer.parameters()} == {torch.float32}
    time = torch.tensor([500.0, 20.0])
    expected = tiny.transformer()(tiny.latent(), time, tiny.text())
    assert tiny.error(loaded.transformer(tiny.latent(), time, tiny.text()), expected) < 0.05


def test_bfloat16_in_memory_keeps_norms_time_and_tables_in_float32(folder: Path) -> None:
    loaded = checkpoint.load(folder, dtype=torch.bfloat16)
    dtypes = {name: weight.dtype for name, weight in loaded.transformer.named_parameters()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert dtypes["blocks.0.norm2.weight"] == dtypes["blocks.1.scale_shift_table"] == torch.float32
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    time = torch.tensor([500.0, 20.0])
    found = loaded.transformer(tiny.latent().bfloat16(), time, tiny.text()).float()
    assert tiny.error(found, tiny.transformer()(tiny.latent(), time, tiny.text())) < 0.05
    assert loaded.vae.decode(tiny.latent().bfloat16()).dtype == torch.bfloat16


def test_loading_maps_the_file_instead_of_copying_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors of one file share its memory: they lie at their offsets in the file."""
    monkeypatch.setattr(transformer, "FUSED_WIDTH_ON_CPU", 0)  # these are narrow; wide ones are never moved
    weights = dict(checkpoint.load(folder).transformer.named_parameters())
    raw = (folder / TRANSFORMER).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    starts = {name: header[name]["data_offsets"][0] for name in weights}
    first = min(starts, key=lambda name: starts[name])
    distances = {name: weights[name].data_ptr() - weights[first].data_ptr() for name in weights}
    assert distances == {name: start - starts[first] for name, start in starts.items()}


def test_queries_keys_and_values_are_loaded_side_by_side_and_saved_apart(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(folder)
    for block in loaded.transformer.blocks:
        weight, bias = fused([getattr(block.attn1, name) for name in transformer.FUSED])
        assert weight.shape == (144, 48) and bias.shape == (144,)
        assert torch.equal(weight[48:96], block.attn1.to_k.weight)
        assert fused([getattr(block.attn2, name) for name in transformer.FUSED]) is None
    checkpoint.save(tmp_path / "again", loaded)
    names, again = load_file(folder / TRANSFORMER), load_file(tmp_path / "again" / TRANSFORMER)
    assert names.keys() == again.keys() and all(torch.equal(names[key], again[key]) for key in names)


def test_weights_of_convolutions_lie_channels_last_on_a_gpu_and_compute_the_same() -> None:
    vae = tiny.vae()
    kinds = {}
    for key, weight in vae.named_parameters():
        kinds.setdefault(weight.ndim, set()).add(checkpoint.layout(key, weight))
        weight.data = weight.data.contiguous(memory_format=checkpoint.layout(key, weight))
    assert kinds[5] == {torch.channels_last_3d} and kinds[1] == {torch.contiguous_format}
    with torch.no_grad():
        assert tiny.error(vae.decode(tiny.latent(1)), tiny.vae().decode(tiny.latent(1))) < 1e-6
    patches = tiny.transformer().patch_embedding.weight
    assert checkpoint.layout("patch_embedding.weight", patches) == torch.contiguous_format


def test_shards_and_their_index_are_read(folder: Path) -> None:
    tensors = load_file(folder / TRANSFORMER)
    names = sorted(tensors)
    shards = {"a-00001-of-00002.safetensors": names[::2], "a-00002-of-00002.safetensors": names[1::2]}
    for file, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, folder / "transformer" / file)
    index = {"weight_map": {key: file for file, keys in shards.items() for key in keys}}
    (folder / TRANSFORMER).unlink()
    (folder / f"{TRANSFORMER}.index.json").write_text(json.dumps(index))
    loaded = checkpoint.load(folder).transformer.state_dict()
    assert all(torch.equal(loaded[key], tensors[key]) for key in names)
    index["weight_map"]["proj_out.bias"] = "../elsewhere.safetensors"
    (folder / f"{TRANSFORMER}.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="elsewhere"):
        checkpoint.load(folder)


def _shards(folder: Path) -> tuple[dict[str, dict[str, Any]], Path]:
    """The transformer in two shards, and their index."""
    tensors = load_file(folder / TRANSFORMER)
    files = {f"a-{number}.safetensors": sorted(tensors)[number::2] for number in (0, 1)}
    for file, keys in files.items():
        save_file({key: tensors[key] for key in keys}, folder / "transformer" / file)
    (folder / TRANSFORMER).unlink()
    index = {"weight_map": {key: file for file, keys in files.items() for key in keys}}
    path = folder / f"{TRANSFORMER}.index.json"
    path.write_text(json.dumps(index))
    return index, path


@pytest.mark.parametrize("wrong", ["in no shard", "swapped", "not listed", "in two shards"])
def test_an_index_that_disagrees_with_its_shards_is_refused(folder: Path, wrong: str) -> None:
    index, path = _shards(folder)
    listed = index["weight_map"]
    if wrong == "in no shard":
        listed["blocks.9.nothing"] = "a-0.safetensors"
    elif wrong == "swapped":
        listed["proj_out.bias"] = {"a-0.safetensors": "a-1.safetensors", "a-1.safetensors": "a-0.safetensors"}[
            listed["proj_out.bias"]
        ]
    elif wrong == "not listed":
        del listed["proj_out.bias"]
    else:
        for name in ("a-0.safetensors", "a-1.safetensors"):
            shard = folder / "transformer" / name
            tensors = load_file(shard)
            tensors["proj_out.bias"] = torch.zeros(8)
            save_file(tensors, shard)
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"transformer/.*(proj_out\.bias|blocks\.9\.nothing)"):
        checkpoint.load(folder)


@pytest.mark.parametrize("wrong", ["missing", "truncated", "of another shape", "a pickle"])
def test_networks_that_come_late_are_looked_at_before_the_work(folder: Path, wrong: str) -> None:
    if wrong == "missing":
        (folder / VAE).unlink()
    elif wrong == "truncated":
        (folder / VAE).write_bytes((folder / VAE).read_bytes()[:-100])
    elif wrong == "a pickle":
        (folder / VAE).rename((folder / VAE).with_suffix(".bin"))
    else:
        _edit_tensors(folder / VAE, lambda t: t.update({"decoder.conv_in.bias": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match="vae"):
        checkpoint.load(folder, filled=False)


def test_a_tied_embedding_may_have_either_name(folder: Path) -> None:
    _edit_tensors(folder / TEXT, lambda t: t.update({"encoder.embed_tokens.weight": t.pop("shared.weight")}))
    expected = tiny.text_encoder().shared.weight
    assert torch.equal(checkpoint.load(folder).text_encoder.shared.weight, expected)


def test_a_folder_is_replaced_whole_and_keeps_what_is_not_its_own(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    (folder / "transformer" / "stale.safetensors").write_bytes(b"")
    _save(folder, transformer=tiny.transformer(seed=7))
    assert (folder / "README.md").read_text() == "mine"
    assert not (folder / "transformer" / "stale.safetensors").exists()
    assert torch.equal(checkpoint.load(folder).transformer.proj_out.bias, tiny.transformer(seed=7).proj_out.bias)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_folder(folder: Path) -> None:
    before = checkpoint.digests_of(folder)

    class Unsaveable(nn.Module):
        config = tiny.VAE

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        _save(folder, vae=Unsaveable())
    assert checkpoint.digests_of(folder) == before


def test_digests_are_written_beside_the_folder_and_checked(folder: Path) -> None:
    lines = checkpoint.write_digests(folder).read_text().splitlines()
    assert (folder.parent / "model.sha256").exists()
    digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert digests == checkpoint.digests_of(folder)
    assert checkpoint.load(folder, digests=digests).digests == digests
    raw = bytearray((folder / VAE).read_bytes())
    raw[-1] ^= 1  # one bit: still a valid file
    (folder / VAE).write_bytes(raw)
    checkpoint.load(folder)
    with pytest.raises(CheckpointError, match=rf"vae.*is corrupt.*not {digests[VAE]}"):
        checkpoint.load(folder, digests=digests)


def test_a_file_with_a_digest_must_be_there(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="card.md is missing"):
        checkpoint.load(folder, digests={"card.md": "0" * 64})


def test_missing_and_unexpected_names_are_listed(folder: Path) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        for i in range(2):
            for part in ("to_q", "to_k"):
                tensors.pop(f"blocks.{i}.attn1.{part}.weight")
        tensors["surprise"] = torch.zeros(1)

    _edit_tensors(folder / TRANSFORMER, edit)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    assert "4 missing (blocks.0.attn1.to_k.weight" in str(caught.value)
    assert ", ...) and 1 unexpected (surprise)" in str(caught.value)


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    _edit_tensors(folder / VAE, lambda t: t.update({"encoder.conv_in.bias": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"encoder.conv_in.bias is \[3\] in the file and \[16\]"):
        checkpoint.load(folder)


def test_integers_are_not_weights(folder: Path) -> None:
    _edit_tensors(folder / VAE, lambda t: t.update({k: v.int() for k, v in t.items() if k == "encoder.conv_in.bias"}))
    with pytest.raises(CheckpointError, match="encoder.conv_in.bias holds torch.int32"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [TRANSFORMER, VAE, TEXT])
@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_a_damaged_weights_file_is_named(folder: Path, name: str, damage: str) -> None:
    raw = (folder / name).read_bytes()
    damaged = {"cut": raw[:-100], "header": b"\xff" * 8 + raw[8:], "empty": b""}[damage]
    (folder / name).write_bytes(damaged)
    with pytest.raises(CheckpointError, match=f"{name} is corrupt"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "vae/config.json", TRANSFORMER],
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "name", ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "vae/config.json"]
)
@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_broken_json_file_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model folder at .*nowhere"):
        checkpoint.load(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt"])
def test_a_pickle_is_refused(folder: Path, suffix: str) -> None:
    (folder / TRANSFORMER).rename((folder / TRANSFORMER).with_suffix(suffix))
    with pytest.raises(CheckpointError, match=f"{suffix} is a pickle.*refused"):
        checkpoint.load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    _edit_tensors(folder / VAE, lambda tensors: tensors["decoder.conv_in.bias"].__setitem__(3, value))
    with pytest.raises(CheckpointError, match=rf"{VAE}: decoder\.conv_in\.bias holds NaN or infinity"):
        checkpoint.load(folder)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_configuration_with_an_unknown_field_is_refused(folder: Path, part: str) -> None:
    _edit_json(folder / part / "config.json", moe_experts=8)
    with pytest.raises(CheckpointError, match=rf"{part}/config\.json: it has the unknown field 'moe_experts'"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("text_encoder", "scale_decoder_outputs", True),  # transformers 5.24
        ("text_encoder", "new_dropout", 0.1),
        ("transformer", "moe_experts", None),
        ("transformer", "use_new_attention", False),
        ("transformer", "rope_scale", 1.0),
        ("vae", "tiles", []),
    ],
)
def test_a_new_field_that_changes_nothing_is_a_note(folder: Path, part: str, field: str, value: object) -> None:
    from sorano.models.wan.configs import ModelConfigs

    _edit_json(folder / part / "config.json", **{field: value})
    checkpoint.load(folder)
    (note,) = ModelConfigs.of_folder(folder).notes
    assert field in note and part in note


def test_a_byte_order_mark_is_passed_over(folder: Path) -> None:
    for part in ("transformer", "vae", "text_encoder"):
        file = folder / part / "config.json"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    checkpoint.load(folder)


def test_the_only_variant_is_taken_and_of_two_the_user_chooses(folder: Path) -> None:
    plain = folder / TRANSFORMER
    wanted = checkpoint.load(folder).transformer.state_dict()
    variant = plain.with_name(f"{plain.stem}.fp16.safetensors")
    plain.rename(variant)
    found = checkpoint.load(folder).transformer.state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    variant.with_name(f"{plain.stem}.bf16.safetensors").write_bytes(variant.read_bytes())
    with pytest.raises(CheckpointError, match="bf16.*and.*fp16"):
        checkpoint.load(folder)


def test_fp8_with_scales_is_called_that(folder: Path) -> None:
    key = "blocks.0.attn1.to_q.scale_weight"
    _edit_tensors(folder / TRANSFORMER, lambda tensors: tensors.__setitem__(key, torch.tensor(0.5)))
    with pytest.raises(CheckpointError, match="fp8 with scales"):
        checkpoint.load(folder)


def test_a_boundary_without_a_second_expert_means_nothing(folder: Path) -> None:
    _edit_json(folder / "model_index.json", boundary_ratio=0.875)  # as folders of Wan 2.1 that were converted locally
    loaded = checkpoint.load(folder)
    assert loaded.transformer_2 is None and loaded.boundary is None


def test_two_experts_need_a_boundary(tmp_path: Path) -> None:
    folder = _save(tmp_path / "two", transformer_2=tiny.transformer(seed=7), boundary=0.9)
    loaded = checkpoint.load(folder)
    assert loaded.boundary == 0.9 and loaded.transformer_2 is not None
    assert torch.equal(loaded.transformer_2.proj_out.weight, tiny.transformer(seed=7).proj_out.weight)
    _edit_json(folder / "model_index.json", boundary_ratio=None)
    with pytest.raises(CheckpointError, match="boundary_ratio is None"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ("model_index.json", {"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "transformer_2/config.json is"),
        ("transformer/config.json", {"image_dim": 1280}, "image_dim and added_kv_proj_dim belong together"),
        ("transformer/config.json", {"vace_layers": [0, 2]}, "vace_layers is"),
        ("transformer/config.json", {"_class_name": "WanVACETransformer3DModel"}, "WanVACETransformer3DModel"),
        ("transformer/config.json", {"qk_norm": None}, "qk_norm is None"),
        ("text_encoder/config.json", {"model_type": "t5"}, "model_type is 't5'"),
        ("text_encoder/config.json", {"feed_forward_proj": "relu"}, "feed_forward_proj is 'relu'"),
        ("vae/config.json", {"attn_scales": [0.5]}, "attn_scales"),
    ],
)
def test_another_kind_of_model_is_refused_by_name(folder: Path, name: str, changes: dict[str, Any], said: str) -> None:
    _edit_json(folder / name, **changes)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(folder)


def test_a_boundary_without_a_second_transformer_is_ignored(folder: Path) -> None:
    """Folders of Wan 2.1 converted locally may carry one."""
    _edit_json(folder / "model_index.json", boundary_ratio=0.875, transformer_2=[None, None])
    assert checkpoint.load(folder).expand_timesteps


def test_configs_survive_the_round_trip_through_json() -> None:
    for config in (tiny.TRANSFORMER, tiny.TEXT_ENCODER, tiny.VAE):
        assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_scheduler_is_written_as_given(tmp_path: Path) -> None:
    euler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 7.0}
    folder = _save(tmp_path / "euler", scheduler_config=euler)
    assert checkpoint.load(folder).scheduler_config == euler
    assert json.loads((folder / "model_index.json").read_text())["scheduler"][1] == euler["_class_name"]
    assert scheduler_config()["_class_name"] != euler["_class_name"]
