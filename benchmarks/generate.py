"""How fast a sentence becomes a video, beside diffusers on the same folder: a table, and one JSON line at the end.

    python benchmarks/generate.py [--preset world] [--repeats 5] [--num-steps N] [--no-peer]

Medians. Both sides get the same folder, prompt, noise, steps, guidance and text length (512), and are timed from the
prompt to the frames, warm, turn about. diffusers runs in float32, its default, and in bfloat16; the faster counts. Our
dtype is the one that `sorano generate` chooses. The frames of both are compared in float32.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import sorano
from sorano import pipeline
from sorano.conditions import start_state
from sorano.pipeline import Model
from sorano.plan import ModelConfigs
from sorano.presets import find_preset
from sorano.request import Request
from sorano.resolve import Job, resolve

PROMPT = "a red ball bounces on the grass at sunset"
SEED = 0
PEAK_SIZE = 2048  # rows of the matrices that the machine's peak is measured with

path = importlib.import_module("sorano.engine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="world")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--no-peer", action="store_true", help="leave diffusers out")
    args = parser.parse_args()

    preset = find_preset(args.preset)
    configs = ModelConfigs.of_folder(preset.folder)
    request = Request(prompt=PROMPT, preset=args.preset, seed=SEED, num_steps=args.num_steps, upscale=1, device="cpu")
    job = resolve(request, preset, configs)
    rows: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    }
    rows["request"] = f"{job.shape.size}, {job.shape.num_frames} frames, {job.request.num_steps} steps, {preset.name}"
    rows |= start_up(args.repeats, args.preset)
    rows |= warm(job, args.repeats, with_peer=not args.no_peer)
    rows |= shares_of_peak(job, configs, args.repeats)

    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    print(json.dumps(rows))


def start_up(repeats: int, preset: str) -> dict[str, Any]:
    """Seconds from the shell: help, imports, and a whole cold run to the finished file."""
    python = [sys.executable, "-c"]
    everything = "import sorano.conditions, sorano.device, sorano.models.checkpoint, sorano.sampling.denoise, av"
    with tempfile.TemporaryDirectory() as folder:
        words = ["generate", PROMPT, "--preset", os.path.abspath(preset) if os.path.isdir(preset) else preset]
        words += ["--seed", str(SEED), "--device", "cpu", "-o", f"{folder}/cold.mp4", "--overwrite", "--quiet"]
        command = [sys.executable, "-m", "sorano"]
        return {
            "sorano --help, s": shell_seconds([*command, "--help"], repeats),
            "import sorano, s": shell_seconds([*python, "import sorano"], repeats),
            "all imports of a run, s": shell_seconds([*python, everything], repeats),
            "sorano generate, cold, shell to file, s": shell_seconds([*command, *words], min(3, repeats)),
        }


def warm(job: Job, repeats: int, *, with_peer: bool) -> dict[str, Any]:
    """Seconds from the prompt to the frames with everything loaded, ours and theirs turn about."""
    model = path.load(job.preset, "cpu")
    runs: dict[str, Callable[[], Any]] = {f"ours, {model.machine.dtype}, s": lambda: ours(model, job)}
    exact = replace(model.machine, dtype="float32")
    if model.machine.dtype != "float32":
        in_float32 = Model(model.preset, exact, _reload(job, "float32"))
        runs["ours, float32, s"] = lambda: ours(in_float32, job)
    if with_peer:
        vae = job.preset.read_configs().vae
        noise = start_state([job.request.seed or 0], vae.z_dim, vae.geometry.latent(job.shape)).noise_BCTHW
        for dtype in ("float32", "bfloat16"):
            pipeline = peer(job, dtype)
            runs[f"diffusers, {dtype}, s"] = lambda pipeline=pipeline: theirs(pipeline, job, noise)  # type: ignore[misc]
    last, seconds = take_turns(runs, repeats)
    of_ours = seconds[f"ours, {model.machine.dtype}, s"]  # the one that a user gets
    rows: dict[str, Any] = dict(seconds)
    rows["seconds of video per second, warm"] = job.shape.num_frames / job.fps / of_ours
    if with_peer:
        of_theirs = min(value for name, value in seconds.items() if name.startswith("diffusers"))
        rows["times faster than diffusers in its best dtype"] = of_theirs / of_ours
        rows["times faster than diffusers in float32"] = seconds["diffusers, float32, s"] / of_ours
        mine = {name: frames for name, frames in last.items() if name.startswith("ours")}
        reference = last["diffusers, float32, s"]
        for name, frames in mine.items():
            difference = np.abs(frames.astype(float) - reference)
            what = name.removesuffix(", s")
            rows[f"{what}, against diffusers' float32: mean difference of 255"] = float(difference.mean())
            rows[f"{what}, against diffusers' float32: largest difference of 255"] = float(difference.max())
        theirs_half = np.abs(last["diffusers, bfloat16, s"].astype(float) - reference)
        rows["diffusers, bfloat16, against its float32: mean difference of 255"] = float(theirs_half.mean())
    return rows


def shares_of_peak(job: Job, configs: ModelConfigs, repeats: int) -> dict[str, Any]:
    """The machine's matrix products, and the share of their rate that denoising and decoding reach, alone and by 8."""
    model = path.load(job.preset, "cpu")
    dtype = getattr(torch, model.machine.dtype)
    matrix = torch.randn(PEAK_SIZE, PEAK_SIZE, dtype=dtype)
    peak = 2 * PEAK_SIZE**3 / min(timed(lambda: matrix @ matrix, repeats + 1))
    rows: dict[str, Any] = {f"peak of matrix products, {model.machine.dtype}, GFLOP/s": peak / 1e9}
    latent = configs.vae.geometry.latent(job.shape)
    listener = sorano.Listener()
    text = pipeline.encode_text(model, job)
    tokens = int(text.text_BSD.shape[1])
    num_steps = job.request.num_steps or 1
    for batch in (1, 8):
        state = start_state(range(batch), configs.vae.z_dim, latent)
        denoise_seconds = statistics.median(timed(lambda: pipeline.denoise(model, job, text, state, listener), repeats))  # noqa: B023
        made = pipeline.denoise(model, job, text, state, listener).to(dtype)
        with torch.inference_mode():
            decode_seconds = statistics.median(timed(lambda: model.bundle.vae.decode(made), repeats))  # noqa: B023
        denoise_flops = num_steps * configs.transformer.flops(latent, batch=2 * batch, text_tokens=tokens)
        decode_flops = configs.vae.decode_flops(job.shape, batch=batch)
        name = f"batch of {batch}: "
        rows[name + "denoising, s"] = denoise_seconds
        rows[name + "decoding, s"] = decode_seconds
        rows[name + "share of peak, denoising"] = denoise_flops / denoise_seconds / peak
        rows[name + "share of peak, decoding"] = decode_flops / decode_seconds / peak
        video_seconds = batch * job.shape.num_frames / job.fps
        rows[name + "seconds of video per second"] = video_seconds / (denoise_seconds + decode_seconds)
    return rows


