"""Reading a network's `config.json` strictly in what changes the network and leniently in what does not. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

from sorano.errors import CheckpointError

DIFFUSERS_VERSION = "0.35.0"  # the oldest release whose pipelines know `expand_timesteps`
SHORT_ATTENTION = 512 * 512  # scores per head up to which a CPU holds them all: faster there than the flash kernel
ROWS_OF_SCORES = 2**20  # of one head held at once where a CPU computes longer attention in bfloat16


def require_value(config: Mapping[str, Any], name: str, allowed: tuple[Any, ...]) -> None:
    """Raise ValueError where a config has another value than those `allowed` for a field."""
    if name in config and config[name] not in allowed:
        wanted = " or ".join(repr(value) for value in allowed)
        raise ValueError(f"{name} is {config[name]!r}, and only {wanted} is supported")


OFF = (None, False, 0, "", "none", "default")  # values with which a field changes nothing
_NEUTRAL = ("scale", "factor", "multiplier")  # ends of names of numbers that change nothing at 1
_BESIDE = re.compile(r"(^|_)(decoder|dropout|loss|cache|generation|labels?|initializer|gradient)(_|$)")
"""Parts of names of fields about what is not used here: a decoder, training, generating text."""


def _is_inert(name: str, value: Any) -> bool:
    """Whether an unknown field leaves the network as it is: it is off, or about what is not used here."""
    if _BESIDE.search(name) or value in (*OFF, [], {}, ()):
        return True
    return name.endswith(_NEUTRAL) and value == 1


def refuse_unknown(config: Mapping[str, Any], known: Collection[str]) -> None:
    """ValueError for a field that may mean another network: one that is not known here, and not at a value with which
    it changes nothing (`inert_fields`)."""
    unknown = sorted(name for name in config if name not in known and not name.startswith("_"))
    unknown = [name for name in unknown if not _is_inert(name, config[name])]
    if unknown:
        raise ValueError(
            f"it has the unknown field {unknown[0]!r}, {config[unknown[0]]!r}: a newer or another kind of network"
        )


def read_fields(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass that a config states. ValueError, naming the field, for a value of another type."""
    return {one.name: _typed(one.name, config[one.name], str(one.type)) for one in fields(kind) if one.name in config}


def _typed(name: str, value: Any, kind: str) -> Any:
    """The value as `kind`, a field's annotation: "int", "float | None", "tuple[int, ...]"."""
    if kind.endswith(" | None"):
        if value is None:
            return None
        kind = kind.removesuffix(" | None")
    if kind.startswith("tuple["):
        inner = kind[len("tuple[") : -1].split(", ")
        if not isinstance(value, list | tuple) or not value or (inner[-1] != "..." and len(inner) != len(value)):
            raise ValueError(
                f"{name} is {value!r}, not a list of {'some' if inner[-1] == '...' else len(inner)} values"
            )
        return tuple(_typed(name, part, inner[0]) for part in value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool" and not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, not true or false")
    if kind == "float" and not (is_number and isfinite(value)):
        raise ValueError(f"{name} is {value!r}, not a number")
    least = 0 if name.endswith("token_id") else 1
    if kind == "int" and not (is_number and isinstance(value, int) and value >= least):
        raise ValueError(f"{name} is {value!r}, not a whole number from {least}")
    return value


def read_json(file: Path) -> Mapping[str, Any]:
    """A JSON object of a model folder. Raises CheckpointError for a file that is missing or is none."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing", "the model folder is incomplete: install or download it again")
    try:
        words = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(words, Mapping):
        raise CheckpointError(f"{file} cannot be read: it holds no object")
    return words
