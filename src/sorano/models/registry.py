"""Every family that Sorano runs, and which of them a folder is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError
from sorano.models.config import read_json
from sorano.models.family import Family
from sorano.models.wan.configs import ModelConfigs
from sorano.models.wan.family import WAN

if TYPE_CHECKING:
    from sorano.models.checkpoint import Bundle

FAMILIES: list[Family] = [WAN]
FOREIGN = {  # names of what is not run, by what the class of a pipeline begins with
    "AnimateDiff": "AnimateDiff",
    "CogVideoX": "CogVideoX",
    "Flux": "FLUX",
    "HunyuanVideo": "HunyuanVideo",
    "LTX": "LTX-Video",
    "Mochi": "Mochi",
    "QwenImage": "Qwen-Image",
    "Sana": "SANA",
    "SkyReelsV2": "SkyReels-V2",
    "StableDiffusion3": "Stable Diffusion 3",
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion": "Stable Diffusion",
    "StableVideoDiffusion": "Stable Video Diffusion",
    "WanVACE": "Wan's VACE",
    "WanAnimate": "Wan's Animate",
    "Wan": "Wan",
}


def family_of(index: Mapping[str, Any]) -> Family:
    """The family of a `model_index.json`. Raises ValueError, saying whose it is, for one that Sorano does not run."""
    for family in FAMILIES:
        if family.runs(index):
            return family
    name = index.get("_class_name")
    owner = next((words for start, words in FOREIGN.items() if str(name).startswith(start)), None)
    whose = f"of {owner} ({name})" if owner else f"of {name}" if name else "of no pipeline that it names"
    known = "; ".join(f"the {family.name} family: {' and '.join(family.pipelines)}" for family in FAMILIES)
    raise ValueError(f"it is {whose}, and Sorano runs {known}")


def family_of_folder(folder: Path) -> Family:
    """The family of a diffusers folder. Raises CheckpointError where it is none of them, or no such folder."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no model folder at {folder}")
    path = folder / "model_index.json"
    try:
        return family_of(read_json(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_configs(folder: Path) -> ModelConfigs:
    """What the networks of a diffusers folder are made of, without a weight. Raises CheckpointError."""
    return family_of_folder(folder).read_configs(folder)


def load(folder: Path, **options: Any) -> Bundle:
    """Load a diffusers folder with its family's loader (`Family.load`). Raises CheckpointError."""
    return family_of_folder(folder).load(folder, **options)
