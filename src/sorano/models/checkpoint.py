"""Models as plain diffusers folders: what Sorano saves, stock pipelines load, and the other way round.

    model_index.json        which class each part is
    scheduler/              scheduler_config.json
    text_encoder/           config.json, model.safetensors            (or shards and their index)
    tokenizer/              tokenizer.json, tokenizer_config.json, special_tokens_map.json
    transformer/            config.json, diffusion_pytorch_model.safetensors
    vae/                    config.json, diffusion_pytorch_model.safetensors

Weights are safetensors only (a pickle can run code and is refused) and load strictly: every name must match. Networks
are built without memory and given the tensors that are mapped from the file, so loading needs one copy of the weights,
or none where the file has the wanted dtype already.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sorano.errors import CheckpointError
from sorano.files import sha256
from sorano.models.config import DIFFUSERS_VERSION
from sorano.models.offload import block_offload
from sorano.models.wan.config import (
    PIPELINES,
    ImageEncoderConfig,
    TextEncoderConfig,
    TransformerConfig,
    VaeConfig,
)
from sorano.models.wan.image_encoder import ImageEncoder, ImageProcessor, weight_name
from sorano.models.wan.text_encoder import TextEncoder, TextTokens, Tokenizer
from sorano.models.wan.transformer import VideoTransformer, fused_storage
from sorano.models.wan.vae import VideoAutoencoder
from sorano.shapes import Geometry

PARTS = {  # in every folder
    "scheduler": ("diffusers", "UniPCMultistepScheduler"),
    "text_encoder": ("transformers", "UMT5EncoderModel"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "transformer": ("diffusers", "WanTransformer3DModel"),
    "vae": ("diffusers", "AutoencoderKLWan"),
}
MORE_PARTS = {  # in folders of image to video (2.1), and of two experts (2.2 A14B)
    "image_encoder": ("transformers", "CLIPVisionModel"),
    "image_processor": ("transformers", "CLIPImageProcessor"),
    "transformer_2": ("diffusers", "WanTransformer3DModel"),
}
WEIGHTS = {
    "text_encoder": "model",
    "image_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
SCALES = ("scale_weight", "weight_scale", "scale_input", "input_scale", "scaled_fp8", "weight_scale_inv")
"""Ends of names of what quantised checkpoints hold beside their weights."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
FLOAT32 = ("scale_shift_table", "time_embedder", "time_proj", "norm", "relative_attention_bias")
"""Parts of names whose weights stay float32 in any compute dtype: they are small, and their errors are not."""

Network = TypeVar("Network", bound=nn.Module)
Change = Callable[[str, nn.Module], AbstractContextManager[None]]


@dataclass(frozen=True)
class Bundle:
    """A model folder in memory."""

    transformer: VideoTransformer
    vae: VideoAutoencoder
    text_encoder: TextEncoder
    tokenizer: Tokenizer
    scheduler_config: dict[str, Any]
    expand_timesteps: bool  # a timestep for each token: known latents are tokens at timestep 0 (Wan 2.2 TI2V)
    folder: Path | None = None
    digests: dict[str, str] = field(default_factory=dict)  # those that were checked: file to SHA-256
    # two experts (Wan 2.2 A14B): below the boundary, a share of the timesteps, the second takes over
    transformer_2: VideoTransformer | None = None
    boundary: float | None = None
    # image to video of Wan 2.1
    image_encoder: ImageEncoder | None = None
    image_processor: ImageProcessor | None = None
    # where networks go that are loaded for their turn
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    texts: dict[str, TextTokens] = field(default_factory=dict)  # encoded already, by a digest of the prompts

    @contextmanager
    def present(
        self, *names: str, offload: bool = False, text_on_host: bool = False, change: Change | None = None
    ) -> Iterator[None]:
        """The weights of these networks on the device: those that were not there before only while the block runs.

        With `offload`, a transformer's blocks stay in the host's memory and visit the device one after the other; with
        `text_on_host`, a text encoder that was not there before computes on the CPU.
        `change` is entered with a network's name and itself once its weights are there, and left before they go.
        """
        with ExitStack() as stack:
            for name in names:
                network = getattr(self, name)
                if network is None:
                    continue
                by_block = offload and isinstance(network, VideoTransformer) and is_empty(network)
                if is_empty(network):
                    stack.callback(vacate, network)
                    on_host = by_block or text_on_host and name == "text_encoder"
                    self._fill(name, network, "cpu" if on_host else self.device)
                if change is not None:
                    stack.enter_context(change(name, network))
                if by_block:
                    stack.enter_context(block_offload(network, self.device))
            yield

    def _fill(self, name: str, network: nn.Module, device: torch.device | str) -> None:
        assert self.folder is not None
        fill(self.folder / name, WEIGHTS[name], network, self.dtype, device)

    @property
    def geometry(self) -> Geometry:
        """How pixels become latents and tokens."""
        vae = self.vae.config
        return Geometry(vae.scale_factor_temporal, vae.scale_factor_spatial, self.transformer.config.patch_size)

    @property
    def takes(self) -> str:
        """How the networks take what is given of a video: as "tokens", as "channels", or not at all: "nothing"."""
        return (
            "tokens"
            if self.expand_timesteps
            else "channels"
            if self.transformer.config.condition_channels
            else "nothing"
        )


