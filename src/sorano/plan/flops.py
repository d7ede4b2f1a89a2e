"""Models as the plan sees them: tokens, FLOPs and weights, of our presets and of models that others published.

One multiply-add is two FLOPs; attention is not causal, so there is no factor of one half. For a transformer of L
layers, width D and feed-forward F, with s video tokens and S text tokens (as in wan/modules/model.py):

    attention   4 s^2 D L                     grows with the square of the video
    linear      s L (12 D^2 + 4 D F)          6 D F with a gated feed-forward
    text        L (4 S D^2 + 4 s S D)         keys and values of the text, and the scores with it

Joint transformers (HunyuanVideo, Flux, CogVideoX) attend to video and text at once, n = s + S:
L [n (8 D^2 + 4 D F) + 4 n^2 D]. Training costs three forward passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sorano.errors import RequestError
from sorano.models.wan.config import MAX_TEXT_TOKENS
from sorano.models.wan.configs import ModelConfigs
from sorano.plan.assumptions import Assumptions, nearest, number
from sorano.shapes import LatentShape, VideoShape, nearest_size, parse_size

if TYPE_CHECKING:
    from sorano.presets import Preset


@dataclass(frozen=True)
class Parts:
    """FLOPs by what they grow with."""

    attention: int
    linear: int
    rest: int  # text, embeddings, head

    @property
    def total(self) -> int:
        """All of them."""
        return self.attention + self.linear + self.rest

    @property
    def attention_share(self) -> float:
        """0 to 1."""
        return self.attention / self.total if self.total else 0.0

    def times(self, count: float) -> Parts:
        """So many passes."""
        return Parts(round(self.attention * count), round(self.linear * count), round(self.rest * count))


@dataclass(frozen=True)
class Native:
    """What a model makes when nobody says otherwise."""

    size: str
    num_frames: int
    fps: float
    num_steps: int
    branches: int  # passes a step: 2 with guidance


class Costed(Protocol):
    """A model whose cost is known by shape."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def native(self) -> Native: ...
    @property
    def parameters(self) -> int:
        """Weights of the transformer that a token meets (one expert of two)."""

    @property
    def all_parameters(self) -> int:
        """Weights of everything that is kept."""

    @property
    def layers(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    def shape(self, size: str | None, seconds: float | None, fps: float | None) -> VideoShape:
        """The nearest video that the model can make."""

    def tokens(self, shape: VideoShape) -> int:
        """Video tokens."""

    def forward(self, shape: VideoShape) -> Parts:
        """One pass of the transformer for one sample."""

    def decode_flops(self, shape: VideoShape) -> int | None:
        """Latents to pixels; None where the autoencoder is not known."""

    def encode_flops(self, shape: VideoShape) -> int | None:
        """Pixels to latents."""

    def latent_bytes(self, shape: VideoShape) -> int:
        """Bytes of one sample's latents in 16 bits."""


@dataclass(frozen=True)
class PresetModel:
    """A model that Sorano runs: exact counts of its configurations."""

    name: str
    title: str
    native: Native
    configs: ModelConfigs
    preset: Preset

    @property
    def parameters(self) -> int:
        return self.configs.transformer.parameters()

    @property
    def all_parameters(self) -> int:
        return self.configs.parameters()

    @property
    def layers(self) -> int:
        return self.configs.transformer.num_layers

    @property
    def width(self) -> int:
        return self.configs.transformer.width

    @property
    def heads(self) -> int:
        return self.configs.transformer.num_attention_heads

    def shape(self, size: str | None, seconds: float | None, fps: float | None) -> VideoShape:
        width, height = parse_size(size or self.native.size)
        frames = self.native.num_frames
        if seconds is not None:
            frames = self.configs.geometry.nearest_num_frames(seconds, fps or self.native.fps)
        grid = self.configs.pixel_grid
        if (width % grid, height % grid) != (0, 0):
            near = nearest_size(width, height, grid)
            raise RequestError(
                f"size {width}x{height} is off the grid of {self.name}: multiples of {grid} pixels",
                f"the nearest is {near[0]}x{near[1]}",
            )
        return VideoShape(frames, height, width)

    def tokens(self, shape: VideoShape) -> int:
        return self.configs.geometry.tokens(shape)

    def forward(self, shape: VideoShape) -> Parts:
        transformer, eyes = self.configs.transformer, self.configs.image_encoder
        images = transformer.pos_embed_seq_len or (eyes.num_tokens if eyes else 0)
        parts = transformer.flops_by_part(self.latent(shape), text_tokens=MAX_TEXT_TOKENS, image_tokens=images)
        return Parts(parts["attention"], parts["linear"], parts["text"] + parts["edges"])

    def decode_flops(self, shape: VideoShape) -> int | None:
        return self.configs.vae.decode_flops(shape)

    def encode_flops(self, shape: VideoShape) -> int | None:
        return self.configs.vae.encode_flops(shape)

    def latent_bytes(self, shape: VideoShape) -> int:
        latent = self.latent(shape)
        return 2 * self.configs.vae.z_dim * latent.num_frames * latent.rows * latent.columns

    def latent(self, shape: VideoShape) -> LatentShape:
        """The shape of a video's latents."""
        return self.configs.geometry.latent(shape)


@dataclass(frozen=True)
class PublishedModel:
    """A row of models.csv: the shape of a transformer that others trained. Its autoencoder's cost is not known."""

    name: str
    title: str
    native: Native
    kind: str  # "cross": text by cross-attention; "joint": video and text at once
    all_parameters: int
    layers: int
    width: int
    heads: int
    ffn: int
    gated: bool
    text_tokens: int
    strides: tuple[Fraction, int, int]  # frames, rows and columns of pixels for a latent
    patch: tuple[int, int, int]
    causal: bool

    @property
    def parameters(self) -> int:
        """The weights that a video token meets: in models with two streams about half of the headline."""
        d, f = self.width, self.ffn
        attention = 6 if self.kind == "cross" else 4
        return self.layers * (attention * d * d + (3 if self.gated else 2) * d * f)

    def shape(self, size: str | None, seconds: float | None, fps: float | None) -> VideoShape:
        width, height = parse_size(size or self.native.size)
        if seconds is None:
            return VideoShape(self.native.num_frames, height, width)
        return VideoShape(max(1, round(seconds * (fps or self.native.fps))), height, width)

    def tokens(self, shape: VideoShape) -> int:
        t, h, w = self.strides
        frames = Fraction(shape.num_frames - 1) / t + 1 if self.causal else Fraction(shape.num_frames) / t
        latents = math.ceil(frames)
        pt, ph, pw = self.patch
        return math.ceil(latents / pt) * math.ceil(shape.height / (h * ph)) * math.ceil(shape.width / (w * pw))

    def forward(self, shape: VideoShape) -> Parts:
        return self.forward_of_tokens(self.tokens(shape))

    def forward_of_tokens(self, tokens: int) -> Parts:
        """One pass over so many video tokens."""
        d, count = self.width, self.layers
        ffn = (6 if self.gated else 4) * d * self.ffn
        if self.kind == "cross":
            text = 4 * self.text_tokens * d * d + 4 * tokens * self.text_tokens * d
            return Parts(4 * tokens**2 * d * count, tokens * (12 * d * d + ffn) * count, text * count)
        both = tokens + self.text_tokens
        linear = both * (8 * d * d + ffn) * count
        return Parts(4 * both**2 * d * count, linear, 0)

    def decode_flops(self, shape: VideoShape) -> int | None:
        return None

    def encode_flops(self, shape: VideoShape) -> int | None:
        return None

    def latent_bytes(self, shape: VideoShape) -> int:
        return 2 * 16 * self.tokens(shape) * math.prod(self.patch)


def find_model(assumptions: Assumptions, name: str | Path) -> PresetModel | PublishedModel:
    """A preset by its name or repository, a diffusers folder, a published model, or a number of parameters in the
    proportions of Movie Gen's.

    Raises RequestError naming the nearest for other words.
    """
    from sorano.presets import PRESETS, find_preset

    text = str(name)
    rows = assumptions.rows["models"]
    if text in rows:
        if rows[text]["kind"] == "lm":
            raise RequestError(f"{text} is a language model, and makes no video", f"try `sorano plan explain {text}`")
        return published(assumptions, text)
    repos = {preset.repo.lower() for preset in PRESETS.values() if preset.repo}
    if text in PRESETS or text.lower() in repos or Path(text).expanduser().is_dir():
        return of_preset(find_preset(text))
    try:
        return of_dimensions(parameters=_count(text), like=published(assumptions, "movie-gen-30b"))
    except ValueError:
        pass
    known = [*PRESETS, *(row for row in rows if rows[row]["kind"] != "lm")]
    raise RequestError(f"there is no model {text!r}", f"the nearest is {nearest(text, known)}; also a diffusers folder")


def of_preset(preset: Preset) -> PresetModel:
    """A preset with its own settings."""
    native = Native(preset.size, preset.num_frames, preset.fps, preset.num_steps, 2 if preset.guidance > 1 else 1)
    return PresetModel(preset.name, preset.name, native, preset.read_configs(), preset)


def published(assumptions: Assumptions, name: str) -> PublishedModel:
    """A row of models.csv."""
    row = assumptions.row("models", name)

    def cell(column: str, default: float | None = None) -> int:
        return round(number(row, column, "models", default))

    layers = cell("layers") + cell("dual_layers", 0)
    return PublishedModel(
        name=name,
        title=row["title"],
        native=Native(
            row["size"] or "1x1",
            cell("frames", 1),
            number(row, "fps", "models", 24.0),
            cell("steps", 1),
            cell("branches", 1),
        ),
        kind=row["kind"],
        all_parameters=round(number(row, "parameters_b", "models") * 1e9),
        layers=layers,
        width=cell("width"),
        heads=cell("heads"),
        ffn=cell("ffn"),
        gated=row["gated"] == "1",
        text_tokens=cell("text_tokens"),
        strides=(Fraction(row["vae_t"]), cell("vae_h"), cell("vae_w")),
        patch=(cell("patch_t"), cell("patch_h"), cell("patch_w")),
        causal=row["causal"] == "1",
    )


def of_dimensions(
    *, parameters: float | None = None, layers: int | None = None, width: int | None = None, like: PublishedModel
) -> PublishedModel:
    """A model of this many parameters, or of these dimensions, in the proportions of another.

    Parameters of a transformer grow with layers x width^2; depth is kept in proportion to the square root of width, so
    width grows with the power 2/5 of the parameters.
    """
    factor = 1.0 if parameters is None else (parameters / like.all_parameters) ** 0.4
    new_width = width or 128 * max(1, round(like.width * factor / 128))
    new_layers = layers or max(1, round(like.layers * (new_width / like.width) ** 0.5))
    ffn = round(like.ffn * new_width / like.width / 128) * 128
    made = replace(
        like,
        name="custom",
        title="your model",
        width=new_width,
        layers=new_layers,
        ffn=ffn,
        heads=max(1, new_width // 128),
    )
    return replace(made, all_parameters=round(parameters or made.parameters))


def _count(text: str) -> float:
    """30e9 and 30B. ValueError for what is no number of parameters of a model."""
    scale = {"m": 1e6, "b": 1e9, "t": 1e12}.get(text[-1:].lower(), 1.0)
    parameters = float(text[:-1] if scale > 1 else text) * scale
    if not 1e6 <= parameters <= 1e14:
        raise ValueError(text)
    return parameters
