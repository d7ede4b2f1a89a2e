"""The models that can be named with `--preset`, with their defaults and their limits.

A preset is a diffusers folder and what its model was trained on: the embedded model's is in the package, those of the
open weights are fetched with `sorano pull`. Any other diffusers folder can be given by its path, or as OWNER/NAME where
it was pulled. It has the settings of the row whose networks it has, or else the defaults of Wan 2.1; a `sorano.json`
inside it, with the same words as a row here, comes before either.

The rows of the Wan family have the settings of its authors (`wan/configs`, generate.py). Where the hub's folder differs
(`hub`: its scheduler's shift, and the steps and guidance that stock pipelines take unless told), or the authors' own
advice (`readme`), that is a named alternative: `--settings hub`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError, RequestError
from sorano.models.registry import read_configs
from sorano.models.wan import sizes
from sorano.models.wan.config import TransformerConfig
from sorano.models.wan.configs import ModelConfigs
from sorano.shapes import format_size, parse_size

if TYPE_CHECKING:
    from sorano.captions import CaptionVocabulary

WEIGHTS = Path(__file__).parent / "weights"
CARD = "sorano.json"  # inside a model's folder: what it was trained on
DEFAULT_PRESET = "world"
SMALL_PARAMETERS = 300e6  # of a transformer: up to here it was trained at small sizes
TINY_PARAMETERS = 60e6
SMALL_CELLS, TINY_CELLS = 16, 8  # tokens a side of the square that such a model is asked for
SMALL_STEPS = 24
SMALL_VOCABULARY = 10_000  # words of a text encoder that knows only those of its captions
REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # of the hub: OWNER/NAME
ALL_KINDS = ("first", "prefix", "middle", "suffix", "keyframe", "region")  # what `sorano train` teaches


NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，"
    "倒着走"
)  # what all of the family steer away from


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model and what it knows. `None` as a limit means that the model sets none."""

    name: str
    folder: Path | None = None  # None: where the hub's cache has it
    # where it comes from
    repo: str | None = None  # of the hub; None: it comes with Sorano, or is a folder of the user's own
    licence: str = "Apache-2.0"
    configs: ModelConfigs | None = None  # None: those in the folder
    # what it was trained on
    size: str = "832x480"
    sizes: tuple[str, ...] = ()  # all that its authors name, where there are more
    num_frames: int = 81
    fps: float = 16.0
    max_num_frames: int | None = None
    max_side: int | None = None  # pixels, the longer of width and height
    small_vocabulary: bool = False  # knows only the words of its captions
    known: tuple[str, ...] | None = None  # kinds of known latents; None: the pictures that its networks take
    # how it samples best
    num_steps: int = 50
    guidance: float = 5.0
    guidance_2: float | None = None  # of the expert for low noise; None: as guidance
    shift: float | None = None  # None: as the folder's scheduler says
    boundary: float | None = None  # None: as the folder says
    negative_prompt: str = ""
    alternatives: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()  # other settings by name
    note: str | None = None  # to be said where it is used: what was taken for granted

    @property
    def captions(self) -> CaptionVocabulary | None:
        """What the model's captions can say; None where it takes any words."""
        if not self.small_vocabulary or self.folder is None:
            return None
        from sorano.world.vocabulary import WorldVocabulary

        return WorldVocabulary(self.folder)

    @property
    def download_bytes(self) -> int | None:
        """What a pull fetches at most: every weight in float32, as most of the hub's folders have them."""
        return 4 * self.configs.parameters() if self.configs is not None else None

    def with_settings(self, name: str | None) -> Preset:
        """The same preset with named settings in place of its own. Raises RequestError for a name it does not have."""
        known = dict(self.alternatives)
        if name is None or name == "official":
            return self
        if name not in known:
            names = ", ".join(["official", *known])
            raise RequestError(f"preset {self.name} has no settings {name!r}", f"choose one of: {names}")
        return replace(self, **dict(known[name]))  # type: ignore[arg-type]

    def kinds(self, configs: ModelConfigs) -> tuple[str, ...]:
        """The kinds of known latents that the model was trained on (docs/how-it-works.md): "first", "last" ..."""
        if self.known is not None:
            return self.known
        pictures = (("first", configs.first_picture), ("last", configs.last_picture))
        return tuple(kind for kind, takes in pictures if takes != "none")

    def read_configs(self) -> ModelConfigs:
        """What the networks are made of: the folder's own words where it is here, else the official ones."""
        if self.folder is not None:
            return read_configs(self.folder)
        assert self.configs is not None
        return self.configs

    @property
    def digests_file(self) -> Path:
        """Where the digests are pinned, in the form of `sha256sum`: beside the folder, not in it."""
        assert self.folder is not None
        return self.folder.with_name(self.folder.name + ".sha256")

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file by its path in the folder; empty for a folder of the user's own."""
        if not self.digests_file.is_file():
            return {}
        pairs = (line.split(maxsplit=1) for line in self.digests_file.read_text().splitlines() if line.strip())
        return {name.removeprefix("*").removeprefix("./"): digest for digest, name in pairs}