def load(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    digests: Mapping[str, str] | None = None,
    filled: bool = True,
) -> Bundle:
    """Load a diffusers folder for use (no gradients), with `digests` checked first: file in the folder to SHA-256.

    Networks that are not `filled` have no weights until `Bundle.present` brings them. Raises CheckpointError that names
    the file and what is wrong with it.
    """
    folder = Path(folder)
    index = _read_index(folder)
    check_digests(folder, digests or {})

    def network(name: str, read_config: Callable[[Mapping[str, Any]], Any], build: Callable[[Any], Network]) -> Network:
        made = _build(folder, name, read_config, build, device)
        if filled:
            fill(folder / name, WEIGHTS[name], made, dtype, device)
        else:
            check_files(folder / name, WEIGHTS[name], made)
        return made

    has = {name: any(index.get(name) or []) for name in MORE_PARTS}  # [null, null] stands for what is not there
    transformer = network("transformer", TransformerConfig.from_dict, VideoTransformer)
    transformer_2, boundary = None, None
    if has["transformer_2"]:
        transformer_2 = network("transformer_2", TransformerConfig.from_dict, VideoTransformer)
        boundary = _read_boundary(folder, index)
    image_encoder, image_processor = None, None
    if transformer.config.image_dim is not None:
        if not has["image_encoder"]:
            raise CheckpointError(f"{folder} has no image_encoder, and its transformer attends to images", _FETCH_AGAIN)
        image_encoder = network("image_encoder", ImageEncoderConfig.from_dict, ImageEncoder)
        image_processor = _read_image_processor(folder / "image_processor" / "preprocessor_config.json")
    return Bundle(
        transformer=transformer,
        vae=network("vae", VaeConfig.from_dict, VideoAutoencoder),
        text_encoder=network("text_encoder", TextEncoderConfig.from_dict, TextEncoder),
        tokenizer=_load_tokenizer(folder / "tokenizer" / "tokenizer.json"),
        scheduler_config=read_scheduler_words(folder),
        expand_timesteps=bool(index.get("expand_timesteps", False)),
        folder=folder,
        digests=dict(digests or {}),
        transformer_2=transformer_2,
        boundary=boundary,
        image_encoder=image_encoder,
        image_processor=image_processor,
        device=device,
        dtype=dtype,
    )


def read_scheduler_words(folder: Path) -> dict[str, Any]:
    """A folder's `scheduler_config.json`, which `sorano.sampling.schedule` understands."""
    return _read_json(folder / "scheduler" / "scheduler_config.json")


