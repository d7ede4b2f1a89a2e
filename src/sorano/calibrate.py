"""`sorano plan calibrate`: measures how fast this machine does what a plan adds up, and keeps it as its profile.

The embedded model makes a few videos of different size and number of steps, and each stage is timed. What a stage
takes is FLOPs over (matrix rate x share) and so much for each layer; the shares and the cost of a layer are what fits
best. Then `sorano generate` and `sorano plan generate` on this machine predict from it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sorano.generate import generate
from sorano.plan.generate import TEXT_TOKENS
from sorano.plan.machine import Machine, Profile, profile_file
from sorano.presets import find_preset
from sorano.request import Request
from sorano.shapes import VideoShape, nearest_num_frames

# videos that are made: from hardly any work a layer to the largest that the model knows
PROBES = (("32x32", 4, 0.4), ("64x64", 6, 1.42), ("128x128", 4, 1.42), ("128x128", 4, 2.08))
PROMPT = "a red ball bounces on the grass at sunset"


@dataclass(frozen=True)
class Timed:
    """What a probe took, stage by stage, and what a plan counts of it."""

    shape: VideoShape
    num_steps: int
    attention: int  # FLOPs of all passes
    linear: int
    layers: int  # passed, all steps
    decode: int
    pixels: int  # written
    seconds: dict[str, float]


def calibrate(device: str = "auto", *, say: Callable[[str], None] = lambda text: None, repeats: int = 5) -> Profile:
    """Measures, keeps and returns the profile of a device. Takes about half a minute on two cores."""
    from sorano.device import choose_machine

    profile_before = choose_machine(device)
    machine = replace(profile_before, measured=None)
    timed = []
    for size, num_steps, seconds in PROBES:
        say(f"{size}, {num_steps} steps, {seconds:g} s ...")
        timed.append(_probe(machine, size, num_steps, seconds, repeats))
    profile = fit(machine, timed)
    profile.write(profile_file(machine.device, machine.dtype))
    return profile


def fit(machine: Machine, timed: list[Timed]) -> Profile:
    """The profile that explains the timings best: relative least squares, nothing below what physics allows."""
    import numpy as np

    rate = machine.flops_per_second
    usual = machine.profile
    # denoise = FLOPs / (rate x share) + layers x c; attention is a small part of these probes: one share for both
    rows = np.array([[(t.attention + t.linear) / rate, t.layers] for t in timed])
    took = np.array([t.seconds["denoise"] for t in timed])
    work, each = _non_negative(rows / took[:, None])
    decode_rows = np.array([[t.decode / rate, 1.0] for t in timed])
    decode_took = np.array([t.seconds["decode"] for t in timed])
    decode, _ = _non_negative(decode_rows / decode_took[:, None])
    written = statistics.median(t.pixels / max(1e-9, t.seconds["write"]) for t in timed)
    return replace(
        usual,
        name=f"{machine.device}, {machine.dtype}, measured {time.strftime('%Y-%m-%d')}",
        attention=_share(work, usual.attention),
        linear=_share(work, usual.linear),
        decode=_share(decode, usual.decode),
        seconds_per_layer=float(max(1e-6, each)),
        write_pixels_per_second=float(written),
        load_seconds=max(t.seconds["load"] for t in timed),  # the first one; later ones find it loaded
        flops_per_second=rate,
    )


def _share(inverse: float, usual: float) -> float:
    return float(min(1.0, max(0.01, 1 / inverse))) if inverse > 0 else usual


def _non_negative(rows: object) -> tuple[float, float]:
    """Two coefficients of at least nothing that bring every row as near to one as can be (least squares)."""
    import numpy as np

    matrix = np.asarray(rows, dtype=float)
    ones = np.ones(len(matrix))
    found = np.linalg.lstsq(matrix, ones, rcond=None)[0]
    if found[0] > 0 and found[1] >= 0:
        return float(found[0]), float(found[1])
    column = 0 if found[1] < 0 else 1
    alone = float(matrix[:, column] @ ones / (matrix[:, column] @ matrix[:, column]))
    return (alone, 0.0) if column == 0 else (0.0, alone)


def _probe(machine: Machine, size: str, num_steps: int, seconds: float, repeats: int) -> Timed:
    preset = find_preset("world")
    configs = preset.read_configs()
    width, height = (int(part) for part in size.split("x"))
    shape = VideoShape(nearest_num_frames(seconds, preset.fps), height, width)
    latent = shape.latent(spatial=configs.vae.scale_factor_spatial, temporal=configs.vae.scale_factor_temporal)
    parts = configs.transformer.flops_by_part(latent, batch=2, text_tokens=TEXT_TOKENS)
    attention = num_steps * parts.pop("attention")
    measured: list[dict[str, float]] = []
    first_load = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            request = Request(
                prompt=PROMPT, size=size, seconds=seconds, num_steps=num_steps, seed=turn, device=machine.device,
                upscale="none",
            )  # fmt: skip
            video = generate(request)
            stages = dict(video.record["measured"]["stages"])
            began = time.perf_counter()
            video.save(Path(folder) / f"{turn}.mp4")
            stages["write"] = time.perf_counter() - began
            if turn:
                measured.append(stages)
            else:
                first_load = stages["load"]
    stages = {name: statistics.median(one[name] for one in measured) for name in ("text", "denoise", "decode", "write")}
    stages["load"] = first_load
    return Timed(
        shape, num_steps, attention, num_steps * sum(parts.values()), num_steps * configs.transformer.num_layers,
        configs.vae.decode_flops(shape), shape.num_frames * height * width, stages,
    )  # fmt: skip