def _wan(name: str, repo: str, configs: ModelConfigs, **settings: Any) -> Preset:
    alternatives = tuple((name, tuple(words.items())) for name, words in settings.pop("alternatives", {}).items())
    prompt = settings.pop("negative_prefix", "") + NEGATIVE
    return Preset(
        name=name, repo=f"Wan-AI/{repo}", configs=configs, negative_prompt=prompt, alternatives=alternatives, **settings
    )


def _configs(transformer: TransformerConfig, *, experts: int = 1) -> ModelConfigs:
    sees, by_token = transformer.image_dim is not None, transformer == sizes.TI2V_5B
    return ModelConfigs(
        transformer=transformer,
        vae=sizes.VAE_2_2 if by_token else sizes.VAE_2_1,
        text_encoder=sizes.UMT5_XXL,
        transformer_2=transformer if experts == 2 else None,
        image_encoder=sizes.CLIP_VIT_H if sees else None,
        expand_timesteps=by_token,
    )


_480P, _720P = ("832x480", "480x832"), ("1280x720", "720x1280")
_UNTOLD = {"num_steps": 50, "guidance": 5.0}  # what stock pipelines take

# fmt: off
PRESETS = {
    preset.name: preset
    for preset in (
        #      name           folder                     trained on
        Preset(name="world",  folder=WEIGHTS / "world",  size="128x128", num_frames=25, fps=12,
               # limits                                                            samples best with
               max_num_frames=25, max_side=256, small_vocabulary=True, known=ALL_KINDS, num_steps=12, guidance=4.5),
        _wan("wan2.1-t2v-1.3b",      "Wan2.1-T2V-1.3B-Diffusers",      _configs(sizes.T2V_1_3B), shift=5.0,
             sizes=_480P, alternatives={"readme": {"shift": 8.0, "guidance": 6.0}, "hub": {"shift": 3.0, **_UNTOLD}}),
        _wan("wan2.1-t2v-14b",       "Wan2.1-T2V-14B-Diffusers",       _configs(sizes.T2V_14B), shift=5.0,
             size="1280x720", sizes=_720P + _480P, alternatives={"hub": {"shift": 3.0, **_UNTOLD}}),
        _wan("wan2.1-i2v-14b-480p",  "Wan2.1-I2V-14B-480P-Diffusers",  _configs(sizes.I2V_14B), shift=3.0,
             sizes=_480P, num_steps=40, negative_prefix="镜头晃动，", alternatives={"hub": {"shift": 3.0, **_UNTOLD}}),
        _wan("wan2.1-i2v-14b-720p",  "Wan2.1-I2V-14B-720P-Diffusers",  _configs(sizes.I2V_14B), shift=5.0,
             size="1280x720", sizes=_720P, num_steps=40, negative_prefix="镜头晃动，",
             alternatives={"hub": {"shift": 3.0, **_UNTOLD}}),
        _wan("wan2.1-flf2v-14b",     "Wan2.1-FLF2V-14B-720P-diffusers", _configs(sizes.FLF2V_14B), shift=16.0,
             size="1280x720", sizes=_720P + _480P, negative_prefix="镜头切换，",
             alternatives={"hub": {"shift": 16.0, **_UNTOLD}}),
        _wan("wan2.2-ti2v-5b",       "Wan2.2-TI2V-5B-Diffusers",       _configs(sizes.TI2V_5B), shift=5.0,
             size="1280x704", sizes=("1280x704", "704x1280"), num_frames=121, fps=24.0,
             alternatives={"hub": {"shift": 5.0, **_UNTOLD}}),
        _wan("wan2.2-t2v-a14b",      "Wan2.2-T2V-A14B-Diffusers",      _configs(sizes.T2V_14B, experts=2), shift=12.0,
             size="1280x720", sizes=_720P + _480P, num_steps=40, guidance=4.0, guidance_2=3.0, boundary=0.875,
             alternatives={"hub": {"shift": 3.0, **_UNTOLD, "guidance_2": 5.0}}),
        _wan("wan2.2-i2v-a14b",      "Wan2.2-I2V-A14B-Diffusers",      _configs(sizes.I2V_A14B, experts=2), shift=5.0,
             size="1280x720", sizes=_720P + _480P, num_steps=40, guidance=3.5, guidance_2=3.5, boundary=0.9,
             alternatives={"hub": {"shift": 3.0, **_UNTOLD, "guidance_2": 5.0}}),
    )
}
# fmt: on


