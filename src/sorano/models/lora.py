"""LoRA (arXiv:2106.09685): small changes of the transformer's weights, read from a file, merged, and taken out again.

A file says, for some layers, W' = W + scale * alpha / r * up @ down. It may be written

    transformer.blocks.0.attn1.to_q.lora_A.weight, .lora_B.weight           by diffusers; also without the prefix
    base_model.model.blocks.0.attn1.to_q.lora_A.weight, .lora_B.weight      by PEFT
    diffusion_model.blocks.0.self_attn.q.lora_down.weight, .lora_up.weight, .alpha     with Wan's own names (ComfyUI)
    lora_unet_blocks_0_self_attn_q.lora_down.weight, .lora_up.weight, .alpha           by Musubi (kohya)
    lycoris_blocks_0_attn1_to_q.lokr_w1, .lokr_w2, .alpha                              by LyCORIS (SimpleTuner)

behind any of the prefixes that programs put before (`_PREFIX`), and may also hold whole differences: of a weight
(.diff), of a bias (.diff_b, .lora_B.bias), of a modulation (.diff_m). LoKr (W' = W + scale * kron(w1, w2)) and LoHa
(W' = W + scale * (w1_a @ w1_b) * (w2_a @ w2_b), arXiv:2309.14859) are computed when they are merged. `transformer_2.`
is the second expert of Wan 2.2 A14B. A text encoder's part and an alpha without matrices are left out, and named.

Merging keeps the original of every weight that it touches, on the CPU (the very tensor, no copy, if it is there), and
each merged weight is computed from its original and all that is merged, in float32, rounded once. So taking a LoRA out
restores the bits, in whatever order LoRAs come and go; subtracting it would leave the roundings of each sum behind, in
bfloat16 as large as the change itself. The price is the memory of the originals.

diffusers leaves out .diff of norms and .diff_m; here they count, as they do for the programs that write them.

Not covered: what was computed of the old weights (a `PreparedText`) is not computed again, and a copy of a network
does not know what is merged into it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sorano.errors import CheckpointError
from sorano.models.checkpoint import PICKLES
from sorano.models.wan.transformer import fuse_qkv

FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # as diffusers and as PEFT call them
METADATA = "lora_adapter_metadata"  # diffusers writes PEFT's settings under this name in the file's header

# Wan's names of layers and diffusers', of the whole network and of a block.
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_BLOCK = {
    **{f"self_attn.{wan}": f"attn1.{name}" for wan, name in _ATTENTION.items()},
    **{f"cross_attn.{wan}": f"attn2.{name}" for wan, name in _ATTENTION.items()},
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
    "modulation": "scale_shift_table",
}
_WHOLE = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
}
_NO_LAYERS = ("scale_shift_table", "pos_embed")  # weights of their own


def _every_spelling(names: Mapping[str, str]) -> dict[str, str]:
    """Wan's names and diffusers' own, with dots and with underscores, each to diffusers'."""
    dotted = {**{name: name for name in names.values()}, **names}
    return {**{spelling.replace(".", "_"): name for spelling, name in dotted.items()}, **dotted}