def ours(model: Model, job: Job) -> np.ndarray:
    """Frames of the job: the steps of `sorano.generate` from text to frames."""
    listener = sorano.Listener()
    text = pipeline.encode_text(model, job)
    state = pipeline.start(model, job, listener)
    return np.concatenate(list(pipeline.decode(model, pipeline.denoise(model, job, text, state, listener), listener)))


def peer(job: Job, dtype: str) -> Any:
    """diffusers' stock pipeline on the same folder."""
    warnings.filterwarnings("ignore")
    from diffusers import WanPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipeline = WanPipeline.from_pretrained(job.preset.folder, torch_dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs(pipeline: Any, job: Job, noise_BCTHW: torch.Tensor) -> np.ndarray:
    """Frames of the job as the stock pipeline makes them from the same noise."""
    made = pipeline(
        prompt=job.request.prompt,
        negative_prompt=job.request.negative_prompt,
        height=job.shape.height,
        width=job.shape.width,
        num_frames=job.shape.num_frames,
        num_inference_steps=job.request.num_steps,
        guidance_scale=job.request.guidance,
        latents=noise_BCTHW,
        max_sequence_length=512,
        output_type="np",
    )
    return (np.asarray(made.frames[0]) * 255).round().astype(np.uint8)


def take_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The last result and the median seconds of each, after one round that does not count."""
    last: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            last[name] = run()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return last, {name: statistics.median(values) for name, values in seconds.items()}


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of `repeats` runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def shell_seconds(command: list[str], repeats: int) -> float:
    """Median seconds of a command, from its start to its end."""
    return statistics.median(
        timed(lambda: subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL), repeats)
    )


def _reload(job: Job, dtype: str) -> Any:
    from sorano.models import checkpoint

    return checkpoint.load(job.preset.folder, dtype=getattr(torch, dtype))


if __name__ == "__main__":
    main()
