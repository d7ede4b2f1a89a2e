"""A model's networks as graphs in a folder, each file with its SHA-256 in `model.json`.

    model.json     what the model is, its shapes, how it samples, the digests
    tokenizer.json as in the model's folder
    text_encoder   ids [S], real [S]                                        -> text [S, D]
    transformer    patches, timestep, known, rope_cos, rope_sin, text, bias -> velocity [L, P]
    decoder        latent [1, C, T, H, W], normalised                       -> video [1, 3, F, Y, X], -1..1
    encoder        video                                                    -> latent, normalised

A graph is an ONNX file (`.onnx`) here, or an ExecuTorch program (`.pte`, `sorano.export.executorch`), which takes its
inputs in this order. Shapes are fixed, one clip of one size, because compilers for phones want them so;
`sorano.export.run` computes the rest. Two precisions of ONNX: "float32" is the engine's own numbers; "int8" is for
downloads: matrix products of the transformer with 8-bit weights and activations quantised as they come, 8-bit weights
(a scale for each output) of the autoencoder, which are float32 again when they are loaded, and float16 weights of the
text encoder.

Not covered: models with an image encoder, with channels beside the latent or with two experts (said, not exported).
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError, RequestError
from sorano.extras import require
from sorano.files import canonical, sha256, write_atomic
from sorano.presets import Preset
from sorano.shapes import VideoShape, parse_size

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sorano.models.checkpoint import Bundle

FORMAT = 2
OPSET = 20  # the first with Gelu
TEXT_TOKENS = 64  # of a graph: the prompt's own and at least one pad key
INPUTS = {
    "text_encoder": ("ids", "real"),
    "transformer": ("patches", "timestep", "known", "rope_cos", "rope_sin", "text", "bias"),
    "decoder": ("latent",),
    "encoder": ("video",),
}
GRAPHS = tuple(INPUTS)
SUFFIXES = {"onnx": ".onnx", "executorch": ".pte"}  # of a runtime's files
PRECISIONS = ("float32", "int8")
CARD = "model.json"


@dataclass(frozen=True)
class GraphShapes:
    """The fixed shapes of a folder's graphs."""

    num_frames: int
    width: int
    height: int
    latent_CTHW: tuple[int, int, int, int]
    patch_size: tuple[int, int, int]
    temporal: int  # frames that a latent codes, after the first one
    text_tokens: int
    head_dim: int

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> GraphShapes:
        """The shapes that a folder's card names."""
        words: dict[str, Any] = dict(card["shapes"])
        words |= {name: tuple(one) for name, one in words.items() if isinstance(one, list)}
        return cls(**words)

    @property
    def num_tokens(self) -> int:
        """How many video tokens the transformer sees."""
        _, frames, rows, columns = self.latent_CTHW
        p, q, r = self.patch_size
        return (frames // p) * (rows // q) * (columns // r)

    @property
    def patch_numbers(self) -> int:
        """How many numbers of the latent one token stands for."""
        p, q, r = self.patch_size
        return self.latent_CTHW[0] * p * q * r


def export_onnx(
    preset: Preset, folder: Path, *, precision: str = "float32", say: Callable[[str], None] = lambda text: None
) -> Path:
    """Writes a preset's networks as ONNX graphs into a folder; returns its card.

    Raises RequestError for a model of another kind, and where a package is missing; CheckpointError for weights that
    are not the ones described.
    """
    require("exporting", "engine", "export")
    if precision not in PRECISIONS:
        raise RequestError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")

    def made(name: str, network: Network) -> bytes:
        model = _traced(name, network)
        if precision == "int8":
            from sorano.export import quantize

            model = quantize.ways[name](model)
        return model.SerializeToString()

    return export_graphs(preset, folder, "onnx", made, precision=precision, say=say)


def export_graphs(
    preset: Preset,
    folder: Path,
    runtime: str,
    made: Callable[[str, Network], bytes],
    *,
    precision: str,
    say: Callable[[str], None],
) -> Path:
    """Writes what `made` makes of each network of a preset, and what belongs to them; returns the card.

    `runtime` is one of `SUFFIXES`. Raises as `export_onnx` does.
    """
    bundle = _loaded(preset)
    shapes = shapes_of(preset, bundle)
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in _networks(bundle, shapes).items():
        say(f"tracing {name}")
        write_atomic(folder / f"{name}{SUFFIXES[runtime]}", made(name, network))
    assert preset.folder is not None
    write_atomic(folder / "tokenizer.json", (preset.folder / "tokenizer" / "tokenizer.json").read_bytes())
    return _write_card(preset, bundle, shapes, runtime, precision, folder)


def shapes_of(preset: Preset, bundle: Bundle) -> GraphShapes:
    """The shapes of a preset's own clip. Raises RequestError for a model of another kind."""
    transformer, config = bundle.transformer.config, bundle.vae.config
    others = bundle.image_encoder is not None or bundle.transformer_2 is not None
    if others or not bundle.expand_timesteps or not config.is_residual:
        raise RequestError(
            f"{preset.name} is not of the kind that is exported", "sorano export takes models like the embedded one"
        )
    width, height = parse_size(preset.size)
    latent = bundle.geometry.latent(VideoShape(preset.num_frames, height, width))
    return GraphShapes(
        num_frames=preset.num_frames,
        width=width,
        height=height,
        latent_CTHW=(config.z_dim, latent.num_frames, latent.rows, latent.columns),
        patch_size=transformer.patch_size,
        temporal=bundle.geometry.temporal,
        text_tokens=TEXT_TOKENS,
        head_dim=transformer.attention_head_dim,
    )


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an exported folder, once every file has the digest that it names.

    Raises CheckpointError naming the file that is missing or is not the one that was written.
    """
    try:
        card: dict[str, Any] = {"runtime": "onnx"} | json.loads((folder / CARD).read_text(encoding="utf-8"))
        files = dict(card["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CARD} cannot be read: {error}", f"sorano export onnx {folder}") from error
    if card.get("format") != FORMAT:
        raise CheckpointError(f"{folder / CARD} has format {card.get('format')!r}, not {FORMAT}", "export it again")
    for name, words in files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise CheckpointError(f"{file} is missing", f"sorano export {card['runtime']} {folder}")
        if sha256(file) != words["sha256"]:
            raise CheckpointError(f"{file} is not the file that was exported: its SHA-256 differs", "export it again")
    return card


def _loaded(preset: Preset) -> Bundle:
    from sorano.pipeline import load_bundle

    if preset.folder is None:
        raise RequestError(f"{preset.name} is not here", f"sorano pull {preset.name}")
    return load_bundle(preset, "cpu", "float32")


Network = tuple["nn.Module", tuple["Tensor", ...], str]


def _networks(bundle: Bundle, shapes: GraphShapes) -> dict[str, Network]:
    """Each graph's module, inputs of its shapes in the order of `INPUTS`, and its result's name."""
    import torch

    from sorano.export import networks

    text, tokens = torch.zeros(shapes.text_tokens), torch.zeros(shapes.num_tokens)
    half = shapes.head_dim // 2
    cos, sin = torch.zeros(shapes.num_tokens, half), torch.zeros(shapes.num_tokens, half)  # one twice is taken for one
    latent = torch.zeros(1, *shapes.latent_CTHW)
    video = torch.zeros(1, 3, shapes.num_frames, shapes.height, shapes.width)
    width = bundle.text_encoder.config.d_model
    patches = torch.zeros(shapes.num_tokens, shapes.patch_numbers)
    transformer_inputs = (
        patches, torch.zeros(2), tokens, cos, sin, torch.zeros(shapes.text_tokens, width), text
    )  # fmt: skip
    encoder = networks.TextEncoderGraph(bundle.text_encoder, shapes.text_tokens)
    return {
        "text_encoder": (encoder, (text.long(), text), "text"),
        "transformer": (networks.TransformerGraph(bundle.transformer), transformer_inputs, "velocity"),
        "decoder": (networks.DecoderGraph(bundle.vae), (latent,), "video"),
        "encoder": (networks.EncoderGraph(bundle.vae), (video,), "latent"),
    }


def _traced(name: str, network: Network) -> Any:
    """The network as an `onnx.ModelProto`, its weights inside."""
    import onnx
    import torch
    from onnxscript import optimizer

    module, inputs, result = network
    with quiet():
        program = torch.export.export(module.eval(), inputs, strict=False)
        made = torch.onnx.export(
            program, (), dynamo=True, input_names=list(INPUTS[name]), output_names=[result], opset_version=OPSET,
            optimize=False, verbose=False,
        )  # fmt: skip
        assert made is not None
        optimizer.fold_constants(made.model)
        optimizer.remove_unused_nodes(made.model)
    model = made.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in Python each came from
    onnx.checker.check_model(model)  # an input whose name the exporter gave to a value of its own would be lost
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself: that torchvision is not here, that its own code is deprecated."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write_card(
    preset: Preset, bundle: Bundle, shapes: GraphShapes, runtime: str, precision: str, folder: Path
) -> Path:
    from sorano import __version__
    from sorano.models.wan.config import MAX_TEXT_TOKENS
    from sorano.request import Request
    from sorano.resolve import resolve
    from sorano.sampling.schedule import read_scheduler_config
    from sorano.stream import HANDOVER_FRAMES

    configs = preset.read_configs()
    width, height = resolve(Request(prompt="any"), preset, configs).output_size
    solver, shift = read_scheduler_config(bundle.scheduler_config)
    files = [*(f"{name}{SUFFIXES[runtime]}" for name in GRAPHS), "tokenizer.json"]
    card = {
        "format": FORMAT,
        "sorano": __version__,
        "preset": preset.name,
        "runtime": runtime,
        "precision": precision,
        "shapes": asdict(shapes),
        "fps": preset.fps,
        "solver": solver,
        "shift": shift if preset.shift is None else preset.shift,
        "num_steps": preset.num_steps,
        "guidance": preset.guidance,
        "known": list(preset.kinds(configs)),
        "output": {"width": width, "height": height},  # of the file, as the engine has it
        "text_positions": MAX_TEXT_TOKENS,  # that the transformer was trained with, most of them padding
        "handover_frames": HANDOVER_FRAMES,
        "weights": bundle.digests,
        "weights_sha256": hashlib.sha256(canonical(bundle.digests)).hexdigest(),  # as in a video's credential
        "files": {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in files},
    }
    write_atomic(folder / CARD, json.dumps(card, indent=2) + "\n")
    return folder / CARD