def save(folder: str | Path, bundle: Bundle, *, dtype: torch.dtype | None = None) -> None:
    """Write a diffusers folder, its weights in `dtype` (as they are unless told), the text encoder's as they are.

    An old folder is replaced at the end. Files that are not part of the layout (a model card, say) are kept.
    """
    folder = Path(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    networks = {name: getattr(bundle, name) for name in WEIGHTS if getattr(bundle, name) is not None}
    for name, network in networks.items():
        _write_json(partial / name / "config.json", network.config.to_dict())
        # transformers computes in whatever dtype it finds, so an encoder in half precision would not be ours
        stored = None if name.endswith("encoder") else dtype
        tensors = {key: _for_file(tensor, stored) for key, tensor in network.state_dict().items()}
        save_file(tensors, partial / name / f"{WEIGHTS[name]}.safetensors", metadata={"format": "pt"})
    bundle.tokenizer.save(partial / "tokenizer")
    _write_json(partial / "scheduler" / "scheduler_config.json", dict(bundle.scheduler_config))
    if bundle.image_processor is not None:
        _write_json(partial / "image_processor" / "preprocessor_config.json", bundle.image_processor.to_dict())
    _write_json(partial / "model_index.json", _index_of(bundle))
    _replace_folder(partial, folder)


def _index_of(bundle: Bundle) -> dict[str, Any]:
    """The `model_index.json` with which the right stock pipeline loads the folder."""
    parts: dict[str, list[str | None]] = {name: list(classes) for name, classes in PARTS.items()}
    parts["scheduler"][1] = bundle.scheduler_config["_class_name"]
    more = {**MORE_PARTS} if bundle.takes == "channels" else {"transformer_2": MORE_PARTS["transformer_2"]}
    for name, classes in more.items():
        parts[name] = [None, None] if getattr(bundle, name) is None else list(classes)
    return {
        "_class_name": PIPELINES[bundle.takes == "channels"],
        "_diffusers_version": DIFFUSERS_VERSION,
        "boundary_ratio": bundle.boundary,
        "expand_timesteps": bundle.expand_timesteps,
        **parts,
    }


def digests_of(folder: str | Path) -> dict[str, str]:
    """The SHA-256 of every file in the folder, by its path in the folder."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def write_digests(folder: str | Path) -> Path:
    """Write `digests_of` the folder beside it, as `sha256sum` does: FOLDER.sha256, which it returns."""
    folder = Path(folder)
    path = folder.with_name(f"{folder.name}.sha256")
    path.write_text("".join(f"{digest}  {name}\n" for name, digest in digests_of(folder).items()))
    return path


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise CheckpointError for the first file whose SHA-256 is not the one in `digests`."""
    for name, wanted in digests.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing", hint=_FETCH_AGAIN)
        found = sha256(path)
        if found != wanted.lower():
            raise CheckpointError(f"{path} is corrupt: its SHA-256 is {found}, not {wanted}", hint=_FETCH_AGAIN)


_FETCH_AGAIN = "fetch the model again"


def _read_index(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"there is no model folder at {folder}")
    path = folder / "model_index.json"
    index = _read_json(path)
    if index.get("_class_name") not in PIPELINES:
        raise CheckpointError(f"{path} is of {index.get('_class_name')}, not of {' or '.join(PIPELINES)}")
    return index


def _read_image_processor(path: Path) -> ImageProcessor:
    try:
        return ImageProcessor.from_dict(_read_json(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_boundary(folder: Path, index: Mapping[str, Any]) -> float:
    """Where the second expert takes over. Folders of one transformer may carry a number too; it means nothing there."""
    boundary = index.get("boundary_ratio")
    if not isinstance(boundary, int | float) or not 0 <= boundary <= 1:
        raise CheckpointError(
            f"{folder / 'model_index.json'}: boundary_ratio is {boundary!r}, and a folder of two transformers needs"
            " a number from 0 to 1"
        )
    return float(boundary)


class _Uninitialised(TorchFunctionMode):
    """Passes over `torch.nn.init`: the weights come from files.

    On the meta device, initialising imports torch's compiler and sympy, a quarter of a cold start's processor time.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _build(
    folder: Path,
    name: str,
    read_config: Callable[[Mapping[str, Any]], Any],
    build: Callable[[Any], Network],
    device: torch.device | str,
) -> Network:
    """One network of the folder, without weights."""
    config = _read_network_config(folder, name, read_config)
    with torch.device("meta"), _Uninitialised():
        network = build(config)
    if isinstance(network, VideoAutoencoder):  # its statistics are in the config, not in the file
        network.latents_mean, network.latents_std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
    return network.requires_grad_(False).eval()


def fill(folder: Path, stem: str, network: nn.Module, dtype: torch.dtype, device: torch.device | str) -> None:
    """Give a network the tensors of its files, one after the other: no second copy of the weights is made."""
    homes = fused_storage(network, dtype, device)
    tensors: dict[str, Tensor] = {}
    ranges: dict[str, tuple[Path, tuple[Tensor, Tensor]]] = {}
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    for path, names in _weight_files(folder, stem, shapes).items():
        with _opened(path) as file:
            for name, key in names.items():
                tensors[key] = _for_use(key, file.get_tensor(name), dtype, device, homes.get(key))
                # the least and the most show NaN and infinity, and finding them takes no memory; looked at when all are
                # there, so that a GPU need not wait for each
                ranges[key] = path, torch.aminmax(tensors[key])
    for key, (path, ends) in ranges.items():
        if not all(bool(end.isfinite()) for end in ends):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity", hint=_FETCH_AGAIN)
    network.load_state_dict(tensors, strict=True, assign=True)
    network.requires_grad_(False)


def check_files(folder: Path, stem: str, network: nn.Module) -> None:
    """Raise CheckpointError where the files of a network are not there, or their headers not as its config says.

    Reads headers only: what is wrong with a network that comes late is said before the work, but for its numbers.
    """
    _weight_files(folder, stem, {key: tensor.shape for key, tensor in network.state_dict().items()})


def _weight_files(folder: Path, stem: str, shapes: Mapping[str, torch.Size]) -> dict[Path, dict[str, str]]:
    """The files of a network's weights, and of each its tensors' names and what they are called here.

    Raises CheckpointError where names or shapes are not those wanted, or an index is not what its shards hold.
    """
    index_file = _index_file(folder, stem)
    listed = _read_index_file(index_file) if index_file.is_file() else None
    files: dict[Path, dict[str, str]] = {}
    for name in sorted(set(listed.values())) if listed is not None else [_single_file(folder, stem)]:
        path = folder / name
        if not path.is_file():
            _refuse_pickles(folder)
            raise CheckpointError(f"{path} is missing", hint=_FETCH_AGAIN)
        files[path] = {}
        with _opened(path) as file:
            for tensor_name in file.keys():
                if listed is not None and listed.pop(tensor_name, None) != name:
                    raise CheckpointError(
                        f"{path} holds {tensor_name}, which {index_file.name} has elsewhere or not", _FETCH_AGAIN
                    )
                key = _our_name(folder.name, tensor_name)
                if key is None:
                    continue
                shape = file.get_slice(tensor_name).get_shape()
                if key in shapes and list(shapes[key]) != shape:
                    raise CheckpointError(
                        f"{path}: {key} is {shape} in the file and {list(shapes[key])} by config.json", _FETCH_AGAIN
                    )
                files[path][tensor_name] = key
    if listed:
        missing, name = next(iter(listed.items()))
        raise CheckpointError(f"{index_file} lists {missing} in {name}, which does not hold it", _FETCH_AGAIN)
    _require_same_names(folder, set(shapes), {key for names in files.values() for key in names.values()})
    return files


def _index_file(folder: Path, stem: str) -> Path:
    """The index of a network's shards: the plain one, or that of the only variant (fp16, bf16) that is there."""
    plain = folder / f"{stem}.safetensors.index.json"
    if plain.is_file() or (folder / f"{stem}.safetensors").is_file():
        return plain
    variants = sorted(folder.glob(f"{stem}.safetensors.index.*.json"))
    return variants[0] if len(variants) == 1 else plain


def _single_file(folder: Path, stem: str) -> str:
    """The name of a network's only file: the plain one, or the only variant that is there. Raises CheckpointError
    where there are several variants."""
    plain = f"{stem}.safetensors"
    variants = sorted(path.name for path in folder.glob(f"{stem}.*.safetensors"))
    if (folder / plain).is_file() or not variants:
        return plain
    if len(variants) > 1:
        raise CheckpointError(
            f"{folder} holds {' and '.join(variants)}, and no {plain}", f"rename the one to use to {plain}"
        )
    return variants[0]


def vacate(network: nn.Module) -> None:
    """Let go of a network's weights; what is kept knows their shapes."""
    state = network.state_dict()
    network.load_state_dict({key: torch.empty_like(value, device="meta") for key, value in state.items()}, assign=True)
    network.requires_grad_(False)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_empty(network: nn.Module) -> bool:
    """Whether a network has no weights at present."""
    return next(network.parameters()).is_meta


def _our_name(part: str, key: str) -> str | None:
    """What a tensor of a file is called here; None for one that is no weight."""
    if part == "image_encoder":
        return weight_name(key)
    return "shared.weight" if key == "encoder.embed_tokens.weight" else key  # UMT5 ties them; files hold either


def _read_network_config(folder: Path, name: str, read_config: Callable[[Mapping[str, Any]], Any]) -> Any:
    path = folder / name / "config.json"
    config = _read_json(path)
    named = config.get("_class_name") or (config.get("architectures") or [None])[0]
    wanted = {**PARTS, **MORE_PARTS}[name][1]
    if named not in (None, wanted):
        raise CheckpointError(f"{path} is of {named}, not {wanted}")
    try:
        return read_config(config)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_index_file(path: Path) -> dict[str, str]:
    """Which file beside an index holds which tensor."""
    listed = _read_json(path).get("weight_map")
    files = listed.values() if isinstance(listed, dict) else ()
    outside = [
        name
        for name in files
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors")
    ]
    if not isinstance(listed, dict) or not listed or outside:
        raise CheckpointError(f"{path} lists {outside[0] if outside else 'nothing'}, not safetensors beside it")
    return dict(listed)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is corrupt: {error}", hint=_FETCH_AGAIN) from error


def _refuse_pickles(folder: Path) -> None:
    pickles = sorted(path for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when it is loaded, and is refused",
            hint="convert it to safetensors where you trust it: save_pretrained(..., safe_serialization=True)",
        )


def _require_same_names(folder: Path, wanted: set[str], found: set[str]) -> None:
    missing, unexpected = sorted(wanted - found), sorted(found - wanted)
    scales = [name for name in unexpected if name.rpartition(".")[2] in SCALES]
    if scales:
        raise CheckpointError(
            f"{folder} holds weights in fp8 with scales ({scales[0]}, and {len(scales) - 1} more), which are not read",
            "use the folder in bfloat16, float16 or float32, or fp8 without scales",
        )
    if missing or unexpected:
        parts = [
            f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for word, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise CheckpointError(f"{folder}: the weights are not those of config.json: {' and '.join(parts)}")


def _for_use(
    key: str, tensor: Tensor, dtype: torch.dtype, device: torch.device | str, home: Tensor | None = None
) -> Tensor:
    if not tensor.is_floating_point():
        raise CheckpointError(f"{key} holds {tensor.dtype}, not floating-point weights")
    if home is not None:
        return home.copy_(tensor)
    made = tensor.to(device, torch.float32 if any(part in key for part in FLOAT32) else dtype)
    return made.contiguous(memory_format=layout(key, made)) if made.is_cuda else made


def layout(key: str, tensor: Tensor) -> torch.memory_format:
    """How a weight should lie on a GPU: of convolutions channels last, as what they convolve lies, or cuDNN would copy
    them at each call. Patches are embedded by a product, which wants rows."""
    if tensor.ndim in (4, 5) and not key.startswith("patch_embedding"):
        return torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
    return torch.contiguous_format


def _for_file(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()


def _load_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing", hint=_FETCH_AGAIN)
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises a bare Exception
        raise CheckpointError(f"{path} is corrupt: {error}", hint=_FETCH_AGAIN) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows put a mark before it
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing", hint=_FETCH_AGAIN) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint=_FETCH_AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object", hint=_FETCH_AGAIN)
    return value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _replace_folder(partial: Path, folder: Path) -> None:
    """Put `partial` in the place of `folder`, keeping files of the old one that the new one does not have."""
    if folder.exists():
        for path in folder.rglob("*"):
            into = partial / path.relative_to(folder)
            if path.is_file() and path.relative_to(folder).parts[0] not in PARTS and not into.exists():
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)