def find_preset(name: str | Path) -> Preset:
    """The preset of this name or of this repository of the hub, or of the diffusers folder at this path.

    One of another repository OWNER/NAME has neither folder nor configs: `sorano.hub.located` finds what was pulled.
    Raises RequestError for a name that is no preset (naming the nearest), and CheckpointError for a path that is no
    model folder.
    """
    text = str(name)
    if text in PRESETS:
        return PRESETS[text]
    folder = Path(text).expanduser()
    if folder.is_dir():
        return preset_of_folder(folder)
    for preset in PRESETS.values():
        if preset.repo is not None and preset.repo.lower() == text.lower():
            return preset
    if REPO.fullmatch(text):
        return Preset(name=text, repo=text, licence="not known")
    if folder.exists() or "/" in text or os.sep in text or text.startswith((".", "~")):
        raise CheckpointError(f"{text} is not a folder", "give a preset's name, or the path of a diffusers folder")
    raise RequestError(
        f"there is no preset {text!r}; known: {', '.join(PRESETS)}",
        f"the nearest: --preset {', '.join(nearest_presets(text))}",
    )


def nearest_presets(name: str) -> list[str]:
    """Up to four presets whose names, or whose repositories', begin with `name`, or are most like it; at least one."""
    name = name.lower()
    known = {preset.name: preset.name for preset in PRESETS.values()}
    known |= {preset.repo.lower(): preset.name for preset in PRESETS.values() if preset.repo}
    begun = [preset for text, preset in known.items() if name and text.startswith(name)]
    like = begun or get_close_matches(name, known, n=4, cutoff=0.6) or get_close_matches(name, known, n=1, cutoff=0.0)
    return list(dict.fromkeys(known.get(text, text) for text in like))[:4]


def write_card(folder: Path, **words: Any) -> Path:
    """Writes what a model was trained on, fields of Preset, beside its weights; returns the card's path."""
    card = folder / CARD
    card.write_text(json.dumps(words, indent=2) + "\n", encoding="utf-8")
    return card


