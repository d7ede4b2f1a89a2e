"""The configurations of a diffusers folder of the Wan family, read without a weight, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sorano.errors import CheckpointError
from sorano.models.config import read_json
from sorano.models.wan.config import (
    ImageEncoderConfig,
    TextEncoderConfig,
    TransformerConfig,
    VaeConfig,
    inert_fields,
)
from sorano.shapes import Geometry


@dataclass(frozen=True)
class ModelConfigs:
    """What the networks of a folder are made of, and how they work together."""

    transformer: TransformerConfig
    vae: VaeConfig
    text_encoder: TextEncoderConfig
    transformer_2: TransformerConfig | None = None  # the expert for low noise
    image_encoder: ImageEncoderConfig | None = None
    expand_timesteps: bool = False  # a timestep for each token
    notes: tuple[str, ...] = field(default=(), compare=False)  # fields that are not known here and change nothing

    @classmethod
    def of_folder(cls, folder: Path) -> ModelConfigs:
        """Reads every `config.json`. Raises CheckpointError naming the one missing or not understood."""
        index = read_json(folder / "model_index.json")
        notes: list[str] = []

        def read(part: str, kind: type) -> Any:
            return _read(folder / part / "config.json", kind, notes)

        transformer = read("transformer", TransformerConfig)
        has_second = any(index.get("transformer_2") or [])
        sees = transformer.image_dim is not None
        return cls(
            transformer=transformer,
            vae=read("vae", VaeConfig),
            text_encoder=read("text_encoder", TextEncoderConfig),
            transformer_2=read("transformer_2", TransformerConfig) if has_second else None,
            image_encoder=read("image_encoder", ImageEncoderConfig) if sees else None,
            expand_timesteps=bool(index.get("expand_timesteps", False)),
            notes=tuple(notes),
        )

    @property
    def first_picture(self) -> str:
        """Whether the video can, must or cannot ("optional", "required", "none") begin with a given picture."""
        return "optional" if self.expand_timesteps else "required" if self.transformer.condition_channels else "none"

    @property
    def last_picture(self) -> str:
        """The same of the picture that it ends with. Two experts of image to video take one and do without."""
        if self.transformer.pos_embed_seq_len is not None:
            return "required"
        return "optional" if self.transformer.condition_channels and self.image_encoder is None else "none"

    @property
    def image_tokens(self) -> int:
        """What a given picture, or a first and a last one, adds to what is attended to beside the video."""
        seen = self.image_encoder.num_tokens if self.image_encoder else 0
        return self.transformer.pos_embed_seq_len or seen

    @property
    def pixel_grid(self) -> int:
        """Pixels between neighbouring sizes."""
        return self.geometry.pixel_grid

    @property
    def geometry(self) -> Geometry:
        """How pixels become latents and tokens."""
        return Geometry(self.vae.scale_factor_temporal, self.vae.scale_factor_spatial, self.transformer.patch_size)

    def parameters(self) -> int:
        """Weights of all networks."""
        return sum(network.parameters() for network in self.networks())

    def networks(self) -> list[TransformerConfig | VaeConfig | TextEncoderConfig | ImageEncoderConfig]:
        """The configuration of every network that there is."""
        all_of_them = (self.transformer, self.transformer_2, self.vae, self.text_encoder, self.image_encoder)
        return [network for network in all_of_them if network is not None]


def _read(file: Path, kind: Any, notes: list[str]) -> Any:
    words = read_json(file)
    try:
        made = kind.from_dict(words)
        unknown = inert_fields(kind, words)
        if unknown:
            named = ", ".join(unknown)
            notes.append(f"{file.parent.name}/config.json has {named}, new here and at values that change nothing")
        return made
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file} does not describe a model that Sorano knows: {error}") from error
