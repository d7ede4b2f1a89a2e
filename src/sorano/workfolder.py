"""The work folder of a run: NAME.mp4.parts/, with all that is finished, for `sorano resume`.

`state.safetensors` holds the tensors that the rest depends on (latents, the decoder's cache, the last frames) and the
request with nothing left open, the prompt too; only its owner can read it. Versions before 0.2 kept the latent of a
clip in NAME.latent.safetensors: that is still read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sorano.errors import CheckpointError, RequestError

PARTS = ".parts"
STATE = "state.safetensors"
OLD_SUFFIX = ".latent.safetensors"


def parts_of(output: Path) -> Path:
    """The work folder of an output."""
    return output.with_name(output.name + PARTS)


def write_state(folder: Path, words: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Keeps words and tensors in a file that only its owner can read, all or nothing."""
    from safetensors.torch import save

    content = save({name: value.cpu().contiguous() for name, value in tensors.items()}, {"film": json.dumps(words)})
    folder.mkdir(mode=0o700, exist_ok=True)
    write_private(folder / STATE, content)


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was kept of a run. Raises CheckpointError where there is nothing, or nothing whole."""
    from safetensors import SafetensorError, safe_open

    file = folder / STATE
    try:
        with safe_open(file, framework="pt") as opened:
            words: dict[str, Any] = json.loads((opened.metadata() or {})["film"])
            return words, {name: opened.get_tensor(name) for name in opened.keys()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} holds no finished stretch yet", f"remove {folder} and begin again") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is not what a run keeps: {error}", f"remove {folder} and begin again") from error


def read_old_latent(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of a latent that a version before 0.2 kept. Raises CheckpointError for anything else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            request: dict[str, Any] = json.loads((opened.metadata() or {})["request"])
            latent = opened.get_tensor("latent")
        return {"request": request, "overwrite": request.get("overwrite", False)}, {"pending": latent}
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {file}") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is not a latent that a run kept: {error}") from error


def write_private(file: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, all or nothing, and on the disk when it returns."""
    temporary = file.with_name(file.name + ".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
