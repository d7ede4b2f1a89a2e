"""The latent of a run that took long, kept beside the output until that is written; `sorano resume` finishes from it.

NAME.latent.safetensors holds the latent and the request with nothing left open, the prompt too; only its owner can read
it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError, RequestError
from sorano.request import Request

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".latent.safetensors"
RESUME_SECONDS = 10.0  # of denoising that are worth a file, should decoding fail


@contextmanager
def kept_until_written(request: Request, latent_BCTHW: Tensor, seconds: float) -> Iterator[None]:
    """Keeps a latent that took long beside the output until that is written, for `sorano resume` should it fail."""
    if request.output is None or seconds < RESUME_SECONDS:
        yield
        return
    try:
        file = write_latent(request, latent_BCTHW)
    except RequestError:  # it holds pictures or videos that are no files
        yield
        return
    try:
        yield
    except BaseException as error:
        error.add_note(f"the latent is kept: sorano resume {file}")
        raise
    file.unlink()


def write_latent(request: Request, latent_BCTHW: Tensor) -> Path:
    """Keeps a latent and its request beside the request's output, readable by the owner only; returns the path."""
    from safetensors.torch import save

    assert request.output is not None
    output = Path(request.output)
    file = output.with_name(output.stem + SUFFIX)
    words = request.to_json()
    content = save({"latent": latent_BCTHW.float().cpu().contiguous()}, metadata={"request": json.dumps(words)})
    write_private(file, content)
    return file


def write_private(file: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, all or nothing, and on the disk when it returns."""
    temporary = file.with_name(file.name + ".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)


def read_latent(file: Path) -> tuple[Request, Tensor]:
    """The request and the latent of a kept file. Raises CheckpointError for anything else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            words: dict[str, Any] = json.loads((opened.metadata() or {})["request"])
            latent: Tensor = opened.get_tensor("latent")
        return Request(**words), latent
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {file}") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is not a latent that a run kept: {error}") from error
