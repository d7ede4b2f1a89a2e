"""The configurations of a diffusers folder, read without loading a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sorano.errors import CheckpointError
from sorano.models.config import TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.shapes import pixel_grid


@dataclass(frozen=True)
class ModelConfigs:
    """What the networks of a folder are made of."""

    transformer: TransformerConfig
    vae: VaeConfig
    text_encoder: TextEncoderConfig

    @classmethod
    def of_folder(cls, folder: Path) -> ModelConfigs:
        """Reads the three `config.json`. Raises CheckpointError naming the one missing or not understood."""
        return cls(
            transformer=_read(folder / "transformer" / "config.json", TransformerConfig),
            vae=_read(folder / "vae" / "config.json", VaeConfig),
            text_encoder=_read(folder / "text_encoder" / "config.json", TextEncoderConfig),
        )

    @property
    def pixel_grid(self) -> int:
        """Pixels between neighbouring sizes."""
        return pixel_grid(self.vae.scale_factor_spatial, self.transformer.patch_size)

    def parameters(self) -> int:
        """Weights of all networks."""
        return self.transformer.parameters() + self.vae.parameters() + self.text_encoder.parameters()


def _read(file: Path, kind: Any) -> Any:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing", "the model folder is incomplete: install or download it again")
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(words, Mapping):
            raise ValueError("it holds no object")
        return kind.from_dict(words)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file} does not describe a model that Sorano knows: {error}") from error
