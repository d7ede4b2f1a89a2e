"""Finishing a run that failed, or was killed, after denoising: the kept latent becomes the file that was asked for.

`generate` keeps a latent that took long as NAME.latent.safetensors beside the output until the output is written. The
file holds the request with nothing left open, the prompt too, and only its owner can read it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError, RequestError
from sorano.generate import (
    Clock,
    Listener,
    Video,
    check_outputs,
    choose_machine,
    finish,
    load,
    located,
    plan,
    within,
)
from sorano.presets import find_preset
from sorano.request import Request, resolve

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".latent.safetensors"


def write_latent(request: Request, latent_BCTHW: Tensor) -> Path:
    """Keeps a latent and its request beside the request's output, readable by the owner only; returns the path."""
    from safetensors.torch import save

    assert request.output is not None
    output = Path(request.output)
    file = output.with_name(output.stem + SUFFIX)
    words = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(request).items()}
    content = save({"latent": latent_BCTHW.float().cpu().contiguous()}, metadata={"request": json.dumps(words)})
    temporary = file.with_name(file.name + ".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    os.replace(temporary, file)
    return file


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


def resume(file: str | Path, *, listener: Listener | None = None) -> Video:
    """Decodes the kept latent, writes the file that its run was asked for, and removes the latent."""
    file, listener, clock = Path(file), listener or Listener(), Clock()
    request, latent_BCTHW = read_latent(file)
    check_outputs(request)
    preset = located(find_preset(request.preset))
    configs = preset.read_configs()
    job = resolve(request, preset, configs)
    with clock("probe"):
        machine = within(choose_machine(request.device), request.memory)
    estimate = plan(job, configs, machine)
    listener.planned(job, machine, estimate)
    with clock("load"):
        model = load(preset, machine, estimate.placement)
    video = finish(job, model, estimate, latent_BCTHW, clock, listener)
    file.unlink()
    return video
