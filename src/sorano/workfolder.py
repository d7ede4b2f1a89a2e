"""What is kept of a run, for `sorano resume`: NAME.mp4.parts/, beside the output unless told.

`state.safetensors` holds the tensors that the rest depends on (latents, the decoder's cache, the last frames) and the
request with nothing left open, the prompt too; only its owner can read it. Versions before 0.2 kept the latent of a
clip in NAME.latent.safetensors: that is still read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sorano.errors import CheckpointError, RequestError
from sorano.files import write_atomic
from sorano.video import VIDEO_SUFFIXES

PARTS = ".parts"
MOST_BYTES, KEPT_BYTES = 255, 200  # of a file's name: what most disks take, and what is kept of a longer one
STATE = "state.safetensors"
OLD_SUFFIX = ".latent.safetensors"


def parts_of(output: Path, inside: Path | None = None) -> Path:
    """Where what is finished of an output is kept: beside it, or `inside` another folder.

    Of a name that leaves no room for the suffix, the beginning and a digest stand for it.
    """
    name, whole = output.name, os.fsencode(output.name)
    if len(whole) > MOST_BYTES - len(PARTS):
        name = f"{whole[:KEPT_BYTES].decode(errors='ignore')}-{hashlib.sha256(whole).hexdigest()[:16]}"
    return (inside or output.parent) / (name + PARTS)


def write_state(folder: Path, words: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Keeps words and tensors in a file that only its owner can read, all or nothing."""
    from safetensors.torch import save

    content = save({name: value.cpu().contiguous() for name, value in tensors.items()}, {"film": json.dumps(words)})
    folder.mkdir(mode=0o700, exist_ok=True, parents=True)
    write_atomic(folder / STATE, content, private=True, durable=True)


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was kept of a run. Raises CheckpointError where there is nothing, or nothing whole."""
    from safetensors import SafetensorError, safe_open

    file = folder / STATE
    try:
        with safe_open(file, framework="pt") as opened:
            words: dict[str, Any] = json.loads((opened.metadata() or {})["film"])
            return words, {name: opened.get_tensor(name) for name in opened.keys()}
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} holds nothing that is finished yet", f"remove {folder} and begin again"
        ) from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is not what a run keeps: {error}", f"remove {folder} and begin again") from error


def read_old_latent(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of a latent that a version before 0.2 kept. Raises CheckpointError for anything else."""
    from safetensors import SafetensorError, safe_open

    if file.is_dir() or file.suffix.lower() in VIDEO_SUFFIXES and file.is_file():
        raise RequestError(
            f"there is nothing to go on with for {file}: no {parts_of(file).name} is beside it",
            "a finished file is made anew by sorano remix",
        )
    try:
        with safe_open(file, framework="pt") as opened:
            request: dict[str, Any] = json.loads((opened.metadata() or {})["request"])
            latent = opened.get_tensor("latent")
        return {"request": request, "overwrite": request.get("overwrite", False)}, {"pending": latent}
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {file}") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is not a latent that a run kept: {error}") from error
