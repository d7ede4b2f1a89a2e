"""The models that can be named with `--preset`, with their defaults and their limits.

A preset is a diffusers folder and what its model was trained on. Any other diffusers folder can be given by
its path: a `sorano.json` inside it holds the same words as a row here, and without one the defaults of Wan
2.1 are taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sorano.errors import CheckpointError, RequestError
from sorano.shapes import parse_size

WEIGHTS = Path(__file__).parent / "weights"
CARD = "sorano.json"  # inside a model's folder: what it was trained on
DEFAULT_PRESET = "world"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model and what it knows. `None` as a limit means that the model sets none."""

    name: str
    folder: Path
    # where it comes from
    repo: str | None = None  # of the hub; None: it comes with Sorano, or is a folder of the user's own
    licence: str = "Apache-2.0"
    download_bytes: int | None = None
    # what it was trained on
    size: str = "832x480"
    num_frames: int = 81
    fps: float = 16.0
    max_num_frames: int | None = None
    max_side: int | None = None  # pixels, the longer of width and height
    small_vocabulary: bool = False  # knows only the words of its captions
    # how it samples best
    num_steps: int = 50
    guidance: float = 5.0

    @property
    def digests_file(self) -> Path:
        """Where the digests are pinned, in the form of `sha256sum`: beside the folder, not in it."""
        return self.folder.with_name(self.folder.name + ".sha256")

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file by its path in the folder; empty for a folder of the user's own."""
        if not self.digests_file.is_file():
            return {}
        pairs = (line.split(maxsplit=1) for line in self.digests_file.read_text().splitlines() if line.strip())
        return {name.removeprefix("*").removeprefix("./"): digest for digest, name in pairs}


# fmt: off
PRESETS = {
    preset.name: preset
    for preset in (
        #      name           folder                     trained on
        Preset(name="world",  folder=WEIGHTS / "world",  size="64x64", num_frames=17, fps=12,
               # limits                                                            samples best with
               max_num_frames=25, max_side=128, small_vocabulary=True,            num_steps=24, guidance=3.0),
    )
}
# fmt: on


def find_preset(name: str | Path) -> Preset:
    """The preset of this name, or of the diffusers folder at this path.

    Raises RequestError for a name that is no preset (naming the nearest), and CheckpointError for a path that
    is no model folder.
    """
    text = str(name)
    if text in PRESETS:
        return PRESETS[text]
    folder = Path(text).expanduser()
    if folder.is_dir():
        return _preset_of_folder(folder)
    if folder.name != text or folder.suffix:
        raise CheckpointError(f"{text} is not a folder", "give a preset's name, or the path of a diffusers folder")
    known = ", ".join(PRESETS)
    near = get_close_matches(text.lower(), PRESETS, n=1, cutoff=0.0)
    raise RequestError(
        f"there is no preset {text!r}; known: {known}",
        f"the nearest is --preset {near[0] if near else known}",
    )


def write_card(folder: Path, **words: Any) -> Path:
    """Writes what a model was trained on, fields of Preset, beside its weights; returns the card's path."""
    card = folder / CARD
    card.write_text(json.dumps(words, indent=2) + "\n", encoding="utf-8")
    return card


def _preset_of_folder(folder: Path) -> Preset:
    """The preset of a user's own folder: its card over the defaults of Wan 2.1."""
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f"{folder} has no model_index.json",
            "a model is a diffusers folder: transformer/, vae/, text_encoder/ ...",
        )
    preset = Preset(name=folder.resolve().name, folder=folder.resolve())
    card = folder / CARD
    if not card.is_file():
        return preset
    try:
        return replace(preset, **_read_card(card))
    except (ValueError, TypeError, RequestError) as error:
        raise CheckpointError(f"{card} cannot be read: {error}") from error


def _read_card(card: Path) -> dict[str, Any]:
    """The fields of a Preset in a folder's card. Raises ValueError for words that a Preset does not have."""
    words = json.loads(card.read_text(encoding="utf-8"))
    known = {field.name for field in fields(Preset)} - {"name", "folder"}
    if not isinstance(words, dict) or set(words) - known:
        raise ValueError(f"expected the words {', '.join(sorted(known))}")
    for name, value in words.items():
        if name == "size":
            parse_size(value)
        elif not isinstance(value, (int, float)) and value is not None:
            raise ValueError(f"{name} is {value!r}")
    return words