_BLOCK_NAMES, _WHOLE_NAMES = _every_spelling(_BLOCK), _every_spelling(_WHOLE)
_BLOCK_LAYER = re.compile(r"blocks[._](\d+)[._](.+)")
_PREFIX = re.compile(
    r"(?:(?:base_model|model|module|_orig_mod|pipe|dit|net|unet|diffusion_model|transformer(?:_2)?)\."
    r"|lora_unet__?|lora_transformer_(?:2_)?|lycoris_(?:transformer_(?:2_)?)?)*"
)
_KINDS = (  # of a key, by how it ends; PEFT may put an adapter's name before ".weight"
    ("down", re.compile(r"\.(?:lora_A|lora_down|lora\.down|lora_linear_layer\.down)(?:\.[^.]+)?\.weight$")),
    ("up", re.compile(r"\.(?:lora_B|lora_up|lora\.up|lora_linear_layer\.up)(?:\.[^.]+)?\.weight$")),
    ("up_bias", re.compile(r"\.(?:lora_B|lora_up)(?:\.[^.]+)?\.bias$")),
    ("alpha", re.compile(r"\.alpha$")),
    ("diff", re.compile(r"\.diff$")),
    ("diff_bias", re.compile(r"\.diff_b$")),
    ("diff_modulation", re.compile(r"\.diff_m$")),
    *((name, re.compile(rf"\.{name}(?:\.weight)?$")) for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b")),
    *((name, re.compile(rf"\.{name}(?:\.weight)?$")) for name in ("lokr_w2", "lokr_w2_a", "lokr_w2_b")),
    *((name, re.compile(rf"\.{name}(?:\.weight)?$")) for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
)
_OTHER_METHODS = {  # part of a key: what it is of
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".lokr_t": "a Tucker decomposition (LoKr)",
    ".hada_t": "a Tucker decomposition (LoHa)",
    ".oft_": "OFT",
}
_TEXT_ENCODERS = re.compile(
    r"(?:base_model\.model\.)?(?:lora_te\d?_|lycoris_(?:text_encoder|te)|text_encoders?(?:_\d)?\.|te\d?\.)"
)
_OTHER_FAMILIES = {  # part of a key: whose it is
    "vace_blocks": "Wan VACE",
    "single_transformer_blocks": "FLUX",
    "transformer_blocks": "another family of transformers (LTX-Video, CogVideoX, Qwen-Image, ...)",
    "double_blocks": "FLUX or HunyuanVideo",
    "single_blocks": "FLUX or HunyuanVideo",
    "joint_blocks": "Stable Diffusion 3",
    "down_blocks": "Stable Diffusion",
    "up_blocks": "Stable Diffusion",
    "input_blocks": "Stable Diffusion",
}


@dataclass(frozen=True)
class Delta:
    """What is added to one weight: factor * up @ down, or factor * up where there is no `down`."""

    key: str  # in the file
    up: Tensor  # [out, r], or all of the difference
    down: Tensor | None = None  # [r, in], or of a convolution [r, in, T, H, W]
    factor: float = 1.0  # alpha / r

    @property
    def shape(self) -> torch.Size:
        """The shape of the weight that this fits."""
        return self.up.shape if self.down is None else torch.Size([len(self.up), *self.down.shape[1:]])

    def add_to(self, weight: Tensor, scale: float) -> None:
        """Add `scale` times this to a contiguous weight, on its device and in its precision."""
        if self.down is None:
            weight.add_(self.up.to(weight), alpha=scale * self.factor)
        else:
            up, down = (matrix.flatten(1).to(weight) for matrix in (self.up, self.down))
            weight.view(len(weight), -1).addmm_(up, down, alpha=scale * self.factor)


@dataclass(frozen=True)
class Product:
    """What LoKr or LoHa adds to one weight: factor * kron(left, right), or factor * left * right, each of them one
    matrix or the product of two. Made when it is merged: as a whole it is as large as the weight."""

    key: str  # in the file
    left: tuple[Tensor, ...]
    right: tuple[Tensor, ...]
    is_kronecker: bool
    factor: float = 1.0

    @property
    def shape(self) -> torch.Size:
        """The shape of the weight that this fits."""
        left, right = (torch.Size([one[0].shape[0], *one[-1].shape[1:]]) for one in (self.left, self.right))
        if not self.is_kronecker:
            return left
        more = (1,) * (len(right) - len(left))
        return torch.Size([a * b for a, b in zip((*left, *more), right, strict=True)])

    def add_to(self, weight: Tensor, scale: float) -> None:
        """Add `scale` times this to a weight, on its device and in its precision."""
        left, right = (self._whole(one, weight) for one in (self.left, self.right))
        if self.is_kronecker:
            left = left.view(*left.shape, *(1,) * (right.ndim - left.ndim))
            weight.add_(torch.kron(left, right.contiguous()), alpha=scale * self.factor)
        else:
            weight.add_((left * right).view_as(weight), alpha=scale * self.factor)

    @staticmethod
    def _whole(matrices: tuple[Tensor, ...], like: Tensor) -> Tensor:
        first, *rest = (matrix.to(like) for matrix in matrices)
        if not rest:
            return first
        return (first @ rest[0].flatten(1)).view(len(first), *rest[0].shape[1:])


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file: for "transformer" and "transformer_2", what is added to which weight (by diffusers' names).

    `left_out` are the keys that belong to no transformer: a text encoder's, and numbers without their matrices.
    """

    path: Path
    parts: Mapping[str, Mapping[str, Delta | Product]]
    left_out: tuple[str, ...] = ()


def load_lora(path: str | Path) -> Lora:
    """Read a LoRA file, or the one in a folder that diffusers or PEFT wrote.

    Raises CheckpointError that names the file and the key for a pickle, an incomplete or foreign LoRA, or a method
    that is not LoRA.
    """
    path = _find(Path(path))
    tensors, metadata = _read(path)
    layers: dict[tuple[str, str], dict[str, tuple[str, Tensor]]] = {}
    left_out = [key for key in tensors if _TEXT_ENCODERS.match(key)]
    if len(left_out) == len(tensors):
        raise CheckpointError(f"{path} is not a LoRA for Wan: all of it is for a text encoder")
    for key, tensor in tensors.items():
        if key in left_out:
            continue
        part, layer, kind = _parse(path, key)
        found = layers.setdefault((part, layer), {})
        if kind in found:
            raise CheckpointError(f"{path}: {key} and {found[kind][0]} are of one layer")
        found[kind] = key, tensor
    settings = _read_settings(path, metadata, tensors)
    parts: dict[str, dict[str, Delta | Product]] = {}
    for (part, layer), found in layers.items():
        if set(found) == {"alpha"} and len(layers) > 1:
            left_out.append(found["alpha"][0])
            continue
        deltas = parts.setdefault(part, {})
        for weight, delta in _deltas(path, layer, found, settings.get(part, {})):
            if weight in deltas:
                raise CheckpointError(f"{path}: {delta.key} and {deltas[weight].key} are of one weight")
            deltas[weight] = delta
    return Lora(path, parts, tuple(left_out))


def merge(
    network: nn.Module, lora: Lora, scale: float = 1.0, *, part: str = "transformer", strict: bool = True
) -> tuple[str, ...]:
    """Add `scale` times a LoRA to the network's weights, beside those that are merged already.

    `part` is the part of the file; a file for one transformer may be merged into either expert. Merging what is merged
    changes its scale. All of it is merged or, when something is wrong, nothing: CheckpointError names the key that
    does not fit. With `strict` off, what does not fit is left out, and the keys of it are returned.
    """
    if not math.isfinite(scale):
        raise ValueError(f"a LoRA cannot be merged {scale} times")
    deltas = lora.parts.get(part, {})
    if not deltas:
        raise CheckpointError(f"{lora.path} holds nothing for {part}, only for {', '.join(lora.parts)}")
    misfits = _misfits(network, deltas)
    if misfits and (strict or len(misfits) == len(deltas)):
        key, reason = next(iter(misfits.items()))
        raise CheckpointError(
            f"{lora.path}: {key} {reason}" + (f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""),
            hint="is the LoRA for this model? With strict=False, what does not fit is left out",
        )
    fitting = {weight: delta for weight, delta in deltas.items() if delta.key not in misfits}
    merged = _MERGED.setdefault(network, _Merged())
    merged.switch(network, {**merged.active, (lora, part): (scale, fitting)}, fitting)
    return tuple(misfits)


def unmerge(network: nn.Module, lora: Lora) -> None:
    """Take a LoRA out again: the weights are then to the bit what they would be without it."""
    merged = _MERGED.get(network, _Merged())
    ours = {key: deltas for key, (_, deltas) in merged.active.items() if key[0] is lora}
    if not ours:
        raise ValueError(f"{lora.path} is not merged")
    rest = {key: entry for key, entry in merged.active.items() if key not in ours}
    merged.switch(network, rest, [weight for deltas in ours.values() for weight in deltas])


Active = dict[tuple[Lora, str], tuple[float, Mapping[str, Delta | Product]]]
"""What is merged into a network: for a LoRA and the part of it, the scale, and what is added to which weight."""


@dataclass
class _Merged:
    """What is merged into a network, and the weights that were there before."""

    active: Active = field(default_factory=dict)
    originals: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def switch(self, network: nn.Module, active: Active, weights: Iterable[str]) -> None:
        """Make `active` what is merged, which changes these `weights`; on an error, all is as before."""
        before, self.active = self.active, active
        parameters = dict(network.named_parameters())
        written: list[str] = []
        try:
            for name in weights:
                written.append(name)
                self._write(name, parameters[name])
            if next(network.parameters()).device.type != "cpu":  # there the originals come back as they lay
                fuse_qkv(network)
        except BaseException:
            self.active = before
            for name in written:
                self._write(name, parameters[name])
            raise

    def _write(self, name: str, parameter: nn.Parameter) -> None:
        """Compute a weight from its original. Its data is replaced, never written to: the original may be that."""
        added = [(scale, deltas[name]) for scale, deltas in self.active.values() if name in deltas]
        if not added:
            if name in self.originals:
                parameter.data = self.originals[name].to(parameter.device)
                del self.originals[name]
            return
        if name not in self.originals:
            self.originals[name] = parameter.data.cpu()
        precise = torch.promote_types(parameter.dtype, torch.float32)
        weight = torch.empty_like(parameter.data, dtype=precise, memory_format=torch.contiguous_format)
        weight.copy_(self.originals[name])
        for scale, delta in added:
            delta.add_to(weight, scale)
        parameter.data = weight.to(parameter.dtype)


_MERGED: WeakKeyDictionary[nn.Module, _Merged] = WeakKeyDictionary()


def _find(path: Path) -> Path:
    """The LoRA file that a path means."""
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()]
        if len(found) != 1:
            raise CheckpointError(f"{path} holds {len(found)} of {' and '.join(FILES)}", hint="name the file itself")
        path = found[0]
    if any(path.match(pattern) for pattern in PICKLES):
        raise CheckpointError(
            f"{path} is a pickle, which can run code when it is loaded, and is refused",
            hint="convert it to safetensors where you trust it",
        )
    if not path.is_file():
        raise CheckpointError(f"there is no LoRA at {path}")
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, all of them finite numbers, and the header."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is corrupt, or not a safetensors file: {error}",
            "fetch the file again, or name another with --lora",
        ) from error
    if not tensors:
        raise CheckpointError(f"{path} is empty", "fetch the file again, or name another with --lora")
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() and tensor.numel() > 1:
            raise CheckpointError(f"{path}: {key} holds {tensor.dtype}, not floating-point weights")
        if not bool(tensor.float().isfinite().all()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity")
    return tensors, metadata


def _parse(path: Path, key: str) -> tuple[str, str, str]:
    """The part, the layer as the file names it, and the kind of what a key holds."""
    method = next((name for mark, name in _OTHER_METHODS.items() if mark in key), None)
    if method is not None:
        raise CheckpointError(f"{path}: {key} is of {method}, which is not supported")
    kind, ending = next(((kind, match) for kind, end in _KINDS if (match := end.search(key))), (None, None))
    prefix = _PREFIX.match(key)
    if kind is not None and ending is not None and prefix is not None:
        layer = key[prefix.end() : ending.start()] + (".modulation" if kind == "diff_modulation" else "")
        if _weight_of(layer) is not None:
            return "transformer_2" if "transformer_2" in prefix[0] else "transformer", layer, kind
    family = next((name for mark, name in _OTHER_FAMILIES.items() if mark in key), None)
    nowhere = "is no part of a LoRA" if kind is None else "is no layer of a Wan transformer"
    raise CheckpointError(f"{path} is not a LoRA for Wan: {key} {nowhere if family is None else f'is of {family}'}")


def _weight_of(layer: str) -> str | None:
    """The weight of a layer, by diffusers' name, or None if no Wan transformer has such a layer."""
    block = _BLOCK_LAYER.fullmatch(layer)
    name = _WHOLE_NAMES.get(layer) if block is None else _BLOCK_NAMES.get(block[2])
    if name is None:
        return None
    name = name if block is None else f"blocks.{block[1]}.{name}"
    return name if name.endswith(_NO_LAYERS) else f"{name}.weight"


def _deltas(
    path: Path, layer: str, found: Mapping[str, tuple[str, Tensor]], settings: Mapping[str, Any]
) -> list[tuple[str, Delta | Product]]:
    """What a layer's tensors add to its weight and its bias."""
    weight = _weight_of(layer)
    assert weight is not None  # `_parse` has seen it
    bias = f"{weight.removesuffix('.weight')}.bias"
    deltas: list[tuple[str, Delta | Product]] = []
    factor = 1.0
    product = _product(path, found)
    if product is not None:
        deltas.append((weight, product))
    of_pair = [
        found[kind][0] for kind in ("up", "down", "alpha") if kind in found and (product is None or kind != "alpha")
    ]
    if of_pair:
        if not {"up", "down"} <= found.keys():
            raise CheckpointError(f"{path}: {of_pair[0]} needs two matrices, and one or both are missing")
        (up_key, up), (key, down) = found["up"], found["down"]
        rank = down.shape[0] if down.ndim > 1 else 0
        if up.ndim < 2 or up[0].numel() != rank or rank == 0:
            raise CheckpointError(f"{path}: {up_key} {list(up.shape)} and {key} {list(down.shape)} do not multiply")
        factor = _factor(path, key, layer, rank, found.get("alpha"), settings)
        deltas.append((weight, Delta(key, up, down, factor)))
    for kind, target in (("diff", weight), ("diff_modulation", weight), ("diff_bias", bias), ("up_bias", bias)):
        if kind in found:
            key, tensor = found[kind]
            deltas.append((target, Delta(key, tensor, factor=factor if kind == "up_bias" else 1.0)))
    return deltas


def _product(path: Path, found: Mapping[str, tuple[str, Tensor]]) -> Product | None:
    """A layer's LoKr or LoHa, or None. The factor is alpha over the rank, and 1 where no matrix has a rank."""
    kinds = [kind for kind in found if kind.startswith(("lokr_", "hada_"))]
    if not kinds:
        return None
    key = found[kinds[0]][0]
    is_kronecker = kinds[0].startswith("lokr_")
    name, rank = "lokr_w" if is_kronecker else "hada_w", None
    sides: list[tuple[Tensor, ...]] = []
    for number in "12":
        whole, pair = f"{name}{number}", (f"{name}{number}_a", f"{name}{number}_b")
        if whole in found:
            sides.append((found[whole][1],))
        elif set(pair) <= found.keys():
            first, second = (found[kind][1] for kind in pair)
            if first.ndim != 2 or second.ndim < 2 or first.shape[1] != len(second):
                raise CheckpointError(f"{path}: {key} {list(first.shape)} and {list(second.shape)} do not multiply")
            sides.append((first, second))
            rank = len(second)
        else:
            raise CheckpointError(f"{path}: {key} needs two sides, and one or both are missing")
    alpha = found.get("alpha")
    if alpha is not None and alpha[1].numel() != 1:
        raise CheckpointError(f"{path}: {alpha[0]} is not one number")
    factor = 1.0 if alpha is None or rank is None else float(alpha[1]) / rank
    product = Product(key, sides[0], sides[1], is_kronecker, factor)
    shapes = [side[0].shape[:1] + side[-1].shape[1:] for side in sides]
    if not is_kronecker and shapes[0] != shapes[1] or is_kronecker and len(shapes[0]) > len(shapes[1]):
        raise CheckpointError(f"{path}: {key} has sides of {list(shapes[0])} and {list(shapes[1])}")
    return product


def _factor(
    path: Path, key: str, layer: str, rank: int, alpha: tuple[str, Tensor] | None, settings: Mapping[str, Any]
) -> float:
    """alpha / r: by the layer's own alpha, else by PEFT's settings, else 1, as diffusers takes it."""
    if alpha is not None:
        if alpha[1].numel() != 1:
            raise CheckpointError(f"{path}: {alpha[0]} is not one number")
        return float(alpha[1]) / rank
    if not settings:
        return 1.0
    try:
        stated = int(_of_layer(settings.get("rank_pattern"), layer, settings.get("r", 8)))  # 8 is PEFT's default
        scaling = float(_of_layer(settings.get("alpha_pattern"), layer, settings.get("lora_alpha", 8)))
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise CheckpointError(f"{path}: its settings cannot be read: {error}") from error
    if stated != rank:
        raise CheckpointError(f"{path}: {key} has rank {rank}, and rank {stated} by the file's settings")
    return scaling / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _of_layer(patterns: Mapping[str, Any] | None, layer: str, otherwise: Any) -> Any:
    """PEFT's rule: the first pattern that the name, or the end of it after a dot, matches."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return value
    return otherwise


def _read_settings(path: Path, metadata: Mapping[str, str], keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """PEFT's settings (r, lora_alpha, ...) of each part: from the header, or from PEFT's file beside."""
    beside = path.parent / "adapter_config.json"
    if METADATA in metadata:
        source, text = f"{path}: {METADATA}", metadata[METADATA]
    elif beside.is_file() and any(key.startswith("base_model.model.") for key in keys):
        source, text = str(beside), beside.read_text(encoding="utf-8", errors="replace")
    else:
        return {}
    try:
        values = dict(json.loads(text) or {})
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source} cannot be read: {error}") from error
    settings: dict[str, dict[str, Any]] = {"transformer": {}, "transformer_2": {}}
    for name, value in values.items():
        part, _, rest = name.partition(".")
        if part in settings:
            settings[part][rest] = value
        elif not rest:  # written for one network, without a prefix
            settings["transformer"][name] = value
    if any(part.get("use_dora") for part in settings.values()):
        raise CheckpointError(f"{source} says use_dora: DoRA is not supported")
    return settings


def _misfits(network: nn.Module, deltas: Mapping[str, Delta | Product]) -> dict[str, str]:
    """The keys that this network has no place for, each with the reason."""
    parameters = dict(network.named_parameters())
    misfits: dict[str, str] = {}
    for weight, delta in deltas.items():
        if weight not in parameters:
            misfits[delta.key] = f"is for {weight}, which this network does not have"
        elif parameters[weight].shape != delta.shape:
            there = list(parameters[weight].shape)
            misfits[delta.key] = f"makes {list(delta.shape)} for {weight}, which is {there} in this network"
    return misfits