def preset_of_folder(folder: Path, name: str | None = None) -> Preset:
    """The preset of a user's own folder: its card, over the settings of the row whose networks it has."""
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f"{folder} has no model_index.json",
            "a model is a diffusers folder: transformer/, vae/, text_encoder/ ...",
        )
    own = next(
        (row for row in PRESETS.values() if row.folder is not None and row.folder.resolve() == folder.resolve()), None
    )
    if own is not None:
        return own
    name = name or folder.resolve().name
    preset = replace(_settings_like(folder, name), name=name, folder=folder.resolve())
    card = folder / CARD
    if not card.is_file():
        return preset
    try:
        return replace(preset, note=None, **_read_card(card))
    except (ValueError, TypeError, RequestError) as error:
        raise CheckpointError(f"{card} cannot be read: {error}") from error


def _settings_like(folder: Path, name: str) -> Preset:
    """The settings of the row that has the folder's networks; of two, the one whose words are in its path."""
    try:
        configs = read_configs(folder)
    except CheckpointError:  # said when they are needed
        return Preset(name=name)
    rows = [row for row in PRESETS.values() if row.configs is not None and _networks(row.configs) == _networks(configs)]
    if not rows:
        return _settings_of(configs, folder, name)
    path = f"{folder.resolve()} {name}".lower()
    row = max(rows, key=lambda row: sum(word in path for word in row.name.split("-")))
    # the boundary is the folder's own: its experts were trained for it
    note = f"{name} has the networks of {row.name}, and is used with its settings"
    return replace(row, repo=None, configs=None, licence="not known", boundary=None, note=note)


def _settings_of(configs: ModelConfigs, folder: Path, name: str) -> Preset:
    """Settings by what the configs themselves say: the geometry, the size of the networks, the vocabulary.

    A small model was trained at small sizes: the defaults of Wan would take hours on it and show nothing.
    """
    parameters = configs.transformer.parameters()
    if parameters > SMALL_PARAMETERS:
        return Preset(name=name)
    side = configs.pixel_grid * (SMALL_CELLS if parameters > TINY_PARAMETERS else TINY_CELLS)
    frames = configs.geometry.video_frames(5)
    return Preset(
        name=name,
        licence="not known",
        size=format_size(side, side),
        num_frames=frames,
        num_steps=SMALL_STEPS,
        small_vocabulary=configs.text_encoder.vocab_size <= SMALL_VOCABULARY,
        note=(
            f"{name} has no {CARD}: by its {parameters / 1e6:.0f} million parameters, {side}x{side}, {frames} frames"
            f" and {SMALL_STEPS} steps are taken"
        ),
    )


def _networks(configs: ModelConfigs) -> tuple[object, ...]:
    """Their kind and size. The autoencoder's statistics and the text encoder's vocabulary may differ."""
    return configs.transformer, configs.transformer_2, configs.expand_timesteps, configs.vae.z_dim


def _read_card(card: Path) -> dict[str, Any]:
    """The fields of a Preset in a folder's card. Raises ValueError for words that a Preset does not have."""
    words = json.loads(card.read_text(encoding="utf-8-sig"))
    not_words = {"name", "folder", "repo", "configs", "sizes", "alternatives", "note"}
    known = {field.name for field in fields(Preset)} - not_words
    if not isinstance(words, dict) or set(words) - known:
        raise ValueError(f"expected the words {', '.join(sorted(known))}")
    for name, value in list(words.items()):
        if name == "size":
            parse_size(value)
        elif name == "known":
            if not isinstance(value, list) or not set(value) <= {*ALL_KINDS, "last"}:
                raise ValueError(f"known is {value!r}")
            words[name] = tuple(value)
        elif name in ("licence", "negative_prompt"):
            if not isinstance(value, str):
                raise ValueError(f"{name} is {value!r}")
        elif not isinstance(value, (int, float)) and value is not None:
            raise ValueError(f"{name} is {value!r}")
    return words
