"""`sorano plan calibrate`: measures how fast this machine does what a plan adds up, and keeps it as its profile.

The embedded model makes a few videos of different size and number of steps, and each stage is timed. What a stage
takes is FLOPs over (matrix rate x share) and so much for each layer; the shares and the cost of a layer are what fits
best. The first pass of a process takes longer, and that is a cost of its own. Then `sorano generate` and
`sorano plan generate` on this machine predict from it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sorano import threads
from sorano.engine import generate
from sorano.errors import RequestError
from sorano.plan.generate import TEXT_TOKENS
from sorano.plan.machine import Machine, Profile, profile_file
from sorano.presets import find_preset
from sorano.request import Request
from sorano.shapes import VideoShape

# videos that are made: of few steps and of many, so that what a run, a step and a FLOP cost can be told apart
PROBES = (
    ("32x32", 2, 0.4), ("32x32", 40, 1.42), ("64x64", 32, 1.42), ("96x96", 16, 2.08), ("128x128", 2, 1.42),
    ("128x128", 16, 1.42),
)  # fmt: skip
LOOK_SECONDS = 1.0  # at the cores, for other processes
STAGES = ("text", "denoise", "decode", "write")
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
    seconds: dict[str, float]  # medians of passes that were not the first
    first: dict[str, float]  # of the first pass, which also loads


def calibrate(device: str = "auto", *, say: Callable[[str], None] = lambda text: None, repeats: int = 5) -> Profile:
    """Measures, keeps and returns the profile of a device. Takes about half a minute on two cores.

    Raises RequestError on a machine that is busy with other things.
    """
    from sorano.device import choose_machine

    require_quiet()
    machine = replace(choose_machine(device), measured=None)
    turns: list[list[dict[str, float]]] = [[] for _ in PROBES]
    for turn in range(repeats + 1):  # turn about: a slow moment of the machine is not one probe's alone
        for probe, seen in zip(PROBES, turns, strict=True):
            say(f"{turn + 1} of {repeats + 1}: {probe[0]}, {probe[1]} steps, {probe[2]:g} s ...")
            seen.append(_seconds(machine, *probe, seed=turn))
    timed = [_timed(probe, seen) for probe, seen in zip(PROBES, turns, strict=True)]
    profile = fit(machine, timed)
    profile.write(profile_file(machine.device, machine.dtype))
    return profile


def require_quiet() -> None:
    """Raises RequestError on a machine whose cores other processes use: what is measured then is wrong later."""
    before = threads.Use.now()
    time.sleep(LOOK_SECONDS)
    cores = threads.allowed_cores()
    free = threads.free_cores(before, threads.Use.now(), cores)
    if free < cores:
        raise RequestError(
            f"other processes keep {cores - free} of {cores} cores busy: timings would be theirs too",
            "calibrate when the machine is quiet",
        )


def fit(machine: Machine, timed: list[Timed]) -> Profile:
    """The profile that explains the timings best: relative least squares, nothing below what physics allows."""
    rate = machine.flops_per_second
    usual = machine.profile
    causes = [(t.attention / rate, t.linear / rate, t.layers, 1.0) for t in timed]
    attention, linear, each, begun = _explained(causes, timed, "denoise")
    if attention == 0 or linear == 0:  # too alike in these timings to be told apart: one share for both
        together = [(a + b, c, d) for a, b, c, d in causes]
        attention, each, begun = _explained(together, timed, "denoise")
        linear = attention
    decode, _ = _explained([(t.decode / rate, 1.0) for t in timed], timed, "decode")
    clear = [t for t in timed if t.shape.height > 32]  # the mark of smaller ones takes a longer look when read back
    pixel, seal = _explained([(t.pixels, 1.0) for t in clear], clear, "write")
    cold = timed[0]  # the first pass of the process
    return replace(
        usual,
        name=f"{machine.device}, {machine.dtype}, measured {time.strftime('%Y-%m-%d')}",
        attention=_share(attention, usual.attention),
        linear=_share(linear, usual.linear),
        decode=_share(decode, usual.decode),
        seconds_per_layer=max(1e-6, each),
        start_seconds=begun
        + sum(max(0.0, cold.first[stage] - cold.seconds[stage]) for stage in ("text", "denoise", "decode")),
        write_pixels_per_second=1 / pixel if pixel > 0 else usual.write_pixels_per_second,
        seal_seconds=seal,
        load_seconds=cold.first["load"],
        flops_per_second=rate,
    )


def _explained(causes: Sequence[tuple[float, ...]], timed: list[Timed], stage: str) -> list[float]:
    """What one of each cause costs, at least nothing: what brings every timing of a stage as near as can be, in
    proportion (least squares; causes that would cost less than nothing are left out)."""
    import numpy as np

    rows = np.array(causes) / np.array([[one.seconds[stage]] for one in timed])
    costs, left = np.zeros(rows.shape[1]), list(range(rows.shape[1]))
    while left:
        found = np.linalg.lstsq(rows[:, left], np.ones(len(rows)), rcond=None)[0]
        if found.min() >= 0:
            costs[left] = found
            break
        left.pop(int(found.argmin()))
    return [float(cost) for cost in costs]


def _share(inverse: float, usual: float) -> float:
    return float(min(1.0, max(0.01, 1 / inverse))) if inverse > 0 else usual


def _seconds(machine: Machine, size: str, num_steps: int, seconds: float, seed: int) -> dict[str, float]:
    """Makes one video; what each stage took."""
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            prompt=PROMPT, size=size, seconds=seconds, num_steps=num_steps, seed=seed, device=machine.device,
            upscale="none",
        )  # fmt: skip
        video = generate(request)
        began = time.perf_counter()
        video.save(Path(folder) / "probe.mp4")
        return {**video.record["measured"]["stages"], "write": time.perf_counter() - began}


def _timed(probe: tuple[str, int, float], turns: list[dict[str, float]]) -> Timed:
    """Medians of a probe's turns, beside what a plan counts of it."""
    size, num_steps, seconds = probe
    preset = find_preset("world")
    configs = preset.read_configs()
    width, height = (int(part) for part in size.split("x"))
    shape = VideoShape(configs.geometry.nearest_num_frames(seconds, preset.fps), height, width)
    latent = configs.vae.geometry.latent(shape)
    parts = configs.transformer.flops_by_part(latent, batch=2, text_tokens=TEXT_TOKENS)
    medians = {name: statistics.median(one[name] for one in turns[1:]) for name in STAGES}
    return Timed(
        shape=shape,
        num_steps=num_steps,
        attention=num_steps * parts.pop("attention"),
        linear=num_steps * sum(parts.values()),
        layers=num_steps * configs.transformer.num_layers,
        decode=configs.vae.decode_flops(shape),
        pixels=shape.num_frames * height * width,
        seconds=medians,
        first=turns[0],
    )
